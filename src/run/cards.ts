// What a model card says of the run that a model comes from.
import type { Widths } from "../distill/narrowing.ts";
import type { ModelCard } from "../export/model-card.ts";
import type { ResultRow } from "../report/results.ts";
import type { DistillRunOptions } from "./options.ts";
import { distillOptions } from "./recipes.ts";
import { widthsText } from "./shape.ts";

/** What a card says of the run that a model comes from. */
export function cardOrigin(options: DistillRunOptions, result: Readonly<Record<string, unknown>>): ModelCard["origin"] {
  return {
    teacher: options.teacher,
    fromHub: result.teacherFromHub === true,
    method: options.method,
    pictures: Number(result.pictures),
    data: options.data,
    keptBlocks: result.keptBlocks as number[],
    widths: widthsText(result as Widths),
    command: ["wecolora distill --teacher TEACHER --data PICTURES --out RUN", ...changedFlags(options)].join(" "),
    results: result.results as ResultRow[],
  };
}

/** The options that are not their defaults, without paths, as a command line says them. */
export function changedFlags(options: DistillRunOptions): string[] {
  const { recipe, method } = options;
  const named = recipe === undefined ? { method } : { recipe };
  const usual = distillOptions({ teacher: "t", data: "d", out: "o", ...named }) as Record<string, unknown>;
  const changed = Object.entries(options).flatMap(([key, value]) => {
    const own = ["teacher", "data", "out", "overwrite", "threads", "device"].includes(key);
    if (own || value === undefined || JSON.stringify(value) === JSON.stringify(usual[key])) return [];
    const flag = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    if (typeof value === "boolean") return [value ? `--${flag}` : `--no-${flag}`];
    if (Array.isArray(value) && value.every((v) => typeof v !== "object")) return [`--${flag} ${value.join(",")}`];
    if (typeof value !== "object") return [`--${flag} ${String(value)}`];
    return [`--${flag} '${JSON.stringify(value)}'`];
  });
  return [recipe === undefined ? `--method ${method}` : `--recipe ${recipe}`, ...changed];
}
