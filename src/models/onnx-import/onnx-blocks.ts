// Finding a vision transformer in an ONNX graph by its structure: names may be lost, but a softmax between two products
// is attention, and what leads to it and from it are a block's maps. What is found is proved by running (onnx-model.ts).
import type { Activation } from "../config.ts";
import type { NodeProto } from "../../engine/onnx/onnx_pb.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { concatRows, rows, zeros } from "../../utils/tensor.ts";
import type { OnnxGraph } from "./onnx-graph.ts";
import { transposed } from "./onnx-graph.ts";

export interface FoundNorm {
  readonly input: string;
  readonly output: string;
  readonly weight: FloatTensor;
  readonly bias: FloatTensor;
  readonly epsilon: number;
}

interface FoundLinear {
  readonly input: string;
  /** The value after the bias. */
  readonly output: string;
  /** `[out, in]` */
  readonly weight: FloatTensor;
  readonly bias?: FloatTensor;
}

export interface FoundBlock {
  readonly input: string;
  readonly output: string;
  readonly norm1: FoundNorm;
  readonly norm2: FoundNorm;
  readonly qkv: { readonly weight: FloatTensor; readonly bias?: FloatTensor };
  readonly proj: FoundLinear;
  readonly fc1: FoundLinear;
  readonly fc2: FoundLinear;
  readonly ls1?: FloatTensor;
  readonly ls2?: FloatTensor;
  readonly activation: Activation;
  /** As its reshapes say; undefined where they don't. */
  readonly heads?: number;
}

const attributeInt = (node: NodeProto, name: string, fallback: number) => {
  const found = node.attribute.find((a) => a.name === name);
  return found ? Number(found.i) : fallback;
};

/** Operators that move numbers without changing them. */
const moves = new Set([
  "Transpose",
  "Reshape",
  "Squeeze",
  "Unsqueeze",
  "Gather",
  "Slice",
  "Split",
  "Identity",
  "Cast",
  "Flatten",
]);

/** Longest way that is followed between two parts of a block. */
const farthest = 64;

export class BlockFinder {
  private readonly graph: OnnxGraph;
  /** Values that depend on the picture's numbers, not only on its size. */
  private readonly live = new Set<string>();
  readonly norms: readonly FoundNorm[];

  constructor(graph: OnnxGraph) {
    this.graph = graph;
    const initializers = new Set(graph.graph.initializer.map(({ name }) => name));
    for (const { name } of graph.graph.input) if (!initializers.has(name)) this.live.add(name);
    for (const node of graph.graph.node) {
      if (node.opType !== "Shape" && node.input.some((name) => this.live.has(name)))
        for (const name of node.output) this.live.add(name);
    }
    this.norms = graph.graph.node.flatMap((node) => this.norm(node) ?? []);
  }

  private fail(message: string): never {
    throw new UserError(`${this.graph.file} holds no vision transformer that can be recognised: ${message}`);
  }

  /** The patch embedding: the convolution nearest to the input whose stride is its kernel. */
  patchConvolution(): { node: NodeProto; weight: FloatTensor; bias?: FloatTensor; patch: number } {
    for (const node of this.graph.graph.node) {
      if (node.opType !== "Conv" || !this.live.has(node.input[0])) continue;
      const weight = this.graph.floats(node.input[1]);
      const strides = node.attribute.find(({ name }) => name === "strides")?.ints.map(Number);
      if (
        weight?.dims.length !== 4 ||
        !strides ||
        strides.some((s, i) => s !== weight.dims[2 + i]) ||
        strides[0] !== strides[1]
      )
        continue;
      return { node, weight, bias: node.input[2] ? this.graph.floats(node.input[2]) : undefined, patch: strides[0] };
    }
    return this.fail("no convolution cuts its pictures into patches");
  }

