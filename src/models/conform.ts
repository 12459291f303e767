// A model rewritten so that another library's class can hold it: same function, other parts.
import type { VitConfig } from "./config.ts";
import { blockShape, prefixCount, qkvRows } from "./config.ts";
import { expectedWeights } from "./weight-table.ts";
import type { ModelDefinition } from "./definition.ts";
import type { Layout } from "./layouts/registry.ts";
import { layouts } from "./layouts/registry.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { rows, scaledRows, zeros } from "../utils/tensor.ts";
import { required } from "../utils/required.ts";
import { mergesTokens } from "./token-merging.ts";
import { counted } from "../utils/counted.ts";

type Weights = Map<string, FloatTensor>;

const filledWith = (dims: readonly number[], value: number): FloatTensor => {
  const tensor = zeros(dims);
  tensor.data.fill(value);
  return tensor;
};

const get = (weights: Weights, name: string) => required(weights, name);

/** Rows of the position table move into the learned tokens before the patches, or a table gets rows of zeros. */
function conformPositions(weights: Weights, from: VitConfig, to: VitConfig): void {
  if (from.positions.kind !== "learned" || to.positions.kind !== "learned") return;
  const [had, wanted] = [from.positions.prefix, to.positions.prefix];
  if (had === wanted) return;
  const table = get(weights, "pos_embed");
  let row = 0;
  for (const { weight, count } of from.prefix) {
    const token = get(weights, weight);
    const moved: FloatTensor = { ...token, data: token.data.slice() };
    for (let i = 0; i < count && row < had; i++, row++) {
      for (let d = 0; d < from.width; d++) moved.data[i * from.width + d] += table.data[row * from.width + d];
    }
    weights.set(weight, moved);
  }
  const patches = table.dims[1] - had;
  const next = zeros([1, wanted + patches, from.width]);
  next.data.set(table.data.subarray(had * from.width), wanted * from.width);
  weights.set("pos_embed", next);
}

/** LayerScale of ones, or LayerScale folded into the maps before it. */
function conformLayerScale(weights: Weights, from: VitConfig, to: VitConfig): void {
  if (from.layerScale === to.layerScale) return;
  for (let i = 0; i < from.depth; i++) {
    const { heads, mlpWidth } = blockShape(from, i);
    for (const [scale, map] of [
      ...(heads > 0 ? [["ls1", "attn.proj"]] : []),
      ...(mlpWidth > 0 ? [["ls2", "mlp.fc2"]] : []),
    ]) {
      const name = `blocks.${i}.${scale}.gamma`;
      if (to.layerScale) {
        weights.set(name, filledWith([from.width], 1));
        continue;
      }
      const gamma = get(weights, name).data;
      weights.delete(name);
      for (const part of ["weight", "bias"]) {
        const scaleName = `blocks.${i}.${map}.${part}`;
        weights.set(scaleName, scaledRows(get(weights, scaleName), gamma));
      }
    }
  }
}

/** A head on the pooled vector as one on class token and mean, which gives the mean no weight. */
function conformHead(weights: Weights, from: VitConfig, to: VitConfig): void {
  if (from.head?.input !== "pooled" || to.head?.input !== "class+mean") return;
  const head = get(weights, "head.weight");
  const wide = zeros([head.dims[0], 2 * from.width]);
  for (let k = 0; k < head.dims[0]; k++) wide.data.set(rows(head, k, k + 1).data, k * 2 * from.width);
  weights.set("head.weight", wide);
}

/** A head that gives the mean no weight is one on the class token alone. */
function withPlainHead(model: ModelDefinition): ModelDefinition {
  const { head, width, pooling } = model.config;
  if (head?.input !== "class+mean" || pooling !== "class") return model;
  const wide = get(model.weights as Weights, "head.weight");
  const half = zeros([head.classes, width]);
  for (let k = 0; k < head.classes; k++) {
    const row = wide.data.subarray(k * 2 * width, (k + 1) * 2 * width);
    if (!row.subarray(width).every((v) => v === 0)) return model;
    half.data.set(row.subarray(0, width), k * width);
  }
  const weights = new Map(model.weights).set("head.weight", half);
  return { ...model, config: { ...model.config, head: { ...head, input: "pooled" } }, weights };
}

