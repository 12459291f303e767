// From a file's weights to ours and back, driven by a layout's tables.
import type { StoredTensor, StoredTensors } from "../files/storage.ts";
import { readTensor, storedSize } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import { toFloat32 } from "../utils/half.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { elementCount, sharedBuffer } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import { expectedWeights, splitBlockName } from "./weight-table.ts";
import type { Evidence, Layout } from "./layouts/registry.ts";
import type { NameEntry, Part } from "./layouts/layout.ts";
import { required } from "../utils/required.ts";

/** A file's weights by the names that a layout knows, with where its backbone stands. */
export interface NamedTensors {
  readonly layout: Layout;
  /** What stands in front of the backbone's names in the file, such as `module.` or `vit.`. */
  readonly prefix: string;
  readonly tensors: StoredTensors;
  /** Names as the file has them, for messages. */
  readonly fileNames: ReadonlyMap<string, string>;
}

const patchWeight = "patch_embed.proj.weight";

function entryOf(layout: Layout, ours: string): NameEntry | undefined {
  return [...layout.outer, ...layout.unprefixed].find((entry) => entry.ours === ours);
}

/** The shortest prefix under which a file has the layout's patch embedding and first block; undefined where none. */
export function findPrefix(layout: Layout, names: Iterable<string>): string | undefined {
  const all = [...names];
  const probe = entryOf(layout, patchWeight)?.parts[0].name as string;
  const projection = layout.block.find(({ ours }) => ours === "attn.proj.weight")?.parts[0].name as string;
  const known = new Set(all.map((name) => alias(layout, name)));
  const prefixes = all
    .filter((name) => name === probe || name.endsWith(`.${probe}`))
    .map((name) => name.slice(0, name.length - probe.length));
  // A prefix may stand in front of names that an alias changes, so block 0 is looked for behind it.
  const whole = prefixes.filter((prefix) =>
    [...known, ...all].some(
      (name) =>
        name.startsWith(prefix) && alias(layout, name.slice(prefix.length)) === layout.blockPrefix(0) + projection,
    ),
  );
  return whole.sort((a, b) => a.length - b.length)[0];
}

function alias(layout: Layout, name: string): string {
  return (layout.aliases ?? []).reduce((text, [pattern, to]) => text.replace(pattern, to), name);
}

/** Names by the layout's own spelling, behind the prefix; names outside of the prefix stay as they are. */
export function nameTensors(layout: Layout, tensors: StoredTensors, prefix: string): NamedTensors {
  const renamed = new Map<string, StoredTensor>();
  const fileNames = new Map<string, string>();
  for (const [name, tensor] of tensors) {
    const inside = name.startsWith(prefix);
    const own = inside ? prefix + alias(layout, name.slice(prefix.length)) : name;
    renamed.set(own, tensor);
    fileNames.set(own, name);
  }
  return { layout, prefix, tensors: renamed, fileNames };
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
  const name = layout.block.find(({ ours }) => ours === "attn.proj.weight")?.parts[0].name as string;
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
    shape(ours) {
      const found = locate(named, ours);
      const first = found?.names.findIndex((name) => named.tensors.has(name)) ?? -1;
      if (!found || first < 0) return undefined;
      const { dims } = required(named.tensors, found.names[first]);
      const { parts, squeeze = 0 } = found.entry;
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
  return `[${dims.join(", ")}]`;
}

/** Some of the items, for a message that stays readable. */
function few(items: readonly string[]): string {
  return items.length > 6 ? `${items.slice(0, 6).join(", ")} and ${items.length - 6} more` : items.join(", ");
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

interface Found {
  readonly ours: string;
  readonly dims: readonly number[];
  readonly parts: readonly (StoredTensor | undefined)[];
  readonly sizes: readonly number[];
}

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
  const { layout, prefix, tensors, fileNames } = named;
  const used = new Set<string>();
  const missing: string[] = [];
  const misshapen: string[] = [];
  const found: Found[] = [];
  for (const [ours, dims] of expectedWeights(config)) {
    const located = locate(named, ours);
    if (!located)
      throw new UserError(
        `${file}, read as ${layout.name}, should have the weight ${ours}, for which that layout has no name`,
      );
    const { entry, names } = located;
    const sizes = entry.parts.map((part) => elementCount(partDims(entry, part, dims)));
    const parts = names.map((name, i) => {
      used.add(name);
      const tensor = tensors.get(name);
      const wanted = partDims(entry, entry.parts[i], dims);
      if (!tensor) {
        if (!entry.parts[i].optional) missing.push(`${name} ${show(wanted)}`);
      } else if (!sameDims(tensor.dims, wanted)) {
        misshapen.push(`${fileNames.get(name)} ${show(tensor.dims)} (needs ${show(wanted)})`);
      } else if (!["float32", "float16", "bfloat16", "float64"].includes(tensor.type)) {
        misshapen.push(`${fileNames.get(name)} holds ${tensor.type} (needs floats)`);
      }
      return tensor;
    });
    found.push({ ours, dims, parts, sizes });
  }
  const carriedNames = layout.carried.filter((name) => tensors.has(prefix + name));
  for (const name of carriedNames) used.add(prefix + name);
  const rest = [...tensors].filter(([name]) => !used.has(name) && !isIgnored(layout, name, prefix));
  // A wrapper's other parts (a projection head, a second network) are not the backbone's business.
  const outside = rest.filter(([name]) => !name.startsWith(prefix));
  const unexpected = rest
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, t]) => `${fileNames.get(name)} ${show(t.dims)}`);
  if (missing.length + misshapen.length + unexpected.length > 0) {
    const problems = [
      missing.length > 0 ? `missing: ${few(missing)}` : "",
      misshapen.length > 0 ? `of another shape than the configuration says: ${few(misshapen)}` : "",
      unexpected.length > 0 ? `unexpected: ${few(unexpected)}` : "",
    ].filter(Boolean);
    throw new UserError(`the weights in ${file} don't fit, read as ${layout.name}; ${problems.join("; ")}`);
  }
  if (outside.length > 0) {
    warn(
      `${file} holds weights beside the backbone that are not used: ${few(outside.map(([name]) => required(fileNames, name)))}`,
    );
  }
  const weights = new Map<string, FloatTensor>();
  for (const weight of found) weights.set(weight.ours, await readJoint(weight));
  const carried = new Map<string, Tensor>();
  for (const name of carriedNames) carried.set(name, await readTensor(required(tensors, prefix + name)));
  return { weights, carried };
}

function isIgnored(layout: Layout, name: string, prefix: string): boolean {
  if (!layout.ignored) return false;
  return outerPrefixes(prefix).some(
    (outer) => name.startsWith(outer) && layout.ignored?.test(name.slice(outer.length)),
  );
}

/** Row blocks (q, k and v), one after the other; what is not there is zero. */
async function readJoint({ dims, parts, sizes }: Found): Promise<FloatTensor> {
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
    if (!entry) throw new UserError(`${layout.name} has no place for the weight ${ours}`);
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
