// Keys of result files by the names that they had in version 1: version 2 has the field's words for them. Lines of logs and
// predictions carry no version of their own, so both are read.

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** An object with some keys renamed; what is no object stays, for the schema to refuse. */
const renamed = (names: Readonly<Record<string, string>>) => (value: unknown) =>
  isObject(value)
    ? Object.fromEntries(
        Object.entries(value).map(([key, entry]) => [Object.hasOwn(names, key) ? names[key] : key, entry]),
      )
    : value;

/** An object with what some keys hold changed. */
function within(value: unknown, changes: Readonly<Record<string, (entry: unknown) => unknown>>): unknown {
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, Object.hasOwn(changes, key) ? changes[key](entry) : entry]),
  );
}

const each = (change: (entry: unknown) => unknown) => (value: unknown) =>
  Array.isArray(value) ? value.map(change) : value;

const knn = { neighbours: "knn" };
const fidelity = { ...knn, difference: "meanAbsoluteDifference" };

/** A row of a result table. */
export const currentRow = (row: unknown): unknown =>
  within(renamed({ ...knn, millisecondsAPicture: "millisecondsPerImage" })(row), { auroc: renamed(knn) });

const currentComparison = (comparison: unknown): unknown =>
  within(comparison, { metric: (metric) => (metric === "neighbours" ? "knn" : metric) });

/** result.json */
export const currentResult = (result: unknown): unknown =>
  within(renamed({ pictures: "images", judgedOnTrainingPictures: "evaluatedOnTrainingImages" })(result), {
    evaluations: each(renamed(fidelity)),
    results: each(currentRow),
    comparisons: each(currentComparison),
  });

const currentExport = (measured: unknown): unknown => {
  const names = { ...knn, difference: "relativeDifference", millisecondsAPicture: "millisecondsPerImage" };
  const original = renamed({ own: "original" });
  return within(renamed(names)(measured), {
    intervals: renamed({ difference: "relativeDifference" }),
    knn: (shares) => within(original(shares), { intervals: original }),
  });
};

/** exports.json */
export const currentExports = (file: unknown): unknown => within(file, { exports: each(currentExport) });

/** A file of a comparison that holds a row. */
export const currentRowFile = (file: unknown): unknown => within(file, { row: currentRow });

/** A line of log.jsonl. */
export function currentLogEntry(entry: unknown): unknown {
  if (!isObject(entry)) return entry;
  if (entry.kind === "evaluation") return renamed(fidelity)(entry);
  return entry.kind === "result" ? currentRow(entry) : entry;
}

/** A line of predictions.jsonl. */
export const currentPrediction = (line: unknown): unknown =>
  within(line, {
    models: (models) =>
      isObject(models)
        ? Object.fromEntries(Object.entries(models).map(([name, of]) => [name, renamed(fidelity)(of)]))
        : models,
  });
