// From a file's weights to ours and back, driven by a layout's tables.
import type { StoredTensor, StoredTensors } from "../files/storage.ts";
import { readTensor, storedSize } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import { listSome, shorten } from "../utils/quote.ts";
import { toFloat32 } from "../utils/half.ts";
import type { DataType, FloatTensor, Tensor } from "../utils/tensor.ts";
import { elementCount, sharedBuffer } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import { expectedWeights, splitBlockName } from "./weight-table.ts";
import type { Evidence, Layout } from "./layouts/registry.ts";
import type { NameEntry, Part } from "./layouts/layout.ts";

/** A file's weights by the names that a layout knows, with where its backbone stands. */
export interface NamedTensors {
  readonly layout: Layout;
  /** What stands in front of the backbone's names in the file, such as `module.` or `vit.`. */
  readonly prefix: string;
  /** Where other networks of the same layout stand, which are not read. */
  readonly others: readonly string[];
  readonly tensors: StoredTensors;
  /** Names as the file has them, for messages. */
  readonly fileNames: ReadonlyMap<string, string>;
}

/** A layout's name of the one weight, outside of the prefixes of backbone and block. */
export function partName(layout: Layout, ours: string): string {
  const entry = [...layout.block, ...layout.outer, ...layout.unprefixed].find((candidate) => candidate.ours === ours);
  if (!entry) throw new UserError(`${layout.name} has no name for the weight ${ours}`, { code: "NOT_A_VIT" });
  return entry.parts[0].name;
}

/** A name by the layout's own spelling. */
export function alias(layout: Layout, name: string): string {
  return (layout.aliases ?? []).reduce((text, [pattern, to]) => text.replace(pattern, to), name);
}

/** Prefixes under which parts outside of the backbone may stand, the nearest first: `a.b.` gives `a.b.`, `a.`, none. */
function outerPrefixes(prefix: string): string[] {
  const parts = prefix.split(".").slice(0, -1);
  return parts.map((_, i) => `${parts.slice(0, parts.length - i).join(".")}.`).concat("");
}

/** The file's parts that make our weight: those of the first entry of which all that is needed is there. */
function locate(
  { layout, prefix, tensors }: NamedTensors,
  ours: string,
): { entry: NameEntry; names: string[] } | undefined {
  const inside = splitBlockName(ours);
  const candidates: { entry: NameEntry; before: string }[] = [];
  if (inside) {
    for (const entry of layout.block)
      if (entry.ours === inside.inBlock) candidates.push({ entry, before: prefix + layout.blockPrefix(inside.block) });
  } else {
    for (const entry of layout.outer) if (entry.ours === ours) candidates.push({ entry, before: prefix });
    for (const entry of layout.unprefixed)
      if (entry.ours === ours) for (const before of outerPrefixes(prefix)) candidates.push({ entry, before });
  }
  const named = candidates.map(({ entry, before }) => ({
    entry,
    names: entry.parts.map((part) => before + part.name),
  }));
  const there = named.find(
    ({ entry, names }) =>
      names.some((name) => tensors.has(name)) && names.every((name, i) => tensors.has(name) || entry.parts[i].optional),
  );
  return there ?? named.find(({ names }) => names.some((name) => tensors.has(name))) ?? named[0];
}

/** Blocks in the file, counted from 0 without a gap. */
function blockCount({ layout, prefix, tensors }: NamedTensors): number {
  const name = partName(layout, "attn.proj.weight");
  let depth = 0;
  while (tensors.has(prefix + layout.blockPrefix(depth) + name)) depth++;
  return depth;
}

const shares = (parts: readonly Part[]) => parts.reduce((sum, part) => sum + (part.shares ?? 1), 0);

/** What the file's weights tell of the model. */
export function evidenceOf(named: NamedTensors, numHeads?: number): Evidence {
  return {
    depth: blockCount(named),
    numHeads,
    has: (name) => outerPrefixes(named.prefix).some((outer) => named.tensors.has(outer + name)),
    shape(ours) {
      const stored = locate(named, ours);
      const first = stored?.names.findIndex((name) => named.tensors.has(name)) ?? -1;
      const tensor = named.tensors.get(stored?.names[first] ?? "");
      if (!stored || !tensor) return undefined;
      const { dims } = tensor;
      const { parts, squeeze = 0 } = stored.entry;
      const whole = [...new Array<number>(squeeze).fill(1), ...dims];
      if (parts.length > 1) whole[0] = (whole[0] * shares(parts)) / (parts[first].shares ?? 1);
      return whole;
    },
  };
}

export interface NamedWeights {
  readonly weights: Map<string, FloatTensor>;
  /** Weights that the forward pass does not read, under the layout's names without prefix. */
  readonly carried: Map<string, Tensor>;
}

function show(dims: readonly number[]): string {
  return shorten(`[${dims.join(", ")}]`);
}

