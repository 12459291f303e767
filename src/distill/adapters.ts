// Low-rank adapters on the student's linear maps (the paper's "enhanced LoRA", section 3.2): y = Wx + b + BAx.
import { add, graph, input, matmul } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import type { VitConfig } from "../models/config.ts";
import type { LinearMap, TargetModule, WeightLookup } from "../models/vit.ts";
import { moduleWeights } from "../models/vit.ts";
import { linear, lowRank } from "../nn/layers.ts";
import { UserError } from "../utils/errors.ts";
import { randomStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { float32, rows, zeros } from "../utils/tensor.ts";

export interface AdapterPlan {
  readonly rank: number;
  readonly targetModules: readonly TargetModule[];
}

/** `blocks.0.q.lora_A` */
export function adapterName(block: number, module: TargetModule, part: "A" | "B"): string {
  return `blocks.${block}.${module}.lora_${part}`;
}

/** Inputs and outputs of a module's linear map. */
function moduleSize({ width, mlpWidth }: VitConfig, module: TargetModule): { inputs: number; outputs: number } {
  return { inputs: module === "fc2" ? mlpWidth : width, outputs: module === "fc1" ? mlpWidth : width };
}

/** Name and shape of every adapter: A is `[rank, in]`, B is `[out, rank]`. */
export function adapterShapes(config: VitConfig, plan: AdapterPlan): Map<string, readonly [number, number]> {
  const shapes = new Map<string, readonly [number, number]>();
  for (let block = 0; block < config.depth; block++) {
    for (const module of plan.targetModules) {
      const { inputs, outputs } = moduleSize(config, module);
      shapes.set(adapterName(block, module, "A"), [plan.rank, inputs]);
      shapes.set(adapterName(block, module, "B"), [outputs, plan.rank]);
    }
  }
  return shapes;
}

/** A from a Kaiming-uniform distribution with a = sqrt 5, which is +-1/sqrt(in); B zero, so that nothing changes yet. */
export function freshAdapters(config: VitConfig, plan: AdapterPlan, seed: number): Map<string, FloatTensor> {
  const adapters = new Map<string, FloatTensor>();
  for (const [name, dims] of adapterShapes(config, plan)) {
    const tensor = zeros(dims);
    if (name.endsWith("lora_A")) {
      const random = randomStream(seed, "adapter", name);
      const bound = 1 / Math.sqrt(dims[1]);
      for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = (2 * random.uniform() - 1) * bound;
    }
    adapters.set(name, tensor);
  }
  return adapters;
}

/** Checks adapters that the caller gives. Throws a UserError on a missing, unknown or misshapen one. */
export function checkAdapters(given: ReadonlyMap<string, FloatTensor>, config: VitConfig, plan: AdapterPlan): void {
  const shapes = adapterShapes(config, plan);
  for (const [name, dims] of shapes) {
    const tensor = given.get(name);
    if (!tensor) throw new UserError(`the initial adapters lack ${name} [${dims.join(", ")}]`);
    if (tensor.dims.join() !== dims.join()) {
      throw new UserError(
        `the initial adapter ${name} is [${tensor.dims.join(", ")}], but [${dims.join(", ")}] is needed`,
      );
    }
  }
  for (const name of given.keys()) {
    if (!shapes.has(name)) throw new UserError(`the initial adapter ${name} fits no kept block and target module`);
  }
}

/** Adapters as inputs of a graph. */
export function adapterInputs(config: VitConfig, plan: AdapterPlan): Map<string, Value> {
  return new Map([...adapterShapes(config, plan)].map(([name, dims]) => [name, input(name, "float32", dims)]));
}

/** Linear maps with their adapters beside them. */
export function adaptedLinear(adapters: ReadonlyMap<string, Value>): LinearMap {
  return (x, weights, block, module) => {
    const A = adapters.get(adapterName(block, module, "A"));
    const B = adapters.get(adapterName(block, module, "B"));
    const y = linear(x, weights);
    return A && B ? add(y, lowRank(x, { A, B })) : y;
  };
}

/** A graph from adapters to folded weights, W + BA, one output per module: `blocks.0.q`. */
export function foldingGraph(config: VitConfig, plan: AdapterPlan, weight: WeightLookup): Graph {
  const adapters = adapterInputs(config, plan);
  const outputs = new Map<string, Value>();
  for (let block = 0; block < config.depth; block++) {
    for (const module of plan.targetModules) {
      const A = adapters.get(adapterName(block, module, "A")) as Value;
      const B = adapters.get(adapterName(block, module, "B")) as Value;
      outputs.set(`blocks.${block}.${module}`, add(moduleWeights(config, weight, block, module).weight, matmul(B, A)));
    }
  }
  return graph([...adapters.values()], outputs);
}

/** The student's weights with the folded ones in their places; all others are shared. */
export function insertFolded(
  config: VitConfig,
  weights: ReadonlyMap<string, FloatTensor>,
  folded: ReadonlyMap<string, FloatTensor>,
): Map<string, FloatTensor> {
  const out = new Map(weights);
  const { width } = config;
  for (let block = 0; block < config.depth; block++) {
    const prefix = `blocks.${block}`;
    for (const [module, name] of [
      ["proj", "attn.proj"],
      ["fc1", "mlp.fc1"],
      ["fc2", "mlp.fc2"],
    ]) {
      const tensor = folded.get(`${prefix}.${module}`);
      if (tensor) out.set(`${prefix}.${name}.weight`, tensor);
    }
    const parts = ["q", "k", "v"].map((module) => folded.get(`${prefix}.${module}`));
    if (!parts.some(Boolean)) continue;
    const joint = float32(weights.get(`${prefix}.attn.qkv.weight`)?.data.slice() as Float32Array, [3 * width, width]);
    parts.forEach((part, i) => {
      if (part) rows(joint, i * width, (i + 1) * width).data.set(part.data);
    });
    out.set(`${prefix}.attn.qkv.weight`, joint);
  }
  return out;
}