  /** A norm over the last axis that this node ends: one operator, or the six that older exporters write for it. */
  private norm(node: NodeProto): FoundNorm | undefined {
    const { graph } = this;
    if (node.opType === "LayerNormalization") {
      const weight = graph.floats(node.input[1]);
      const bias = node.input[2] ? graph.floats(node.input[2]) : weight && zeros(weight.dims);
      const epsilon = node.attribute.find((a) => a.name === "epsilon")?.f ?? 1e-5;
      if (!weight || !bias || weight.dims.length !== 1) return undefined;
      return { input: node.input[0], output: node.output[0], weight, bias, epsilon };
    }
    // (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight + bias, read from its end.
    if (node.opType !== "Add") return undefined;
    const [bias, scaled] = this.constantAndOther(node);
    const scaling = scaled === undefined ? undefined : graph.producer(scaled);
    if (!bias || scaling?.opType !== "Mul") return undefined;
    const [weight, divided] = this.constantAndOther(scaling);
    const division = divided === undefined ? undefined : graph.producer(divided);
    if (!weight || weight.dims.length !== 1 || division?.opType !== "Div") return undefined;
    const [centring, root] = [graph.producer(division.input[0]), graph.producer(division.input[1])];
    if (centring?.opType !== "Sub" || root?.opType !== "Sqrt") return undefined;
    const shifted = graph.producer(root.input[0]);
    const epsilon =
      shifted?.opType === "Add"
        ? shifted.input.map((name) => graph.scalar(name)).find((v) => v !== undefined)
        : undefined;
    if (epsilon === undefined) return undefined;
    return { input: centring.input[0], output: node.output[0], weight, bias, epsilon };
  }

  /** A binary node's constant operand and the name of the other. */
  private constantAndOther(node: NodeProto): [FloatTensor | undefined, string | undefined] {
    const index = node.input.findIndex((name) => !this.live.has(name) && this.graph.isConstant(name));
    if (index < 0 || node.input.length !== 2) return [undefined, undefined];
    return [this.graph.floats(node.input[index]), node.input[1 - index]];
  }

  /** A linear map that ends in a value, with or without a bias. */
  private linearInto(name: string): FoundLinear | undefined {
    const node = this.graph.producer(name);
    if (node?.opType === "Add") {
      const [bias, product] = this.constantAndOther(node);
      const inner = product === undefined ? undefined : this.linearInto(product);
      if (!inner || inner.bias || !bias || bias.data.length !== inner.weight.dims[0]) return undefined;
      return { ...inner, output: name, bias: { ...bias, dims: [bias.data.length] } };
    }
    if (node?.opType === "MatMul") {
      if (this.graph.constantDims(node.input[1])?.length !== 2) return undefined;
      const weight = this.graph.floats(node.input[1]);
      return weight && { input: node.input[0], output: name, weight: transposed(weight) };
    }
    if (node?.opType !== "Gemm" || this.graph.constantDims(node.input[1])?.length !== 2) return undefined;
    const weight = this.graph.floats(node.input[1]);
    const bias = node.input[2] ? this.graph.floats(node.input[2]) : undefined;
    return (
      weight && {
        input: node.input[0],
        output: name,
        weight: attributeInt(node, "transB", 0) ? weight : transposed(weight),
        bias,
      }
    );
  }

  /** A linear map that begins at a value: its product, and the bias after it. */
  private linearFrom(name: string): FoundLinear | undefined {
    for (const node of this.graph.consumers(name)) {
      if ((node.opType !== "MatMul" && node.opType !== "Gemm") || node.input[0] !== name) continue;
      const plain = this.linearInto(node.output[0]);
      if (!plain) continue;
      const withBias = this.graph.consumers(node.output[0]).map((next) => this.linearInto(next.output[0]));
      return plain.bias ? plain : (withBias.find((l) => l?.bias) ?? plain);
    }
    return undefined;
  }

  /** Back through moves and scalings to the linear map that a value comes from, with what was passed. */
  private trace(name: string): { linear: FoundLinear; passed: { node: NodeProto; value: string }[] } {
    const passed: { node: NodeProto; value: string }[] = [];
    let at = name;
    for (let i = 0; i < farthest; i++) {
      const linear = this.linearInto(at);
      if (linear) return { linear, passed };
      const node = this.graph.producer(at);
      const live = node?.input.filter((input) => this.live.has(input)) ?? [];
      const scales = node?.opType === "Mul" || node?.opType === "Div";
      if (!node || live.length !== 1 || !(moves.has(node.opType) || scales)) break;
      passed.push({ node, value: at });
      at = live[0];
    }
    return this.fail(`what enters the attention at ${name} is no linear map of its tokens`);
  }

  /** Which of q, k and v a part of a joint map is, by how it was cut out. */
  private partIndex(passed: readonly { node: NodeProto; value: string }[], width: number): number | undefined {
    for (const { node, value } of passed) {
      if (node.opType === "Split") return this.graph.outputIndex(value);
      const number =
        node.opType === "Gather"
          ? this.graph.integers(node.input[1])?.[0]
          : node.opType === "Slice"
            ? this.graph.integers(node.input[1])?.[0]
            : undefined;
      if (number !== undefined) return number < 3 ? number : Math.floor(number / width);
    }
    return undefined;
  }