/** The shape that a part of our weight has in the file. */
function partDims(entry: NameEntry, part: Part, dims: readonly number[]): readonly number[] {
  const theirs = dims.slice(entry.squeeze ?? 0);
  return entry.parts.length === 1 ? theirs : [(dims[0] * (part.shares ?? 1)) / shares(entry.parts), ...theirs.slice(1)];
}

/** Shapes are the same when axes of length 1 in front don't count. */
function sameDims(a: readonly number[], b: readonly number[]): boolean {
  const bare = (dims: readonly number[]) =>
    dims.slice(dims.findIndex((d) => d !== 1) < 0 ? dims.length : dims.findIndex((d) => d !== 1)).join();
  return bare(a) === bare(b);
}

interface LocatedWeight {
  readonly ours: string;
  readonly dims: readonly number[];
  /** Undefined where a file leaves zeros out. */
  readonly parts: readonly (StoredTensor | undefined)[];
  readonly sizes: readonly number[];
}

/** What of a file's weights doesn't fit the configuration, by the file's names. */
interface Misfits {
  readonly missing: string[];
  readonly unusable: string[];
  readonly misshapen: string[];
}

const floats: readonly DataType[] = ["float32", "float16", "bfloat16", "float64"];

/**
 * Reads a model's weights by our names, as float32, each straight into the memory where it stays. Throws a UserError
 * that lists missing, misshapen and unexpected weights by name and shape, and says which layout they were read as.
 */
export async function readWeights(
  named: NamedTensors,
  config: VitConfig,
  file: string,
  warn: (message: string) => void = () => undefined,
): Promise<NamedWeights> {
  const { layout, prefix, tensors } = named;
  const used = new Set<string>();
  const misfits: Misfits = { missing: [], unusable: [], misshapen: [] };
  const located = [...expectedWeights(config)].map(([ours, dims]) =>
    locateWeight(named, ours, dims, file, used, misfits),
  );
  const carriedTensors = layout.carried.flatMap((name) => {
    const tensor = tensors.get(prefix + name);
    used.add(prefix + name);
    return tensor?.type === undefined ? [] : [[name, tensor] as const];
  });
  const { unexpected, unused } = strayTensors(named, used);
  refuseMisfits(layout, file, misfits, unexpected);
  if (unused.length > 0) warn(`${file} holds weights beside the backbone that are not used: ${listSome(unused)}`);
  const weights = new Map<string, FloatTensor>();
  for (const weight of located) weights.set(weight.ours, await readJoint(weight));
  const carried = new Map<string, Tensor>();
  for (const [name, tensor] of carriedTensors) carried.set(name, await readTensor(tensor));
  return { weights, carried };
}

/** Finds a weight's parts in the file and notes what is wrong with them. */
function locateWeight(
  named: NamedTensors,
  ours: string,
  dims: readonly number[],
  file: string,
  used: Set<string>,
  { missing, unusable, misshapen }: Misfits,
): LocatedWeight {
  const { layout, tensors, fileNames } = named;
  const place = locate(named, ours);
  if (!place)
    throw new UserError(
      `${file}, read as ${layout.name}, should have the weight ${ours}, for which that layout has no name`,
      { code: "NOT_A_VIT" },
    );
  const { entry, names } = place;
  const parts = names.map((name, i) => {
    used.add(name);
    const tensor = tensors.get(name);
    const wanted = partDims(entry, entry.parts[i], dims);
    const fileName = shorten(fileNames.get(name) ?? name);
    if (!tensor) {
      if (!entry.parts[i].optional) missing.push(`${fileName} ${show(wanted)}`);
      return undefined;
    }
    if (tensor.type === undefined) {
      unusable.push(`${fileName} ${tensor.problem}`);
      return undefined;
    }
    if (!floats.includes(tensor.type)) unusable.push(`${fileName} holds ${tensor.type}`);
    else if (!sameDims(tensor.dims, wanted)) misshapen.push(`${fileName} ${show(tensor.dims)} (needs ${show(wanted)})`);
    return tensor;
  });
  return { ours, dims, parts, sizes: entry.parts.map((part) => elementCount(partDims(entry, part, dims))) };
}

function refuseMisfits(
  layout: Layout,
  file: string,
  { missing, unusable, misshapen }: Misfits,
  unexpected: readonly string[],
): void {
  const problems = (
    [
      ["missing", missing],
      ["needed, but not of floats that can be read", unusable],
      ["of another shape than the configuration says", misshapen],
      ["unexpected", unexpected],
    ] as const
  ).flatMap(([what, names]) => (names.length > 0 ? [`${what}: ${listSome(names)}`] : []));
  if (problems.length > 0)
    throw new UserError(`The weights in ${file} don't fit, read as ${layout.name}; ${problems.join("; ")}`, {
      code: "NOT_A_VIT",
    });
}

