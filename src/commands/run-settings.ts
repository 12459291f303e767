// What decides a run's bits, as its folder records it, held against what is asked for now.
import { blockShapeText } from "../students/closed-form/narrowing.ts";
import { z } from "zod";
import type { DataSet } from "../data/dataset.ts";
import type { Item } from "../data/sampling.ts";
import { int8Parts } from "../models/precision.ts";
import type { Int8Options } from "../models/precision.ts";
import { UserError } from "../utils/errors.ts";
import { sha256 } from "../utils/digest.ts";
import { kebab } from "../utils/option-names.ts";
import type { NamedInput } from "../workspace/output-folder.ts";
import type { RunConfig } from "../workspace/run-folder.ts";
import type { Deployment } from "../workspace/run-schemas.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { distillOptions } from "./distill-options.ts";
import { checkRunMethod } from "../students/methods/lookup.ts";

/** What a run reads, and must not write over. */
export const distillInputs = ({
  teacher,
  data,
  cachedFeatures,
}: Pick<DistillRunOptions, "teacher" | "data" | "cachedFeatures">): NamedInput[] => [
  { option: "--teacher", path: teacher },
  { option: "--data", path: data },
  ...(cachedFeatures === undefined ? [] : [{ option: "--cached-features", path: cachedFeatures }]),
];

/** Options that say where a run lies and how it is made, not what comes of it. */
const ofTheFolder: readonly (keyof DistillRunOptions)[] = ["out", "overwrite", "threads"];
/** Options that add files to a finished run. */
export const ofTheEnd: readonly (keyof DistillRunOptions)[] = ["report", "export"];

/** A run's options as they were asked for, before its precision was settled. */
export function requestedOptions(config: RunConfig, out: string, file: string): DistillRunOptions {
  checkRunMethod(config.options.method, out);
  const { precision, int8Parts: parts } = config.requested;
  return distillOptions({ ...config.options, precision, int8Parts: parts, out }, `the options in ${file}`);
}

const shown = (value: unknown) => (value === undefined ? "not given" : JSON.stringify(value));

/** Options that differ, each with its old and new value, as a command line names them. */
export function optionDifferences(
  before: DistillRunOptions,
  now: DistillRunOptions,
  ignored: readonly (keyof DistillRunOptions)[] = [],
): string[] {
  const old = new Map<string, unknown>(Object.entries(before));
  const current = new Map<string, unknown>(Object.entries(now));
  const skipped = new Set<string>([...ofTheFolder, ...ignored]);
  return [...new Set([...old.keys(), ...current.keys()])].flatMap((key) => {
    const [was, is] = [old.get(key), current.get(key)];
    if (skipped.has(key) || JSON.stringify(was) === JSON.stringify(is)) return [];
    return [`--${kebab(key)} was ${shown(was)} and is now ${shown(is)}`];
  });
}

/** Products in 8 bits that were settled, as files hold them. */
export const int8Schema = z.object({
  largest: z.union([z.literal(127), z.literal(63)]),
  parts: z.array(z.enum(int8Parts)),
});

/** The products in 8 bits that a run settled on. Throws a UserError where this version knows no such ones. */
export function settledInt8({ int8 }: RunConfig, file: string): Int8Options | undefined {
  if (int8 === undefined) return undefined;
  const { success, data } = int8Schema.safeParse(int8);
  if (!success)
    throw new UserError(`${file} names int8 products that this version does not have.`, {
      code: "FILE_NOT_READABLE",
    });
  return data;
}

/** A shape as options make it. */
type ShapeOptions = Pick<Deployment["choice"], "keptBlocks" | "mlpWidth" | "keptHeads" | "blockShapes">;

/** The options of a run whose shape was chosen, in place of how it was to be chosen. */
export function withChosenShape(
  options: DistillRunOptions,
  { keptBlocks, mlpWidth, keptHeads, blockShapes }: ShapeOptions,
): DistillRunOptions {
  return {
    ...options,
    keep: "even",
    budget: undefined,
    agreement: undefined,
    reductionFactor: undefined,
    keptBlocks: [...keptBlocks],
    mlpWidth,
    keptHeads,
    blockShapes: blockShapes && [...blockShapes],
  };
}

/** The same for the shape that a run's folder records: a budget in milliseconds or a search would choose again. */
export const withSettledShape = (options: DistillRunOptions, { shapes, ...settled }: RunConfig): DistillRunOptions =>
  withChosenShape(options, { ...settled, blockShapes: shapes?.map(blockShapeText) });

/** Items that are hashed together. */
const listed = 8192;

/** A hash of all images' names and classes in a data set: what a draw of some of them follows from. */
export async function listingHash({ train, test }: DataSet): Promise<string> {
  const hashes: string[] = [];
  for (const [part, items] of [
    ["train", train.items],
    ["test", test?.items ?? []],
  ] as const) {
    for (let from = 0; from < items.length; from += listed) {
      const lines = items
        .slice(from, from + listed)
        .map(({ name, ...item }) => [name, ...classNames(item, train.classes)]);
      hashes.push(await sha256(JSON.stringify([part, lines])));
    }
  }
  return sha256(hashes.join("\n"));
}

/** Names of an item's class, or of its labels. */
export function classNames({ label, labels }: Omit<Item, "name">, classes: readonly string[] | undefined): string[] {
  return (labels ?? (label === undefined ? [] : [label])).map((index) => classes?.[index] ?? String(index));
}

/** What is wrong with a teacher that is not the one that a run began with. */
export const teacherHasChanged = (teacher: string): string =>
  `the teacher ${teacher} has changed since the run began (its weights, configuration or preprocessing)`;