  /** The number of heads that a reshape on the way names: `[..., heads, width / heads]`. */
  private headsOf(passed: readonly { node: NodeProto }[], width: number): number | undefined {
    for (const { node } of passed) {
      if (node.opType !== "Reshape") continue;
      const shape = this.graph.integers(node.input[1]) ?? [];
      for (let i = 0; i + 1 < shape.length; i++) {
        const [a, b] = [shape[i], shape[i + 1]];
        if (a !== undefined && a > 0 && b !== undefined && (a * b === width || (b === -1 && width % a === 0 && a > 1)))
          return a;
      }
    }
    return undefined;
  }

  /** On through moves to the next node that computes. */
  private onward(name: string): NodeProto | undefined {
    let at = name;
    for (let i = 0; i < farthest; i++) {
      const next = this.graph.consumers(at).filter(({ opType }) => opType !== "Shape");
      if (next.length !== 1) return undefined;
      if (!moves.has(next[0].opType)) return next[0];
      at = next[0].output[0];
    }
    return undefined;
  }

  /** What comes after a half block's last map: LayerScale where there is one, and the residual sum. */
  private residual(from: FoundLinear, into: string): { scale?: FloatTensor; output: string } {
    let at = from.output;
    let scale: FloatTensor | undefined;
    for (let i = 0; i < 4; i++) {
      for (const node of this.graph.consumers(at)) {
        if (node.opType === "Add" && node.input.includes(into)) return { scale, output: node.output[0] };
      }
      const scaling = this.graph.consumers(at).find(({ opType }) => opType === "Mul" || moves.has(opType));
      if (!scaling) break;
      if (scaling.opType === "Mul") {
        const [vector] = this.constantAndOther(scaling);
        if (vector) scale = { ...vector, dims: [vector.data.length] };
      }
      at = scaling.output[0];
    }
    return this.fail(
      `the block that ${from.output} belongs to has no residual sum with ${into} (only pre-norm models are known)`,
    );
  }

  /** The activation between the MLP's maps, by the operators on the way. */
  private activationBetween(from: string): { activation: Activation; output: FoundLinear } {
    const seen = new Set<string>();
    const operators = new Set<string>();
    let approximate: string | undefined;
    let sigmoidScale: number | undefined;
    let front = [from];
    for (let i = 0; i < farthest && front.length > 0; i++) {
      const next: string[] = [];
      for (const name of front) {
        if (name !== from) {
          const linear = this.linearFrom(name);
          if (linear) return { activation: activationOf(operators, approximate, sigmoidScale), output: linear };
        }
        for (const node of this.graph.consumers(name)) {
          operators.add(node.opType);
          if (node.opType === "Gelu")
            approximate = new TextDecoder().decode(
              node.attribute.find((a) => a.name === "approximate")?.s ?? new Uint8Array(),
            );
          if (node.opType === "Mul") sigmoidScale ??= this.scalarOf(node);
          for (const output of node.output) if (!seen.has(output)) next.push(output);
          node.output.forEach((output) => seen.add(output));
        }
      }
      front = next;
    }
    return this.fail(`the MLP that begins at ${from} does not end in a linear map`);
  }

  private scalarOf(node: NodeProto): number | undefined {
    return node.input
      .map((name) => (this.live.has(name) ? undefined : this.graph.scalar(name)))
      .find((v) => v !== undefined);
  }