/** The model as `to` describes it; `to` is what `Layout.holds` made of its configuration. */
export function conform(model: ModelDefinition, to: VitConfig): ModelDefinition {
  const from = model.config;
  const weights: Weights = new Map(model.weights);
  conformPositions(weights, from, to);
  conformLayerScale(weights, from, to);
  conformHead(weights, from, to);
  if (!from.qkvBias && to.qkvBias) {
    for (let i = 0; i < from.depth; i++) {
      const [, rows] = qkvRows(from, i, "v");
      if (rows > 0) weights.set(`blocks.${i}.attn.qkv.bias`, zeros([rows]));
    }
  }
  if (!from.patchBias && to.patchBias) weights.set("patch_embed.proj.bias", zeros([from.width]));
  if (from.head && !to.head) for (const part of ["weight", "bias"]) weights.delete(`head.${part}`);
  if (from.pooler && !to.pooler) for (const part of ["weight", "bias"]) weights.delete(`pooler.dense.${part}`);
  return { ...model, config: to, weights };
}

/** Weights that come, go or change their shape on the way from one configuration to another. */
function changedWeights(from: VitConfig, to: VitConfig): number {
  const [before, after] = [expectedWeights(from), expectedWeights(to)];
  const differs = ([name, dims]: [string, readonly number[]], other: typeof before) =>
    other.get(name)?.join() !== dims.join();
  return [...before].filter((w) => differs(w, after)).length + [...after].filter((w) => differs(w, before)).length;
}

/** The nearest configuration that a layout holds, or why there is none. Only our own has a place for blocks that differ. */
const heldBy = (layout: Layout, config: VitConfig): ReturnType<Layout["holds"]> =>
  config.blocks && layout.library !== "wecolora"
    ? {
        reason:
          "its classes want one width: the heads and MLP channels of all blocks must be the same, and queries as wide as values",
      }
    : layout.holds(config);

/** Whether a library has a class for the model. */
export function isHeldBy({ config }: Pick<ModelDefinition, "config">, library: Layout["library"]): boolean {
  if (library !== "wecolora" && mergesTokens(config)) return false;
  return layouts.some((layout) => layout.library === library && !("reason" in heldBy(layout, config)));
}

/**
 * A layout of a library that can hold the model, and the model as it stores it: the layout that it was read in, else the
 * one that changes least. Throws a UserError that says why none has.
 */
export function conformTo(
  given: ModelDefinition,
  library: Layout["library"],
): { layout: Layout; model: ModelDefinition } {
  if (library !== "wecolora" && mergesTokens(given.config))
    throw new UserError(
      `${library} has no class for a model that merges tokens. Export it as ONNX, or in wecolora's own format (safetensors).`,
    );
  const model = library === "timm" ? withPlainHead(given) : given;
  const reasons: string[] = [];
  let best: { layout: Layout; config: VitConfig; changes: number } | undefined;
  for (const layout of layouts.filter((candidate) => candidate.library === library)) {
    const config = heldBy(layout, model.config);
    if ("reason" in config) {
      reasons.push(`${layout.name}: ${config.reason}`);
      continue;
    }
    const changes = layout.name === model.origin.layout ? 0 : 1 + changedWeights(model.config, config);
    if (!best || changes < best.changes) best = { layout, config, changes };
  }
  if (best) return { layout: best.layout, model: conform(model, best.config) };
  const tokens = prefixCount(model.config);
  throw new UserError(
    `No layout of ${library} holds this model of ${counted(tokens, "token")} before the patches (${[...new Set(reasons)].join("; ")})`,
  );
}