/**
 * Tensors that the model has no place for, by the file's names. Inside of the backbone they are unexpected: what they do
 * is not known. Others are unused: a wrapper's other parts (a projection head), and what can be no weight.
 */
function strayTensors(named: NamedTensors, used: ReadonlySet<string>): { unexpected: string[]; unused: string[] } {
  const { layout, prefix, others, tensors, fileNames } = named;
  const unexpected: string[] = [];
  const unused: string[] = [];
  for (const [name, { type, dims, ...rest }] of tensors) {
    if (used.has(name) || elementCount(dims) === 0 || isIgnored(layout, name, prefix)) continue;
    const fileName = shorten(fileNames.get(name) ?? name);
    const isInside = name.startsWith(prefix) && !(prefix === "" && isBesideWeights(name, dims));
    if (isInside && type === undefined && "problem" in rest) unused.push(`${fileName} (${rest.problem})`);
    else if (isInside) unexpected.push(`${fileName} ${show(dims)}`);
    // Another network has been named already; steps, losses and states of optimizers are no weights.
    else if (
      !others.some((other) => name.startsWith(other)) &&
      !trainingState.test(name) &&
      type?.includes("float") &&
      elementCount(dims) > 1
    )
      unused.push(fileName);
  }
  return { unexpected, unused };
}

const trainingParts = String.raw`(\w*optim\w*|\w*sched\w*|\w*scaler|callbacks|loops|(\w*_)?rng(_\w*)?)(\.|$)`;
const trainingState = new RegExp(String.raw`(^|\.)${trainingParts}`, "i");
const outermostTrainingState = new RegExp(`^${trainingParts}`, "i");

/** What optimizers and training loops keep beside weights that stand without a prefix: by its first word, or a number alone. */
function isBesideWeights(name: string, dims: readonly number[]): boolean {
  return outermostTrainingState.test(name) || (dims.length === 0 && !name.includes("."));
}

function isIgnored(layout: Layout, name: string, prefix: string): boolean {
  if (!layout.ignored) return false;
  return outerPrefixes(prefix).some(
    (outer) => name.startsWith(outer) && layout.ignored?.test(name.slice(outer.length)),
  );
}

/** Row blocks (q, k and v), one after the other; what is not there is zero. */
async function readJoint({ dims, parts, sizes }: LocatedWeight): Promise<FloatTensor> {
  const data = new Float32Array(sharedBuffer(4 * elementCount(dims)));
  let at = 0;
  for (const [i, part] of parts.entries()) {
    const target = data.subarray(at, at + sizes[i]);
    at += sizes[i];
    if (!part) continue;
    if (part.type === "float32")
      await part.readInto(new Uint8Array(target.buffer, target.byteOffset, storedSize(part)));
    else target.set(toFloat32(await readTensor(part)).data);
  }
  return { type: "float32", dims, data };
}

const isZero = ({ data }: FloatTensor) => (data as Float32Array).every((v) => v === 0);

/** Our weights under a layout's names. Throws where the layout has no name for one. */
export function nameWeights(layout: Layout, config: VitConfig, named: NamedWeights): Map<string, FloatTensor | Tensor> {
  const prefix = layout.writePrefix(config);
  const out = new Map<string, Tensor>();
  const distilled = config.head?.input === "class+distillation";
  for (const [ours, tensor] of named.weights) {
    const inside = splitBlockName(ours);
    const inBlock = inside && layout.block.find((entry) => entry.ours === inside.inBlock);
    const before = inside ? prefix + layout.blockPrefix(inside.block) : prefix;
    const outer = layout.outer.filter((entry) => entry.ours === ours);
    const unprefixed = layout.unprefixed.filter((entry) => entry.ours === ours);
    // Where a layout has two names for a weight, the second belongs to its other kind of head or norm.
    const second = ours.startsWith("head.") ? distilled : config.finalNorm === "pooled";
    const pick = (entries: readonly NameEntry[]) => entries[second && entries.length > 1 ? 1 : 0];
    const entry = inBlock ?? pick(outer) ?? pick(unprefixed);
    if (!entry) throw new UserError(`${layout.name} has no place for the weight ${ours}`, { code: "NOT_A_VIT" });
    const place = inBlock || outer.length > 0 ? before : "";
    let at = 0;
    for (const part of entry.parts) {
      const dims = partDims(entry, part, tensor.dims);
      const piece: FloatTensor = { type: "float32", dims, data: tensor.data.subarray(at, at + elementCount(dims)) };
      at += elementCount(dims);
      if (!part.optional || !isZero(piece)) out.set(place + part.name, piece);
    }
  }
  for (const name of layout.carried) {
    const tensor = named.carried.get(name);
    if (tensor) out.set(prefix + name, tensor);
  }
  return out;
}