  /** The block around one softmax. */
  private block(softmax: NodeProto): FoundBlock | undefined {
    const { graph } = this;
    let scores = graph.producer(softmax.input[0]);
    for (let i = 0; i < 6 && scores && scores.opType !== "MatMul"; i++) {
      const live = scores.input.filter((name) => this.live.has(name));
      scores =
        ["Mul", "Div", "Add", "Cast"].includes(scores.opType) && live.length === 1
          ? graph.producer(live[0])
          : undefined;
    }
    const product = this.onward(softmax.output[0]);
    if (!scores || product?.opType !== "MatMul") return undefined;
    const valueSide =
      product.input.find((name) => name !== softmax.output[0] && !this.comesFrom(name, softmax)) ?? product.input[1];
    const [q, k, v] = [scores.input[0], scores.input[1], valueSide].map((name) => this.trace(name));
    const norm1 = this.norms.find(({ output }) => output === q.linear.input);
    if (!norm1)
      return this.fail(
        `the attention at ${softmax.output[0]} reads what no layer norm gives (only pre-norm models are known)`,
      );
    const after = this.onward(product.output[0]);
    const proj = after && this.linearFrom(after.input[0]);
    if (!proj) return this.fail(`the attention at ${softmax.output[0]} has no output map`);
    // All heads side by side: the model's width, or less where heads were removed.
    const mixed = proj.weight.dims[1];
    const qkv = this.jointMap([q, k, v], mixed);
    const first = this.residual(proj, norm1.input);
    const norm2 = this.norms.find(({ input, output }) => input === first.output && this.linearFrom(output));
    const fc1 = norm2 && this.linearFrom(norm2.output);
    if (!norm2 || !fc1) return this.fail(`the block after ${first.output} has no MLP behind a layer norm`);
    const { activation, output: fc2 } = this.activationBetween(fc1.output);
    const second = this.residual(fc2, first.output);
    return {
      input: norm1.input,
      output: second.output,
      norm1,
      norm2,
      qkv,
      proj,
      fc1,
      fc2,
      ls1: first.scale,
      ls2: second.scale,
      activation,
      heads: this.headsOf(q.passed, mixed) ?? this.headsOf(v.passed, mixed),
    };
  }

  private comesFrom(name: string, node: NodeProto): boolean {
    let at = this.graph.producer(name);
    for (let i = 0; i < farthest && at; i++) {
      if (at === node) return true;
      const live = at.input.filter((input) => this.live.has(input));
      at = moves.has(at.opType) && live.length === 1 ? this.graph.producer(live[0]) : undefined;
    }
    return false;
  }

  /** q, k and v as one map, whether the file has one or three. */
  private jointMap(parts: readonly ReturnType<BlockFinder["trace"]>[], width: number): FoundBlock["qkv"] {
    const cut = parts.map(({ linear, passed }) => {
      const { weight, bias } = linear;
      if (weight.dims[0] === width) return { weight, bias };
      const index = this.partIndex(passed, width);
      if (weight.dims[0] !== 3 * width || index === undefined || index > 2) {
        return this.fail(
          `an attention's map is [${weight.dims.join(", ")}], which is neither one nor all of q, k and v`,
        );
      }
      const share = <T extends FloatTensor>(t: T) => rows(t, index * width, (index + 1) * width);
      return { weight: share(weight), bias: bias && share(bias) };
    });
    const weight = concatRows(cut.map((part) => part.weight));
    const bias = cut.some((part) => part.bias) ? concatRows(cut.map((part) => part.bias ?? zeros([width]))) : undefined;
    return { weight, bias };
  }

  /** All blocks, in the order in which tokens pass them. */
  blocks(): FoundBlock[] {
    const fused = this.graph.graph.node.find(({ opType }) =>
      /^(Multi(Head)?Attention|Attention|GroupQueryAttention|DecoderAttention)$/.test(opType),
    );
    if (fused) this.fail(`it has the fused operator ${fused.opType}; export it without optimisation`);
    const quantized = this.graph.graph.node.find(({ opType }) =>
      /QuantizeLinear|MatMulInteger|MatMulNBits/.test(opType),
    );
    if (quantized) this.fail(`it is quantized (${quantized.opType}); start from the float model`);
    const found = this.graph.graph.node
      .filter(({ opType, input }) => opType === "Softmax" && this.live.has(input[0]))
      .flatMap((node) => this.block(node) ?? []);
    if (found.length === 0) this.fail("there is no attention in it");
    const ordered = [found[0]];
    for (const block of found.slice(1)) if (block.input === ordered[ordered.length - 1].output) ordered.push(block);
    return ordered;
  }
}

function activationOf(
  operators: ReadonlySet<string>,
  approximate: string | undefined,
  scale: number | undefined,
): Activation {
  if (operators.has("Gelu")) return approximate === "tanh" ? "gelu_tanh" : "gelu";
  if (operators.has("Erf")) return "gelu";
  if (operators.has("Tanh")) return "gelu_tanh";
  if (operators.has("Sigmoid")) return scale !== undefined && Math.abs(scale - 1.702) < 1e-3 ? "quick_gelu" : "silu";
  return operators.has("Relu") ? "relu" : "gelu";
}
