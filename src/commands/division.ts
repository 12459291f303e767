// Commands whose work can be cut into tasks. On one machine a command opens its work, runs all of it and merges that one part.
// A plan does the same in several processes: the planning one settles decisions and lists the units, each task runs its own, and
// the merge puts their parts together in the order of the list. What is computed stands once, here behind `run` and `merge`.
import { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import type { ImageSource, Skipped } from "../data/loader.ts";
import type { Place } from "../data/places.ts";
import type { Item } from "../data/sampling.ts";
import { axes } from "../data/scans.ts";
import type { Directory } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import { mapInBatches } from "../utils/arrays.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import type { HashedInput, Plan } from "../workspace/plan-folder.ts";

/** A part as files hold it: JSON, and tensors by name. Both keep every bit of finite numbers. */
export interface StoredValue {
  readonly value: unknown;
  readonly tensors: ReadonlyMap<string, FloatTensor>;
}

/** What a plan with the same options settled, and hashes of what it was computed from. */
export type EarlierPlan = Pick<Plan, "settled" | "inputs">;

/** A command's work, opened. */
export interface Work<Unit, Part, Result> {
  /**
   * All units in their order; settles what is decided once. `forPlan`: with hashes of images, so that tasks notice changed ones.
   * `earlier`: what a plan with the same options settled; what was measured for it is taken from there where the inputs are the same,
   * so that finished tasks stay so. Throws a UserError where an input is not as the command needs it.
   */
  units(forPlan: boolean, earlier?: EarlierPlan): Promise<readonly Unit[]>;
  /** What `units` settled, as plain data that `open` takes. */
  settled(): unknown;
  /** Hashes of what these units are computed from, but for their own images. */
  inputs(units: readonly Unit[]): Promise<readonly HashedInput[]>;
  /** Computes units. `output`: where what can be resumed is kept: the command's own output, or the task's. */
  run(units: readonly Unit[], output: OutputFolder | undefined): Promise<Part>;
  /** Joins parts, in the order of their units, and writes what the command writes. */
  merge(parts: readonly Part[], output: OutputFolder | undefined): Promise<Result>;
  dispose(): Promise<void>;
}

/** What an earlier plan settled, where it was computed from these inputs and still reads as what this command settles. */
export async function settledBefore<Settled>(
  earlier: EarlierPlan | undefined,
  schema: z.ZodType<Settled>,
  inputs: () => Promise<readonly HashedInput[]>,
): Promise<Settled | undefined> {
  if (!earlier || JSON.stringify(earlier.inputs) !== JSON.stringify(await inputs())) return undefined;
  return schema.safeParse(earlier.settled).data;
}

/** How a command's work is cut. */
export interface Division<Schema extends z.ZodObject = z.ZodObject, Unit = unknown, Part = unknown, Result = unknown> {
  /** The command's name. */
  readonly name: string;
  readonly schema: Schema;
  /** How options are read, where defaults depend on what is given. */
  parse?(input: Readonly<Record<string, unknown>>, what: string): z.output<Schema>;
  /** A unit as a line of a list. */
  readonly unit: z.ZodType<Unit>;
  /** The output that these options name; undefined where they name none, so that nothing can be planned. */
  out(options: z.output<Schema>): string | undefined;
  /** Checks the output and has it for the time of `use`, as the command does on one machine. */
  within<T>(
    context: RunContext,
    options: z.output<Schema>,
    use: (output: OutputFolder | undefined) => Promise<T>,
  ): Promise<T>;
  /** Opens the work; `settled`: what a plan settled, where there is one. */
  open(context: RunContext, options: z.output<Schema>, settled?: unknown): Promise<Work<Unit, Part, Result>>;
  store(part: Part): StoredValue;
  /** `directory`: the task's own, with what `run` wrote in its output. */
  read(stored: StoredValue, directory: Directory): Part;
  text(result: Result): string;
}

/** Keeps a division's types; see Division. */
export const defineDivision = <Schema extends z.ZodObject, Unit, Part, Result>(
  division: Division<Schema, Unit, Part, Result>,
): Division<Schema, Unit, Part, Result> => division;

/** Options as a division reads them. Throws a UserError on what doesn't fit. */
export const divisionOptions = <Schema extends z.ZodObject>(
  { schema, parse }: Pick<Division<Schema>, "schema" | "parse">,
  input: Readonly<Record<string, unknown>>,
  what: string,
): z.output<Schema> => (parse ? parse(input, what) : parseOptions(schema, input, what));

/** Runs a command's work in this process. */
export function runWhole<Schema extends z.ZodObject, Unit, Part, Result>(
  division: Division<Schema, Unit, Part, Result>,
  context: RunContext,
  options: z.output<Schema>,
): Promise<Result> {
  return division.within(context, options, async (output) => {
    const work = await division.open(context, options);
    try {
      const units = await work.units(false);
      return await work.merge([await work.run(units, output)], output);
    } finally {
      await work.dispose();
    }
  });
}

const index = z.number().int().min(0);
const placeSchema: z.ZodType<Place> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("range"), file: z.string(), offset: index, length: index, size: index.optional() }),
  z.object({ kind: z.literal("planes"), file: z.string(), offset: index, width: index, height: index }),
  z.object({ kind: z.literal("row"), file: z.string(), column: z.string(), row: index }),
  z.object({ kind: z.literal("slice"), scans: z.array(z.string()), axis: z.enum(axes), slice: index }),
  z.object({ kind: z.literal("procedural"), version: index, seed: z.number().int(), index }),
]);

