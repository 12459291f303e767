// `wecolora inspect MODEL --data D --frontier` and `--budget B`: what a reader gets at each price, by the search over shape, image
// size, token merging and exports (`choose-levers.ts`), and the command that makes the model that loses least within a budget.
import type { z } from "zod";
import type { readSchema } from "../context/common-options.ts";
import { readOptions } from "../context/common-options.ts";
import { kebab, shellWord } from "../utils/option-names.ts";
import { exportOf } from "../exports/lookup.ts";
import type { MeasuredCandidate } from "../students/search/lever-search.ts";
import type { TriedCandidate } from "../workspace/run-schemas.ts";
import type { OpenedSearch } from "./choose-levers.ts";
import { limitsOf } from "./choose-levers.ts";
import { distillOptions } from "./distill-options.ts";
import { distillCommand, flagsOf } from "./run-card.ts";

/** A model that was built and measured. */
export interface PricedModel extends TriedCandidate {
  /** Whether no other loses less in no more bytes. */
  readonly bestForSize: boolean;
  /** Whether no other loses less in no more time. */
  readonly bestForTime: boolean;
}

/** What is proposed, and how to make it. */
export interface Proposal extends TriedCandidate {
  readonly budget: string;
  /** A command; undefined where the teacher itself fits as it is. */
  readonly command?: string;
}

/** Whether nothing that costs no more loses less. */
const isBest = (one: MeasuredCandidate, all: readonly MeasuredCandidate[], cost: "bytes" | "milliseconds"): boolean =>
  !all.some((other) => other !== one && other[cost] <= one[cost] && other.loss < one.loss);

/** The models that a search has built and measured; the smallest first. */
export function pricedModels({ search, named }: OpenedSearch): PricedModel[] {
  const measured = search.sorted();
  return measured.map((one) => ({
    ...named(one),
    bestForSize: isBest(one, measured, "bytes"),
    bestForTime: isBest(one, measured, "milliseconds"),
  }));
}

/** Options that say how a model and its images are read. */
type ReadOptions = z.output<typeof readSchema> & {
  readonly data: string;
  readonly seed: number;
  readonly strict: boolean;
};

/** The model that loses least within a budget. Throws a UserError where none fits. */
export async function propose(
  { search, named }: OpenedSearch,
  budget: string,
  teacher: string,
  options: ReadOptions,
): Promise<Proposal> {
  const { best } = await search.within(limitsOf(budget));
  const command = commandOf(named(best), budget, teacher, options);
  return { ...named(best), budget, ...(command === undefined ? {} : { command }) };
}

/** The command that makes a model: an export of the teacher where that is whole. Undefined for the teacher as it is. */
function commandOf(
  { blockShare, export: format, exportOptions = {}, imageSize, merging }: TriedCandidate,
  budget: string,
  teacher: string,
  { data, ...given }: ReadOptions,
): string | undefined {
  if (blockShare === 1 && format === "onnx" && imageSize === undefined && !merging) return undefined;
  if (blockShare < 1)
    return distillCommand(
      distillOptions({
        ...{ teacher, data, out: "RUN", ...readOptions(given), seed: given.seed, strict: given.strict },
        budget,
      }),
    );
  const flags = Object.entries(exportOptions).map(([name, value]) => `--${kebab(name)} ${String(value)}`);
  return [
    `wecolora export --model ${shellWord(teacher)} --to ${format} --out SMALLER --data ${shellWord(data)}`,
    ...(exportOf(format).readsImages ? [`--images ${shellWord(data)}`] : []),
    ...flags,
    ...(merging ? [`--merge-tokens ${merging.join(",")}`] : []),
    ...flagsOf(readOptions({ ...given, imageSize: imageSize ?? given.imageSize })),
  ].join(" ");
}
