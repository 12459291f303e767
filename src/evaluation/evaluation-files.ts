// What an evaluation leaves in a folder: all figures, each image, each class, and which classes are taken for which.
import { noClass } from "./metrics.ts";
import type { ScoreName } from "./evaluate-models.ts";
import type { Directory } from "../files/storage.ts";
import { csvLines } from "../report/table.ts";
import type { RunContext } from "../context/run-context.ts";
import { evaluationFormat } from "../workspace/run-schemas.ts";
import { textChunks, writeFigure } from "../workspace/output-files.ts";
import type { Evaluated } from "./evaluate-candidates.ts";

/** What a class came to under one model. */
export interface ClassFigure {
  readonly class: string;
  readonly images: number;
  /** Share of its images that are taken for it, or the area under its ROC curve; undefined where that is not defined. */
  readonly figures: Readonly<Record<string, number | undefined>>;
}

/** Each class's accuracy, or area under the ROC curve, under each model and way of telling. */
export function classFigures({ rows, images }: Evaluated, classes: readonly string[]): ClassFigure[] {
  return classes.map((name, k) => {
    const figures: Record<string, number | undefined> = {};
    let count = 0;
    for (const { name: model, auroc } of rows) {
      for (const [kind, areas] of Object.entries(auroc ?? {}))
        figures[`${model} ${scoreTitles[kind as ScoreName]}`] = areas.each[k];
      const ofClass = images[model].filter((p) => p.label === k || p.labels?.includes(k));
      count = ofClass.length;
      for (const kind of Object.keys(ofClass[0]?.predicted ?? {}) as ScoreName[])
        figures[`${model} ${scoreTitles[kind]}`] =
          ofClass.filter(({ predicted }) => predicted[kind] === k).length / ofClass.length;
    }
    return { class: name, images: count, figures };
  });
}

/** How often images of each class (rows) are taken for each (columns), by a model's way of telling. */
export function confusionOf(images: Evaluated["images"][string], kind: ScoreName, classes: number): number[][] {
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (const { label, predicted } of images) {
    const taken = predicted[kind];
    if (label !== undefined && taken !== undefined && taken !== noClass) counts[label][taken]++;
  }
  return counts;
}

/** Beyond this many classes an image of the matrix shows nothing. */
const mostDrawn = 120;

/** Writes evaluation.json, images.csv, classes.csv, confusion.csv, .svg and .png. */
export async function writeEvaluation(
  context: RunContext,
  directory: Directory,
  evaluated: Evaluated,
  classes: readonly string[] | undefined,
  facts: Readonly<Record<string, unknown>>,
): Promise<void> {
  await directory.write(
    "evaluation.json",
    textChunks(`${JSON.stringify({ ...evaluationFormat, ...facts, results: evaluated.rows }, null, 2)}\n`),
  );
  await directory.write("images.csv", textChunks(csvLines(imageRows(evaluated, classes))));
  if (!classes) return;
  await directory.write("classes.csv", textChunks(csvLines(classRows(evaluated, classes))));
  await writeConfusion(context, directory, evaluated, classes);
}

/** What columns and titles call each way of classifying. */
const scoreTitles: Readonly<Record<ScoreName, string>> = {
  knn: "k-NN",
  probe: "linear probe",
  logistic: "logistic regression",
  head: "classifier",
};

/** The ways of classifying that were tried on the models. */
const kindsOf = ({ rows, images }: Evaluated) => Object.keys(images[rows[0].name][0]?.predicted ?? {}) as ScoreName[];

/** A row for each image: its class, and what each model makes of it. */
function imageRows(evaluated: Evaluated, classes: readonly string[] | undefined): string[][] {
  const models = evaluated.rows.map(({ name }) => name);
  const named = (label: number | undefined) =>
    label === undefined || label === noClass ? "" : (classes?.[label] ?? String(label));
  const kinds = kindsOf(evaluated);
  const header = [
    "image",
    "class",
    ...models.flatMap((m) => [...kinds.map((kind) => `${m} ${scoreTitles[kind]}`), `${m} difference`, `${m} cosine`]),
  ];
  const lines = evaluated.images[models[0]].map(({ name, label, labels }, i) => [
    name,
    labels ? labels.map((l) => named(l)).join("|") : named(label),
    ...models.flatMap((m) => {
      const { predicted, meanAbsoluteDifference: difference, cosine } = evaluated.images[m][i];
      return [...kinds.map((kind) => named(predicted[kind])), String(difference ?? ""), String(cosine ?? "")];
    }),
  ]);
  return [header, ...lines];
}

function classRows(evaluated: Evaluated, classes: readonly string[]): string[][] {
  const byClass = classFigures(evaluated, classes);
  const columns = [...new Set(byClass.flatMap(({ figures }) => Object.keys(figures)))];
  return [
    ["class", "images", ...columns],
    ...byClass.map((c) => [c.class, String(c.images), ...columns.map((key) => String(c.figures[key] ?? ""))]),
  ];
}

/** The last model's confusion of classes as a table, and drawn where there are not too many. */
async function writeConfusion(
  context: RunContext,
  directory: Directory,
  evaluated: Evaluated,
  classes: readonly string[],
): Promise<void> {
  const kinds = kindsOf(evaluated);
  const kind = (["probe", "knn", "head"] as const).find((k) => kinds.includes(k));
  if (kind === undefined) return;
  const last = evaluated.rows[evaluated.rows.length - 1].name;
  const counts = confusionOf(evaluated.images[last], kind, classes.length);
  const rows = counts.map((row, k) => [classes[k], ...row.map(String)]);
  await directory.write("confusion.csv", textChunks(csvLines([["class", ...classes], ...rows])));
  if (classes.length > mostDrawn) return;
  const title = `Which classes (rows) are taken for which, by the ${scoreTitles[kind]} of the ${last}`;
  await writeFigure(context, directory, "confusion", title, ({ confusionMap }, document) =>
    confusionMap(counts, classes, title, document),
  );
}