/** An image as lists of units hold it. */
export const itemSchema: z.ZodType<HashedItem> = z.object({
  name: z.string(),
  label: z.number().int().optional(),
  labels: z.array(z.number().int()).optional(),
  place: placeSchema.optional(),
  sha256: z.string().optional(),
});

/** An image that could not be read, as parts hold it. */
export const skippedSchema: z.ZodType<Skipped> = z.object({
  name: z.string(),
  reason: z.string(),
  group: z.string().optional(),
  expected: z.literal(true).optional(),
});

/** An image of a plan, with a hash of its content where it could be read. */
export type HashedItem = Item & { readonly sha256?: string };

/** What hashes images. */
export type Prints = Pick<ImageSource, "fingerprint">;

/** Hashes of images' contents, each made once, however often it is asked for. */
export function rememberedPrints(source: ImageSource): Prints {
  const prints = new Map<string, string>();
  return {
    async fingerprint(item) {
      const print = prints.get(item.name) ?? (await source.fingerprint(item));
      prints.set(item.name, print);
      return print;
    },
  };
}

/** The same images with hashes of their contents; procedural ones follow from their names. */
export function hashedItems(source: Prints, items: readonly Item[]): Promise<HashedItem[]> {
  return mapInBatches(items, async (item) => {
    if (item.place?.kind === "procedural") return item;
    // What can't be read is reported by the task that needs it.
    const sha256 = await source.fingerprint(item).catch(() => undefined);
    return sha256 === undefined ? item : { ...item, sha256 };
  });
}

/** Throws a UserError where an image is another than when it was planned. */
export async function checkImages(source: Prints, items: readonly HashedItem[]): Promise<void> {
  const hashed = items.filter(({ sha256 }) => sha256 !== undefined);
  const changed = (
    await mapInBatches(hashed, async (item) => {
      const now = await source.fingerprint(item).catch(() => undefined);
      return now === item.sha256 ? [] : [item.name];
    })
  ).flat();
  if (changed.length === 0) return;
  const others = changed.length === 1 ? "" : ` and ${changed.length - 1} more`;
  throw new UserError(
    `${changed[0]}${others} changed since the plan was made. Run the command that made the plan again.`,
    { code: "INVALID_DATA" },
  );
}
