// The table of a comparison: one row a setting, mean and spread over seeds, with what a paper published beside it.
import type { ResultRow } from "./results.ts";
import { boundsText, fewImages, percent } from "./results.ts";
import type { Column } from "./table.ts";
import { csvLines } from "./table.ts";

export interface ComparedRun {
  /** The setting without the seed, by name. */
  readonly setting: Readonly<Record<string, string>>;
  readonly seed: number;
  readonly row?: ResultRow;
  /** The student on further data sets, by the names of these evaluations. */
  readonly evaluations?: Readonly<Record<string, ResultRow>>;
  readonly trainingSeconds?: number;
  /** Why there is no result. */
  readonly failure?: string;
}

export interface PublishedFigure {
  readonly where: Readonly<Record<string, string>>;
  /** The evaluation that it belongs to; the run's own where left out. */
  readonly on?: string;
  readonly metric: string;
  readonly value: number;
}

export interface Metric {
  readonly name: string;
  readonly title: string;
  readonly digits: number;
  readonly of: (run: ComparedRun) => number | undefined;
  /** The 95 % interval of a run's figure over its evaluation images, in the same unit. */
  readonly interval?: (run: ComparedRun) => Bounds | undefined;
}

type Bounds = readonly [number, number];
const percents = (bounds: Bounds | undefined): Bounds | undefined => bounds && [100 * bounds[0], 100 * bounds[1]];

export const metrics: readonly Metric[] = [
  {
    name: "knn",
    title: "k-NN %",
    digits: 1,
    of: ({ row }) => percent(row?.knn?.top1),
    interval: ({ row }) => percents(row?.knn?.interval),
  },
  {
    name: "probe",
    title: "probe %",
    digits: 1,
    of: ({ row }) => percent(row?.probe?.top1),
    interval: ({ row }) => percents(row?.probe?.interval),
  },
  { name: "probeBest", title: "probe, best epoch %", digits: 1, of: ({ row }) => percent(row?.probeBest?.top1) },
  {
    name: "head",
    title: "classifier %",
    digits: 1,
    of: ({ row }) => percent(row?.head?.top1),
    interval: ({ row }) => percents(row?.head?.interval),
  },
  {
    name: "agreement",
    title: "agreement %",
    digits: 1,
    of: ({ row }) => percent(row?.fidelity?.agreement),
    interval: ({ row }) => percents(row?.fidelity?.intervals?.agreement),
  },
  {
    name: "knnAuroc",
    title: "k-NN AUROC %",
    digits: 1,
    of: ({ row }) => percent(row?.auroc?.knn?.mean),
    interval: ({ row }) => percents(row?.auroc?.knn?.interval),
  },
  {
    name: "probeAuroc",
    title: "probe AUROC %",
    digits: 1,
    of: ({ row }) => percent(row?.auroc?.probe?.mean),
    interval: ({ row }) => percents(row?.auroc?.probe?.interval),
  },
  {
    name: "probeBestAuroc",
    title: "probe, best epoch AUROC %",
    digits: 1,
    of: ({ row }) => percent(row?.probeBest?.auroc),
  },
  {
    name: "difference",
    title: "difference",
    digits: 3,
    of: ({ row }) => row?.fidelity?.meanAbsoluteDifference,
    interval: ({ row }) => row?.fidelity?.intervals?.meanAbsoluteDifference,
  },
  {
    name: "cosine",
    title: "cosine",
    digits: 3,
    of: ({ row }) => row?.fidelity?.cosine,
    interval: ({ row }) => row?.fidelity?.intervals?.cosine,
  },
  { name: "parameters", title: "M params", digits: 1, of: ({ row }) => row?.parameters && row.parameters / 1e6 },
  { name: "milliseconds", title: "ms/image", digits: 1, of: ({ row }) => row?.millisecondsPerImage },
  { name: "seconds", title: "training s", digits: 0, of: ({ trainingSeconds }) => trainingSeconds },
];

/** A metric of a paper's figures by its name of today. */
export const currentMetric = (name: unknown): unknown =>
  name === "neighbours" ? "knn" : name === "neighboursAuroc" ? "knnAuroc" : name;

/** Metrics that say how good a student is on a data set, in the order of `metrics`; the others say what it costs. */
const costs = ["parameters", "milliseconds", "seconds"];

/** A metric of one evaluation; `name` is the column's key. */
export interface ComparedMetric extends Metric {
  readonly on?: string;
  readonly metric: string;
  /** Evaluation images of a run. */
  images(run: ComparedRun): number | undefined;
}

/** The metrics of the runs' own evaluation and of each further one, then what students cost. */
export function comparedMetrics(evaluations: Iterable<string>): ComparedMetric[] {
  const plain = metrics.map((metric): ComparedMetric => ({
    ...metric,
    metric: metric.name,
    images: ({ row }) => row?.images,
  }));
  const quality = plain.filter(({ name }) => !costs.includes(name));
  const further = [...new Set(evaluations)].flatMap((on) =>
    quality.map((metric): ComparedMetric => ({
      ...metric,
      on,
      name: `${on}_${metric.name}`,
      title: `${on}: ${metric.title}`,
      of: (run) => metric.of({ ...run, row: run.evaluations?.[on] }),
      interval: (run) => metric.interval?.({ ...run, row: run.evaluations?.[on] }),
      images: (run) => run.evaluations?.[on]?.images,
    })),
  );
  return [...quality, ...further, ...plain.filter(({ name }) => costs.includes(name))];
}

