// From a file's weights to ours and back, driven by a layout's tables.
import { UserError } from "../utils/errors.ts";
import { toFloat32 } from "../utils/half.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";
import type { VitConfig } from "./config.ts";
import { expectedWeights } from "./config.ts";
import type { Layout } from "./layouts.ts";

type Names = readonly string[];

/** Our names of a layout with the names that stand for each in a file whose backbone has `prefix`. */
function fileNames(layout: Layout, prefix: string, depth: number): Map<string, Names> {
  const names = new Map<string, Names>();
  const list = (theirs: string | readonly string[], before: string): Names =>
    (typeof theirs === "string" ? [theirs] : theirs).map((name) => before + name);
  for (const [ours, theirs] of layout.outer) names.set(ours, list(theirs, prefix));
  for (const [ours, theirs] of layout.unprefixed) names.set(ours, list(theirs, ""));
  for (let i = 0; i < depth; i++) {
    for (const [ours, theirs] of layout.block) {
      names.set(`blocks.${i}.${ours}`, list(theirs, prefix + layout.blockPrefix(i)));
    }
  }
  return names;
}

function findPrefix(layout: Layout, tensors: ReadonlyMap<string, Tensor>): string {
  const probe = layout.outer.find(([ours]) => ours === "patch_embed.proj.weight")?.[1] as string;
  return layout.prefixes.find((prefix) => tensors.has(prefix + probe)) ?? layout.prefixes[0];
}

/** Whether our weight stands in the file; for reading a configuration that depends on it. */
export function weightFinder(layout: Layout, tensors: ReadonlyMap<string, Tensor>): (ours: string) => boolean {
  const names = fileNames(layout, findPrefix(layout, tensors), 1);
  return (ours) => (names.get(ours) ?? []).some((name) => tensors.has(name));
}

export interface NamedWeights {
  readonly weights: Map<string, FloatTensor>;
  /** Weights that the forward pass does not read, under the file's own names without prefix. */
  readonly carried: Map<string, Tensor>;
}

function show(dims: readonly number[]): string {
  return `[${dims.join(", ")}]`;
}

/** Some of the items, for a message that stays readable. */
function few(items: readonly string[]): string {
  return items.length > 6 ? `${items.slice(0, 6).join(", ")} and ${items.length - 6} more` : items.join(", ");
}

/**
 * Reads a model's weights by our names, as float32. Throws a UserError that lists missing, misshapen and unexpected
 * weights by name and shape, and says which layout they were read as.
 */
export function readWeights(
  layout: Layout,
  config: VitConfig,
  tensors: ReadonlyMap<string, Tensor>,
  file: string,
): NamedWeights {
  const prefix = findPrefix(layout, tensors);
  const names = fileNames(layout, prefix, config.depth);
  const used = new Set<string>();
  const missing: string[] = [];
  const misshapen: string[] = [];
  const weights = new Map<string, FloatTensor>();
  for (const [ours, dims] of expectedWeights(config)) {
    const theirs = names.get(ours) ?? [ours];
    const parts = theirs.map((name) => {
      used.add(name);
      const tensor = tensors.get(name);
      if (!tensor) missing.push(`${name} ${show(partDims(dims, theirs.length))}`);
      return tensor;
    });
    if (!parts.every((part) => part !== undefined)) continue;
    const wanted = partDims(dims, parts.length);
    parts.forEach((part, i) => {
      if (show(part.dims) !== show(wanted)) misshapen.push(`${theirs[i]} ${show(part.dims)} (needs ${show(wanted)})`);
    });
    if (misshapen.length === 0) weights.set(ours, join(parts, dims));
  }
  const carried = new Map<string, Tensor>();
  for (const name of layout.carried) {
    const tensor = tensors.get(prefix + name);
    if (!tensor) continue;
    used.add(prefix + name);
    carried.set(name, tensor);
  }
  const unexpected = [...tensors].filter(([name]) => !used.has(name)).map(([name, t]) => `${name} ${show(t.dims)}`);
  if (missing.length + misshapen.length + unexpected.length > 0) {
    const problems = [
      missing.length > 0 ? `missing: ${few(missing)}` : "",
      misshapen.length > 0 ? `of another shape than the configuration says: ${few(misshapen)}` : "",
      unexpected.length > 0 ? `unexpected: ${few(unexpected)}` : "",
    ].filter(Boolean);
    throw new UserError(`the weights in ${file} don't fit, read as ${layout.name}; ${problems.join("; ")}`);
  }
  return { weights, carried };
}

function partDims(dims: readonly number[], parts: number): readonly number[] {
  return parts === 1 ? dims : [dims[0] / parts, ...dims.slice(1)];
}

/** Joins row blocks (q, k and v) into one tensor; a single one is taken as it lies. */
function join(parts: readonly Tensor[], dims: readonly number[]): FloatTensor {
  if (parts.length === 1) return { ...toFloat32(parts[0]), dims };
  const joint = zeros(dims);
  let at = 0;
  for (const part of parts) {
    const { data } = toFloat32(part);
    joint.data.set(data, at);
    at += data.length;
  }
  return joint;
}

/** Our weights under a layout's names. Throws where the layout has no name for one. */
export function nameWeights(layout: Layout, config: VitConfig, named: NamedWeights): Map<string, FloatTensor | Tensor> {
  const prefix = config.head ? (layout.prefixes.at(-1) as string) : layout.prefixes[0];
  const names = fileNames(layout, prefix, config.depth);
  const out = new Map<string, Tensor>();
  for (const [ours, tensor] of named.weights) {
    const theirs = names.get(ours);
    if (!theirs) throw new UserError(`${layout.name} has no place for the weight ${ours}`);
    const rowCount = tensor.dims[0] / theirs.length;
    const size = tensor.data.length / theirs.length;
    theirs.forEach((name, i) => {
      const dims = theirs.length === 1 ? tensor.dims : [rowCount, ...tensor.dims.slice(1)];
      out.set(name, { type: "float32", dims, data: tensor.data.subarray(i * size, (i + 1) * size) });
    });
  }
  for (const name of layout.carried) {
    const tensor = named.carried.get(name);
    if (tensor) out.set(prefix + name, tensor);
  }
  return out;
}
