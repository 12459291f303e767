// Products with frozen weights and with adapters in 8 bits, for training and inference on ONNX Runtime: one scale for each output
// channel and, where tokens differ much in size, one for each token. Everything else stays float32.
//
// `int8-products.ts` turns products with constant matrices into 8-bit ones after differentiation, so that gradients
// are those of the float32 map (straight through). Which part of a step a product belongs to is read off the graph:
// the student's depend on what trains, the teacher's don't, and a product that reads its weights as they are stored
// belongs to a gradient. Tokens behind a layer norm share a scale, with outlier channels balanced against the weights
// of all maps that read them (`balance.ts`); a bias goes into its product; others are divided by their largest number
// first (long ones as they are rounded, by a scale of their own: `longTokens`), and get their sizes back when what
// else is made of them has been added (`TokenProducts`). Adapters that stand beside frozen maps read the same tokens
// (`int8-adapters.ts`); A, B and the thin side of each gradient are rounded in the graph, with one scale a matrix.
// Which inputs they are is said by `Trainables.lowRank`. Processors before AVX-512 VNNI add pairs of 8-bit products
// in 16 bits, which overflows: `models/precision.ts` tries it, and weights take 7 bits there. Exported files always
// do, as they are for all machines. Scales depend on the batch, so an image's 8-bit features do too, a little.
//
// With `--cached-crops`, views repeat every so many epochs. The teacher sees them all once, in the images' order,
// before training (`cached-features.ts`: in memory, or in a file of the run folder while it trains), and the step's
// graph takes what the loss reads of it (`Objective.targets`) as inputs; the teacher is not in it. Nor is the
// student's embedding, unless it trains: what enters its first block is kept too, so images are read once
// (`micro-batches.ts`). A run that goes on shows them again, in the same batches, and gets the same bits.
import { constant, transpose } from "../../graph/build.ts";
import type { Graph, Node, Value } from "../../graph/graph.ts";
import { readerCounts, rewrite, sortedNodes } from "../../graph/walk.ts";
import type { FrozenMatrix } from "./balance.ts";
import { frozenNorm } from "./balance.ts";
import { AdapterProducts } from "./int8-adapters.ts";
import { frozenOf, Quantizer } from "./int8-frozen.ts";
import { TokenProducts } from "./int8-tokens.ts";
import type { largestWeight, safeWeight } from "./quantize.ts";
import { smallest } from "./quantize.ts";

/** Where 8-bit products stand in a step: those with frozen weights in three places, and those with adapters and their gradients. */
export const int8Parts = ["teacher", "student", "backward", "adapters"] as const;
export type Int8Part = (typeof int8Parts)[number];

export interface Int8Options {
  /** No 8-bit weight is larger: the safe one where products of 8-bit numbers overflow on this machine. */
  readonly largest: typeof largestWeight | typeof safeWeight;
  readonly parts: readonly Int8Part[];
}

/** Values that depend on what a graph is fed under the names in `trained`. */
function dependents(graph: Graph, trained: ReadonlySet<string>): Set<Value> {
  const reached = new Set(graph.inputs.filter(({ source }) => source.kind === "input" && trained.has(source.name)));
  for (const node of sortedNodes(graph.outputs.values()))
    if (node.inputs.some((v) => reached.has(v))) for (const v of node.outputs) reached.add(v);
  return reached;
}

/** What a distillation's graph is fed, by name. */
export interface Int8Inputs {
  /** What trains: it tells the student's tokens from the teacher's. */
  readonly trained: readonly string[];
  /** The low-rank matrices among it that tokens go through. */
  readonly lowRank: readonly string[];
}

/** Those of a graph's inputs that are worth 8 bits, of the names given. */
function inputsOf(graph: Graph, names: ReadonlySet<string>): Set<Value> {
  return new Set(
    graph.inputs.filter(({ source, shape }) => {
      const [rows, columns] = shape as number[];
      return source.kind === "input" && names.has(source.name) && rows * columns >= smallest;
    }),
  );
}

/** `[N, K]^T [N, M]`, the gradient of an adapter: which operand is the tokens, and which the thin one. */
function gradientOf(
  { op, attributes, inputs }: Node,
  shapes: ReadonlySet<string>,
): "tokens first" | "thin first" | undefined {
  const { transA, transB } = attributes as { transA?: boolean; transB?: boolean };
  if (op !== "FusedMatMul" || !transA || transB) return undefined;
  const [a, b] = inputs.map(({ shape }) => shape);
  if (a.length !== 2 || b.length !== 2 || !shapes.has(`${a[1]},${b[1]}`)) return undefined;
  return (a[1] as number) >= (b[1] as number) ? "tokens first" : "thin first";
}

/**
 * Turns products with constant float32 matrices into 8-bit ones, with the bias that is added to them, and those with adapters.
 * Tokens behind a layer norm are of one size and share a scale, with their outlier channels balanced against the weights;
 * others are divided by their largest number first. Run after `fuseTransposes` on graphs for ONNX Runtime.
 */
export function int8Products(
  graph: Graph,
  { largest, parts }: Int8Options,
  { trained, lowRank }: Int8Inputs = { trained: [], lowRank: [] },
): Graph {
  const moving = dependents(graph, new Set(trained));
  const readers = readerCounts(graph);
  const matrices = parts.includes("adapters") ? inputsOf(graph, new Set(lowRank)) : new Set<Value>();
  const shapes = new Set([...matrices].map(({ shape }) => shape.join()));
  const products = new TokenProducts();
  const adapterProducts = new AdapterProducts(largest, products);
  const quantizer = new Quantizer(largest, products);
  const wantedOf = (node: Node): FrozenMatrix | undefined => {
    const frozen = frozenOf(node);
    if (!frozen) return undefined;
    const part = !moving.has(node.outputs[0]) ? "teacher" : frozen.transposed ? "student" : "backward";
    return parts.includes(part) ? frozen : undefined;
  };
  for (const node of sortedNodes(graph.outputs.values())) {
    const [wanted, norm] = [wantedOf(node), node.inputs[0] && frozenNorm(node.inputs[0])];
    if (wanted && norm) quantizer.expect(norm, wanted);
  }
  return rewrite(graph, (node, inputs) => {
    const [x, matrix] = inputs;
    if (node.op === "Add") {
      const sum = readers.get(node.inputs[0]) === 1 ? products.sum(x, matrix) : undefined;
      return sum && [sum];
    }
    if (matrices.has(matrix) && (node.op === "MatMul" || node.op === "FusedMatMul")) {
      const { transA, transB } = node.attributes as { transA?: boolean; transB?: boolean };
      return transA ? undefined : [adapterProducts.of(quantizer.tokensOf(x), matrix, transB ?? false)];
    }
    const gradient = gradientOf(node, shapes);
    if (gradient === "tokens first") return [adapterProducts.gradient(quantizer.tokensOf(x), matrix)];
    if (gradient) return [transpose(adapterProducts.gradient(quantizer.tokensOf(matrix), x), [1, 0])];
    const frozen = wantedOf(node);
    if (!frozen) return undefined;
    const { weight, scale } = quantizer.weightsOf(frozen, frozenNorm(x));
    const name = node.inputs[1].source.kind === "constant" ? node.inputs[1].source.name : undefined;
    const as = (suffix: string) => name && `${name}.${suffix}${frozen.transposed ? "" : ".backward"}`;
    return [products.of(quantizer.tokensOf(x), constant(weight, as("int8")), constant(scale, as("scale")))];
  });
}