export interface Summary {
  readonly setting: Readonly<Record<string, string>>;
  readonly runs: number;
  readonly failures: readonly string[];
  /** Mean and standard deviation over seeds (undefined for one), by metric. */
  readonly figures: Readonly<Record<string, SummaryFigure>>;
  /** Names of the further evaluations. */
  readonly evaluations: readonly string[];
}

export interface SummaryFigure {
  readonly mean: number;
  readonly deviation?: number;
  readonly published?: number;
  /** The 95 % interval of one run over its evaluation images, where these are few: the mean over seeds of both ends. */
  readonly interval?: Bounds;
}

/** The mean of both ends over runs, where all have an interval and too few images to go without. */
function fewInterval(group: readonly ComparedRun[], { of, interval, images }: ComparedMetric): Bounds | undefined {
  const measured = group.filter((run) => of(run) !== undefined);
  if (!measured.some((run) => (images(run) ?? fewImages) < fewImages)) return undefined;
  const bounds = measured.map((run) => interval?.(run));
  if (bounds.some((one) => one === undefined)) return undefined;
  const intervals = bounds.flatMap((one) => (one ? [one] : []));
  const meanOf = (end: 0 | 1) => intervals.reduce((sum, one) => sum + one[end], 0) / intervals.length;
  return [meanOf(0), meanOf(1)];
}

const keyOf = (setting: Readonly<Record<string, string>>) => JSON.stringify(setting);

/** Runs gathered by setting, in the order of their first. */
export function summarize(runs: readonly ComparedRun[], published: readonly PublishedFigure[] = []): Summary[] {
  const evaluationsOf = (some: readonly ComparedRun[]) => [
    ...new Set(some.flatMap(({ evaluations }) => Object.keys(evaluations ?? {}))),
  ];
  const compared = comparedMetrics(evaluationsOf(runs));
  const groups = new Map<string, ComparedRun[]>();
  for (const run of runs) groups.set(keyOf(run.setting), [...(groups.get(keyOf(run.setting)) ?? []), run]);
  return [...groups.values()].map((group) => {
    const { setting } = group[0];
    const figures: Record<string, SummaryFigure> = {};
    for (const metric of compared) {
      const values = group.map(metric.of).filter((v) => v !== undefined);
      if (values.length === 0) continue;
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const square = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
      const theirs = published.find(
        (p) =>
          p.metric === metric.metric &&
          p.on === metric.on &&
          Object.entries(p.where).every(([k, v]) => setting[k] === v),
      );
      const interval = fewInterval(group, metric);
      figures[metric.name] = {
        mean,
        ...(interval ? { interval } : {}),
        ...(values.length > 1 ? { deviation: Math.sqrt(square / (values.length - 1)) } : {}),
        ...(theirs ? { published: theirs.value } : {}),
      };
    }
    return {
      setting,
      runs: group.filter(({ row, evaluations }) => row ?? evaluations).length,
      failures: group.flatMap(({ failure }) => (failure === undefined ? [] : [failure])),
      figures,
      evaluations: evaluationsOf(group),
    };
  });
}

const columnsOf = (summaries: readonly Summary[]): ComparedMetric[] =>
  comparedMetrics(summaries.flatMap(({ evaluations }) => evaluations)).filter(({ name }) =>
    summaries.some(({ figures }) => figures[name]),
  );

/** Columns and rows as text; behind its mean stand a deviation, an interval where images are few, and a published figure. */
export function comparisonTable(summaries: readonly Summary[]): { columns: Column[]; rows: string[][] } {
  const keys = [...new Set(summaries.flatMap(({ setting }) => Object.keys(setting)))];
  const used = columnsOf(summaries);
  return {
    columns: [
      ...keys.map((title): Column => ({ title, align: "left" })),
      ...used.map(({ title }) => ({ title })),
      { title: "runs" },
    ],
    rows: summaries.map(({ setting, figures, runs, failures }) => [
      ...keys.map((key) => setting[key] ?? "-"),
      ...used.map(({ name, digits }) => {
        const figure = figures[name];
        if (!figure) return "-";
        const deviation = figure.deviation === undefined ? "" : ` ± ${figure.deviation.toFixed(digits)}`;
        const published = figure.published === undefined ? "" : ` (paper ${figure.published.toFixed(digits)})`;
        const bounds = boundsText(figure.interval, digits === 1 ? 0 : digits);
        return `${figure.mean.toFixed(digits)}${deviation}${bounds}${published}`;
      }),
      failures.length > 0 ? `${runs}, ${failures.length} failed` : String(runs),
    ]),
  };
}

/** Comma-separated values, one row a setting, with deviations and intervals in columns of their own. */
export function comparisonCsv(summaries: readonly Summary[]): string {
  const keys = [...new Set(summaries.flatMap(({ setting }) => Object.keys(setting)))];
  const used = columnsOf(summaries);
  const header = [
    ...keys,
    ...used.flatMap(({ name }) => [name, `${name}_deviation`, `${name}_published`, `${name}_low`, `${name}_high`]),
    "runs",
    "failed",
  ];
  const lines = summaries.map(({ setting, figures, runs, failures }) => [
    ...keys.map((key) => setting[key] ?? ""),
    ...used.flatMap(({ name }) => {
      const figure = figures[name];
      const [low, high] = figure?.interval ?? [];
      return [figure?.mean, figure?.deviation, figure?.published, low, high].map((v) =>
        v === undefined ? "" : String(v),
      );
    }),
    String(runs),
    String(failures.length),
  ]);
  return csvLines([header, ...lines]);
}
