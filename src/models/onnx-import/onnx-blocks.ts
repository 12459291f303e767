// Finding a vision transformer in an ONNX graph by its structure: names may be lost, but a softmax between two products
// is attention, and what leads to it and from it are a block's maps. What is found is proved by running (onnx-model.ts).
import type { Activation } from "../config.ts";
import type { NodeProto } from "../../engine/onnx/onnx_pb.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { concatRows, rows, zeros } from "../../utils/tensor.ts";
import { shapeText, shorten } from "../../utils/quote.ts";
import type { OnnxGraph } from "./onnx-graph.ts";
import { attributeOf, namesRead } from "./onnx-graph.ts";

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
  /** Of a gated MLP, both its maps: first the one that the file's nodes name first. */
  readonly fc1: readonly FoundLinear[];
  readonly fc2: FoundLinear;
  readonly ls1?: FloatTensor;
  readonly ls2?: FloatTensor;
  readonly activation: Activation;
  /** As its reshapes say; undefined where they don't. */
  readonly heads?: number;
  /** The values that queries are rotated by, where they are. */
  readonly rotation?: FoundRotation;
  /** What is added to the scores and is no constant zero for sure: a mask, or positions relative to one another. */
  readonly scoreBias?: string;
}

/** Names of the cosines and sines of rotary positions. */
export interface FoundRotation {
  readonly cos: string;
  readonly sin: string;
}

