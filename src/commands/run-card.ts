// What a model card says of the run that a model comes from.
import type { ModelCard } from "../exports/model-card.ts";
import { kebab, shellWord } from "../utils/option-names.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { distillOptions } from "./distill-options.ts";
import type { RunResult } from "../workspace/run-folder.ts";
import { widthsText } from "../students/search/shape.ts";

/** What a card says of the run that a model comes from. */
export function cardOrigin(options: DistillRunOptions, result: RunResult): ModelCard["origin"] {
  return {
    teacher: options.teacher,
    fromHub: result.teacherFromHub,
    license: result.teacherLicense,
    method: options.method,
    images: result.images,
    data: options.data,
    keptBlocks: result.keptBlocks,
    widths: widthsText(result),
    command: ["wecolora distill --teacher TEACHER --data IMAGES --out RUN", ...changedFlags(options)].join(" "),
    results: result.results,
    comparisons: result.comparisons,
    onTraining: result.evaluatedOnTrainingImages,
  };
}

/** The command that a run comes from, to make another run like it. */
export function distillCommand(options: DistillRunOptions): string {
  const { teacher, data } = options;
  const begin = `wecolora distill --teacher ${shellWord(teacher)} --data ${shellWord(data)} --out RUN`;
  return [begin, ...changedFlags(options)].join(" ");
}

/** Options of a run that are not its recipe's or method's own, without paths, as a command line says them. */
function changedFlags(options: DistillRunOptions): string[] {
  const { recipe, method } = options;
  const named = recipe === undefined ? { method } : { recipe };
  const defaults = distillOptions({ teacher: "t", data: "d", out: "o", ...named });
  const changed = flagsOf(
    Object.fromEntries(
      Object.entries(options).filter(([key, value]) => {
        const isOmitted = ["teacher", "data", "out", "overwrite", "threads", "device"].includes(key);
        return !isOmitted && JSON.stringify(value) !== JSON.stringify((defaults as Record<string, unknown>)[key]);
      }),
    ),
  );
  return [recipe === undefined ? `--method ${method}` : `--recipe ${recipe}`, ...changed];
}

/** Options as a command line says them; those that are undefined are left out. */
export function flagsOf(options: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(options).flatMap(([key, value]) => {
    if (value === undefined) return [];
    const flag = kebab(key);
    if (typeof value === "boolean") return [value ? `--${flag}` : `--no-${flag}`];
    if (Array.isArray(value) && value.every((v) => typeof v !== "object"))
      return [`--${flag} ${shellWord(value.join(","))}`];
    if (typeof value !== "object") return [`--${flag} ${shellWord(String(value))}`];
    return [`--${flag} ${shellWord(JSON.stringify(value))}`];
  });
}