const attributeInt = (node: NodeProto, name: string, fallback: number) => {
  const attribute = attributeOf(node, name);
  return attribute ? Number(attribute.i) : fallback;
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
/** Values that a search looks at between two parts of a block. */
const mostSeen = 256;
/** Softmaxes over tokens; no vision transformer comes near. */
const mostSoftmaxes = 512;

/** What stands on the way from a linear map to the attention. */
interface Traced {
  readonly linear: FoundLinear;
  /** From the attention back to the map. */
  readonly passed: readonly { readonly node: NodeProto; readonly value: string }[];
  readonly rotation?: FoundRotation;
}

export class BlockFinder {
  private readonly graph: OnnxGraph;
  /** Values that depend on the image's numbers, not only on its size. */
  private readonly live = new Set<string>();
  private readonly normsByOutput = new Map<string, FoundNorm>();
  private readonly normsByInput = new Map<string, FoundNorm[]>();

  constructor(graph: OnnxGraph) {
    this.graph = graph;
    const initializers = new Set(graph.graph.initializer.map(({ name }) => name));
    for (const { name } of graph.graph.input) if (!initializers.has(name)) this.live.add(name);
    for (const node of graph.graph.node) {
      if (node.opType !== "Shape" && node.opType !== "Size" && namesRead(node).some((name) => this.live.has(name)))
        for (const name of node.output) this.live.add(name);
    }
    for (const node of graph.graph.node) {
      const norm = this.norm(node);
      if (!norm) continue;
      this.normsByOutput.set(norm.output, norm);
      const same = this.normsByInput.get(norm.input);
      if (!same) this.normsByInput.set(norm.input, [norm]);
      else if (same.length < farthest) same.push(norm);
    }
  }

  /** The norm that gives a value. */
  normGiving(name: string): FoundNorm | undefined {
    return this.normsByOutput.get(name);
  }

  /** The norms that read a value. */
  normsOf(name: string): readonly FoundNorm[] {
    return this.normsByInput.get(name) ?? [];
  }

  private fail(message: string): never {
    throw new UserError(`${this.graph.file} holds no vision transformer that can be recognised: ${message}.`, {
      code: "NOT_A_VIT",
    });
  }

  /** The patch embedding: the convolution nearest to the input whose stride is its kernel. */
  patchConvolution(): { node: NodeProto; weight: FloatTensor; bias?: FloatTensor; patch: number } {
    for (const node of this.graph.graph.node) {
      if (node.opType !== "Conv" || !this.live.has(node.input[0])) continue;
      const weight = this.graph.floats(node.input[1]);
      const strides = attributeOf(node, "strides")?.ints.map(Number);
      if (
        weight?.dims.length !== 4 ||
        !strides ||
        strides.some((s, i) => s !== weight.dims[2 + i]) ||
        strides[0] !== strides[1]
      )
        continue;
      return { node, weight, bias: node.input[2] ? this.graph.floats(node.input[2]) : undefined, patch: strides[0] };
    }
    return this.fail("no convolution cuts its images into patches");
  }

  /** A norm over the last axis that this node ends: one operator, or the six that older exporters write for it. */
  private norm(node: NodeProto): FoundNorm | undefined {
    const { graph } = this;
    if (node.opType === "LayerNormalization") {
      if (graph.constantDims(node.input[1])?.length !== 1) return undefined;
      const weight = graph.floats(node.input[1]);
      const bias = node.input[2] ? graph.floats(node.input[2]) : weight && zeros(weight.dims);
      const epsilon = attributeOf(node, "epsilon")?.f ?? 1e-5;
      if (!weight || !bias || weight.dims.length !== 1) return undefined;
      return { input: node.input[0], output: node.output[0], weight, bias, epsilon };
    }
    // (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight + bias, read from its end.
    if (node.opType !== "Add") return undefined;
    const [biasName, scaled] = this.constantAndOther(node);
    const scaling = scaled === undefined ? undefined : graph.producer(scaled);
    if (biasName === undefined || scaling?.opType !== "Mul") return undefined;
    const [weightName, divided] = this.constantAndOther(scaling);
    const division = divided === undefined ? undefined : graph.producer(divided);
    if (weightName === undefined || division?.opType !== "Div") return undefined;
    if (graph.constantDims(weightName)?.length !== 1) return undefined;
    const [weight, bias] = [graph.floats(weightName), graph.floats(biasName)];
    if (!weight || !bias) return undefined;
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

  /** The names of a binary node's constant operand and of the other. */
  private constantAndOther(node: NodeProto): [string | undefined, string | undefined] {
    const index = node.input.findIndex((name) => !this.live.has(name) && this.graph.isConstant(name));
    if (index < 0 || node.input.length !== 2) return [undefined, undefined];
    return [node.input[index], node.input[1 - index]];
  }

  /** A vector among a binary node's operands, and the name of the other. */
  private vectorAndOther(node: NodeProto): [FloatTensor | undefined, string | undefined] {
    const [constant, other] = this.constantAndOther(node);
    return [constant === undefined ? undefined : this.graph.floats(constant), other];
  }

  /** The matrix product that gives a value, behind changes of its type; Gemm brings its bias. */
  private productInto(name: string): FoundLinear | undefined {
    const node = this.graph.producer(this.beforeCasts(name));
    if (node?.opType !== "MatMul" && node?.opType !== "Gemm") return undefined;
    if (!this.live.has(node.input[0]) || this.graph.constantDims(node.input[1])?.length !== 2) return undefined;
    const weight = this.graph.floats(node.input[1]);
    if (!weight) return undefined;
    const input = this.beforeCasts(node.input[0]);
    const rotated = () => this.graph.transposed(`${node.input[1]}^T`, weight);
    if (node.opType === "MatMul") return { input, output: name, weight: rotated() };
    // Factors other than 1, and a transposed input, are no linear map of tokens.
    const factor = (attribute: string) => attributeOf(node, attribute)?.f ?? 1;
    if (attributeInt(node, "transA", 0) !== 0 || factor("alpha") !== 1 || (node.input[2] && factor("beta") !== 1))
      return undefined;
    const bias = node.input[2] ? this.graph.floats(node.input[2]) : undefined;
    return { input, output: name, weight: attributeInt(node, "transB", 0) ? weight : rotated(), bias };
  }

  /** The value before nodes that only change its type. */
  private beforeCasts(name: string): string {
    let at = name;
    for (let i = 0; i < 4; i++) {
      const node = this.graph.producer(at);
      if (node?.opType !== "Cast" && node?.opType !== "Identity") break;
      at = node.input[0];
    }
    return at;
  }

  /** A linear map that ends in a value, with or without a bias. */
  private linearInto(name: string): FoundLinear | undefined {
    const node = this.graph.producer(name);
    if (node?.opType !== "Add") return this.productInto(name);
    const [biasName, product] = this.constantAndOther(node);
    const inner = product === undefined ? undefined : this.productInto(product);
    if (biasName === undefined || !inner || inner.bias) return undefined;
    if (this.graph.constantDims(biasName)?.reduce((count, d) => count * d, 1) !== inner.weight.dims[0])
      return undefined;
    const bias = this.graph.floats(biasName);
    return bias && { ...inner, output: name, bias: { ...bias, dims: [bias.data.length] } };
  }

  /** The linear maps that read a value: each its product, and the bias after it. */
  private linearsFrom(name: string): FoundLinear[] {
    return this.readersBehindCasts(name).flatMap((node) => {
      if ((node.opType !== "MatMul" && node.opType !== "Gemm") || this.beforeCasts(node.input[0]) !== name) return [];
      const plain = this.productInto(node.output[0]);
      if (!plain) return [];
      const withBias = this.readersBehindCasts(node.output[0]).map((next) => this.linearInto(next.output[0]));
      return [plain.bias ? plain : (withBias.find((linear) => linear?.bias) ?? plain)];
    });
  }

  private linearFrom(name: string): FoundLinear | undefined {
    return this.linearsFrom(name)[0];
  }

  /** Nodes that read a value, also behind nodes that only change its type. */
  private readersBehindCasts(name: string): NodeProto[] {
    const readers: NodeProto[] = [];
    const open = [name];
    for (let at = open.pop(), seen = 0; at !== undefined && seen < mostSeen; at = open.pop(), seen++) {
      for (const node of this.graph.consumers(at)) {
        if (node.opType === "Cast" || node.opType === "Identity") open.push(node.output[0]);
        else readers.push(node);
      }
    }
    return readers;
  }

  /**
   * Back through moves, scalings and rotations to the one linear map that a value comes from. Rotary positions read their
   * map several times: `x cos + [-x2, x1] sin` for patches, joined with the tokens before them.
   */
  private trace(name: string): Traced {
    const linears = new Map<string, FoundLinear>();
    const rotations: FoundRotation[] = [];
    const seen = new Set([name]);
    let front = [name];
    for (let i = 0; i < farthest && front.length > 0 && seen.size < mostSeen; i++) {
      const next: string[] = [];
      for (const at of front) {
        const linear = this.linearInto(at);
        if (linear) {
          linears.set(linear.output, linear);
          continue;
        }
        const node = this.graph.producer(at);
        const live = node?.input.filter((input) => this.live.has(input)) ?? [];
        if (!node || live.length === 0) return this.notTraced(name);
        const rotation = this.rotationAt(node);
        if (rotation) rotations.push(rotation);
        const joins = rotation !== undefined || node.opType === "Concat";
        const scales = node.opType === "Mul" || node.opType === "Div" || node.opType === "Neg";
        if (this.normsByOutput.has(at) || /Normalization$/.test(node.opType))
          return this.fail("its queries and keys are normalized (QK norm), which is not supported");
        if (!joins && !(live.length === 1 && (moves.has(node.opType) || scales))) return this.notTraced(name);
        for (const input of live) {
          if (seen.has(input)) continue;
          seen.add(input);
          next.push(input);
        }
      }
      front = next;
    }
    const [linear] = linears.values();
    if (linears.size !== 1 || front.length > 0) return this.notTraced(name);
    return { linear, passed: this.wayBack(name, linear.output), rotation: rotations[0] };
  }

  /** One way from a value back to what it comes from: nodes that all ways share are on it. */
  private wayBack(name: string, end: string): Traced["passed"] {
    const passed: { node: NodeProto; value: string }[] = [];
    let at: string | undefined = name;
    while (at !== undefined && at !== end && passed.length < mostSeen) {
      const node = this.graph.producer(at);
      if (!node) break;
      passed.push({ node, value: at });
      at = node.input.find((input) => this.live.has(input));
    }
    return passed;
  }

  private notTraced(name: string): never {
    const seen = new Set([name]);
    for (const at of seen) {
      const node = this.graph.producer(at);
      if (seen.size > farthest || !node) continue;
      if (node.opType === "Neg")
        this.fail("positions rotate its queries and keys in another way than DINOv3's, which alone is supported");
      for (const input of node.input) if (this.live.has(input)) seen.add(input);
    }
    return this.fail(
      `what enters the attention at "${shorten(name)}" is not a linear map of the tokens (queries, keys and values must be, but for rotary positions)`,
    );
  }

  /** Cosines and sines, where a node ends a rotation of queries or keys. */
  private rotationAt(node: NodeProto): FoundRotation | undefined {
    if (node.opType !== "Add") return undefined;
    const parts = node.input.map((name) => {
      const product = this.graph.producer(name);
      if (product?.opType !== "Mul") return undefined;
      const table = product.input.find((input) => !this.live.has(input));
      const rotated = product.input.find((input) => this.live.has(input));
      if (table === undefined || rotated === undefined) return undefined;
      return { table, isTurned: this.graph.producer(rotated)?.opType === "Concat" };
    });
    const plain = parts.find((part) => part && !part.isTurned);
    const rotated = parts.find((part) => part?.isTurned);
    return plain && rotated && { cos: plain.table, sin: rotated.table };
  }

  /** Which of q, k and v a part of a joint map is, by how it was cut out. */
  private partIndex(passed: readonly { node: NodeProto; value: string }[], width: number): number | undefined {
    // From the map on: rotary positions cut what is one part already.
    for (const { node, value } of [...passed].reverse()) {
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
      const next = this.graph
        .consumers(at)
        .filter(({ opType }) => opType !== "Shape" && opType !== "Size" && opType !== "IsNaN");
      if (next.length !== 1) return undefined;
      if (!moves.has(next[0].opType) && !this.replacesNaN(next[0], at)) return next[0];
      at = next[0].output[0];
    }
    return undefined;
  }

  /** Whether a node is `where(isnan(x), 0, x)`: PyTorch's answer to rows that a mask hides whole. */
  private replacesNaN(node: NodeProto, name: string): boolean {
    if (node.opType !== "Where" || node.input[2] !== name) return false;
    const condition = this.graph.producer(node.input[0]);
    return condition?.opType === "IsNaN" && condition.input[0] === name;
  }

  /** What comes after a half block's last map: LayerScale where there is one, and the residual sum. */
  private residual(from: FoundLinear, into: string): { scale?: FloatTensor; output: string } {
    let at = from.output;
    let scale: FloatTensor | undefined;
    for (let i = 0; i < 4; i++) {
      for (const node of this.graph.consumers(at)) {
        const reads = (name: string) => node.input.some((input) => this.beforeCasts(input) === this.beforeCasts(name));
        if (node.opType === "Add" && reads(into) && reads(at)) return { scale, output: node.output[0] };
      }
      const scaling = this.graph.consumers(at).find(({ opType }) => opType === "Mul" || moves.has(opType));
      if (!scaling) break;
      if (scaling.opType === "Mul") {
        const [vector] = this.vectorAndOther(scaling);
        if (vector) scale = { ...vector, dims: [vector.data.length] };
      }
      at = scaling.output[0];
    }
    return this.fail(
      `the block that "${shorten(from.output)}" belongs to has no residual sum with "${shorten(into)}" (only pre-norm models are supported)`,
    );
  }

  /** The MLP behind a norm: one map, an activation and a second map, or two maps of which the one gates the other. */
  private mlpBehind(norm: FoundNorm): { fc1: FoundLinear[]; fc2: FoundLinear; activation: Activation } | undefined {
    const entering = this.linearsFrom(norm.output);
    if (entering.length === 0 || entering.length > 2) return undefined;
    const begins = new Set(entering.map(({ output }) => output));
    const seen = new Set<string>(begins);
    let front = [...begins];
    for (let i = 0; i < farthest && front.length > 0 && seen.size < mostSeen; i++) {
      const next: string[] = [];
      for (const name of front) {
        const leaving = begins.has(name) ? undefined : this.linearFrom(name);
        if (leaving) return { fc1: entering, fc2: leaving, activation: this.activationBetween(begins, leaving.input) };
        for (const { output } of this.graph.consumers(name)) {
          for (const value of output) {
            if (seen.has(value)) continue;
            seen.add(value);
            next.push(value);
          }
        }
      }
      front = next;
    }
    return undefined;
  }

  /** The activation between an MLP's maps, by the operators on the way back from the second to the first. */
  private activationBetween(begins: ReadonlySet<string>, end: string): Activation {
    const operators = new Set<string>();
    let approximate: string | undefined;
    let sigmoidScale: number | undefined;
    const seen = new Set([end]);
    const open = [end];
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      const node = begins.has(name) ? undefined : this.graph.producer(name);
      if (!node || seen.size > mostSeen) continue;
      operators.add(node.opType);
      if (/Normalization$/.test(node.opType) || this.normsByOutput.has(name))
        return this.fail("its MLP has a norm inside, which is not supported");
      if (node.opType === "Gelu")
        approximate = new TextDecoder().decode(attributeOf(node, "approximate")?.s ?? new Uint8Array());
      if (node.opType === "Sigmoid") {
        const scaling = this.graph.producer(node.input[0]);
        sigmoidScale = scaling?.opType === "Mul" ? this.scalarOf(scaling) : undefined;
      }
      for (const input of node.input) {
        if (!this.live.has(input) || seen.has(input)) continue;
        seen.add(input);
        open.push(input);
      }
    }
    const activation = activationOf(operators, approximate, sigmoidScale);
    return (
      activation ??
      this.fail(`the activation of its MLP is not known (${shorten([...operators].join(", "), 200)} were found)`)
    );
  }

  private scalarOf(node: NodeProto): number | undefined {
    return node.input
      .map((name) => (this.live.has(name) ? undefined : this.graph.scalar(name)))
      .find((v) => v !== undefined);
  }

  /** The product of queries and keys that a softmax's scores come from, and what is added to it on the way. */
  private scoresOf(softmax: NodeProto): { product: NodeProto; bias?: string } | undefined {
    let bias: string | undefined;
    let at = softmax.input[0];
    for (let i = 0; i < 8; i++) {
      const node = this.graph.producer(at);
      if (node?.opType === "MatMul") return { product: node, bias };
      const live = node?.input.filter((name) => this.live.has(name)) ?? [];
      if (!node || live.length !== 1) return undefined;
      if (!["Mul", "Div", "Add", "Cast", "Identity", "Reshape", "Where"].includes(node.opType)) return undefined;
      if (node.opType === "Add" || node.opType === "Where") bias = node.input.find((name) => !this.live.has(name));
      at = live[0];
    }
    return undefined;
  }

  /** The block around one softmax. */
  private block(softmax: NodeProto): FoundBlock | undefined {
    const scores = this.scoresOf(softmax);
    const product = this.onward(softmax.output[0]);
    if (!scores || product?.opType !== "MatMul") return undefined;
    // A learned query over all tokens pools them; it is part of what stands behind the backbone.
    if (scores.product.input.some((name) => !this.live.has(name))) return undefined;
    const valueSide =
      product.input.find((name) => name !== softmax.output[0] && !this.comesFrom(name, softmax)) ?? product.input[1];
    const [q, k, v] = [scores.product.input[0], scores.product.input[1], valueSide].map((name) => this.trace(name));
    const norm1 = this.normGiving(q.linear.input);
    if (!norm1)
      return this.fail(
        `the attention at "${shorten(softmax.output[0])}" reads what no layer norm gives (only pre-norm models are supported)`,
      );
    const after = this.onward(product.output[0]);
    const proj = after && this.linearFrom(this.beforeCasts(after.input[0]));
    if (!proj) return this.fail(`the attention at "${shorten(softmax.output[0])}" has no output map`);
    if ((q.rotation === undefined) !== (k.rotation === undefined))
      return this.fail("positions rotate its queries or its keys, but not both");
    // All heads side by side: the model's width, or less where heads were removed.
    const mixed = proj.weight.dims[1];
    const qkv = this.jointMap([q, k, v], mixed);
    const first = this.residual(proj, norm1.input);
    const candidates = this.normsOf(first.output).flatMap((norm2) => {
      const mlp = this.mlpBehind(norm2);
      return mlp ? [{ norm2, ...mlp }] : [];
    });
    if (candidates.length === 0)
      return this.fail(`the block after "${shorten(first.output)}" has no MLP behind a layer norm`);
    const [mlp] = candidates;
    const second = this.residual(mlp.fc2, first.output);
    return {
      input: norm1.input,
      output: second.output,
      norm1,
      ...mlp,
      qkv,
      proj,
      ls1: first.scale,
      ls2: second.scale,
      heads: this.headsOf(q.passed, mixed) ?? this.headsOf(v.passed, mixed),
      rotation: q.rotation,
      scoreBias: scores.bias,
    };
  }

  private comesFrom(name: string, node: NodeProto): boolean {
    let at = this.graph.producer(name);
    for (let i = 0; i < farthest && at; i++) {
      if (at === node) return true;
      const live = at.input.filter((input) => this.live.has(input));
      const passes = this.replacesNaN(at, at.input[2]) || (moves.has(at.opType) && live.length === 1);
      at = passes ? this.graph.producer(live[live.length - 1]) : undefined;
    }
    return false;
  }

  /** q, k and v as one map, whether the file has one or three. */
  private jointMap(parts: readonly Traced[], width: number): FoundBlock["qkv"] {
    const cut = parts.map(({ linear, passed }) => {
      const { weight, bias } = linear;
      if (weight.dims[0] === width) return { weight, bias };
      const index = this.partIndex(passed, width);
      if (weight.dims[0] !== 3 * width || index === undefined || index > 2) {
        return this.fail(`an attention's map is ${shapeText(weight.dims)}, which is neither one nor all of q, k and v`);
      }
      const share = <T extends FloatTensor>(t: T) => rows(t, index * width, (index + 1) * width);
      return { weight: share(weight), bias: bias && share(bias) };
    });
    const weight = concatRows(cut.map((part) => part.weight));
    const bias = cut.some((part) => part.bias) ? concatRows(cut.map((part) => part.bias ?? zeros([width]))) : undefined;
    return { weight, bias };
  }

  /**
   * Behind the blocks: values that may be the one vector an image gets (what linear maps read, and the file's outputs), and norms
   * other than of all tokens.
   */
  behind(last: FoundBlock): { readonly vectors: readonly string[]; readonly norms: readonly FoundNorm[] } {
    const width = last.norm1.weight.dims[0];
    const reached = new Set([last.output]);
    const vectors = new Set<string>();
    const norms: FoundNorm[] = [];
    for (const node of this.graph.graph.node) {
      if (!node.input.some((name) => reached.has(name)) || node.opType === "Shape" || node.opType === "Size") continue;
      for (const name of node.output) reached.add(name);
      const norm = this.normGiving(node.output[0]);
      if (norm && norm.input !== last.output && norm.weight.dims[0] === width && norms.length < 4) norms.push(norm);
      const linear = this.productInto(node.output[0]);
      if (linear?.weight.dims[1] === width && reached.has(linear.input)) vectors.add(linear.input);
    }
    const results = this.graph.graph.output.map(({ name }) => name).filter((name) => reached.has(name));
    return { vectors: [...new Set([...vectors, ...results])].slice(0, 2 * farthest), norms };
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
    const softmaxes = this.graph.graph.node.filter(
      ({ opType, input }) => opType === "Softmax" && input.some((name) => this.live.has(name)),
    );
    if (softmaxes.length > mostSoftmaxes)
      this.fail(`it has ${softmaxes.length} softmaxes over tokens; at most ${mostSoftmaxes} are read`);
    const recognised = softmaxes.map((node) => this.block(node));
    const [first, ...others] = recognised.flatMap((block) => block ?? []);
    if (!first) this.fail("there is no attention in it");
    if (recognised[0] === undefined) {
      const [{ output }] = softmaxes;
      this.fail(`the softmax "${shorten(output[0])}" in front of its blocks belongs to no attention that is known`);
    }
    const chain = [first];
    const apart: FoundBlock[] = [];
    for (const block of others) (block.input === chain[chain.length - 1].output ? chain : apart).push(block);
    // A decoder of another width may stand behind the backbone; a backbone must not be read as half of itself.
    const width = first.norm1.weight.dims[0];
    if (apart.some(({ norm1 }) => norm1.weight.dims[0] === width))
      this.fail(`something stands between its block ${chain.length} and the next, where only blocks are supported`);
    return chain;
  }
}

function activationOf(
  operators: ReadonlySet<string>,
  approximate: string | undefined,
  scale: number | undefined,
): Activation | undefined {
  if (operators.has("Gelu")) return approximate === "tanh" ? "gelu_tanh" : "gelu";
  if (operators.has("Erf")) return "gelu";
  if (operators.has("Tanh")) return "gelu_tanh";
  if (operators.has("Sigmoid")) return scale !== undefined && Math.abs(scale - 1.702) < 1e-3 ? "quick_gelu" : "silu";
  if (operators.has("Swish") || operators.has("QuickGelu")) return undefined;
  return operators.has("Relu") ? "relu" : undefined;
}
