// The two graphs of a training step: loss and gradients of one run, and the optimizer's update.
//
// `step-graphs.ts` builds two graphs. The first holds teacher and student: loss and gradients of one micro-batch. In
// one graph, common subexpressions make the embedding and the first block's frozen q, k and v once for both (they are
// merged before constants are folded too, which would make two of one reshaped weight), and each weight is held once
// there. Another session would hold 8-bit weights, or all where they can't rest, again, so the teacher's session for
// kept views closes before the first step, and the student is folded block by block at the end. The second is the
// optimizer. On a CPU it is no session: ONNX Runtime would take a pass over memory for each of its operations, and
// give new tensors, so `engine/wasm/write-loop.ts` makes a loop of the graph, a module of half a kilobyte that
// changes parameters and running means in place (`Device.createLoop`, `runtime/loop-runner.ts`). Adapters, gradients
// and optimizer state are `DeviceTensor`s that stay in the worker; memory of released ones is reused. With
// accumulation, a session of gradients takes sums in and gives sums out (the last pass adds them,
// `engine/passes/unroll.ts`).
//
// A micro-batch of an even number of images is taken in halves (`gradient-runs.ts`): the graph has a session in the
// device's worker and one in that of `Device.beside`, each with half of the threads, where they are even. Nodes then
// wait less for each other's threads, and what runs in one thread anyway (small nodes, transpositions) does so in
// both at once. Both devices have all parameters, and each updates about half of them, block by block, while the
// other does the same (`OptimizerState.on`): gradients go to where their block is updated, and its new parameters to
// the other. What is drawn for a micro-batch is drawn for all of it and then cut, and each half goes to the same
// session each time. A second session has activations and 8-bit weights of its own: not with `--checkpointing`, and
// not where weights and what trains are above 128 MB (ViT-S is below, ViT-B above in 8 bits too). Within a session's
// graph, images are taken in two turns where each has two of them for each of its threads (the same pass): the
// graph for half of them stands there twice, with the same weights and roundings of what trains, gradients go from
// the first turn into the second's sums, and the second's images wait for all gradients of the first. A run's plan
// cuts steps into about 8 images on a CPU, where larger parts are no faster, 4 with `--checkpointing`, and 16 on a
// GPU (`step-plan.ts`).
//
// Adapters are folded into the weight for tokens and for the gradient that goes on to them; their own gradients come
// from a term that is zero but for its gradient (`gradientOnly` in `adapters.ts`, dropped by `foldConstants` once
// gradients are made), so that they stay thin products. With dropout, and where frozen products are in 8 bits,
// adapters stay beside the map.
//
// With `--checkpointing`, `engine/passes/recompute.ts` lets gradients read copies of a block's operations that start
// from what entered it, and of the products that fold adapters into its weights. With `--activations float16`,
// `engine/passes/save-half.ts` lets them read half-precision copies instead. ONNX Runtime orders nodes as it likes,
// so each copy is made to wait for the gradient behind its block (`after` in `engine/graph/build.ts`, a reshape whose
// shape is computed from what it waits for; `engine/passes/gradient-checkpoints.ts` is what both share), and a
// block's output for the half-precision copies.
//
// ONNX Runtime's memory patterns are off: with them a session holds its activations twice
// (dev/performance-notes.md). On the CPU an output that is kept is written into memory that was handed in, and what
// the runtime answers with is a copy that nobody reads; `platform/node/collect-garbage.ts` calls the collector when
// enough of such memory, of which it isn't told, has come together: the quick one for what has just been made.
// Sessions for looks at held-out images close after each look.
//
// Models, a student's looks and kept views take four images a thread at once, however many they are handed
// (`runtime/batch-parts.ts`): more don't fit a processor's caches, and take more memory. A model's open session that
// gives more than is asked for serves as well (`Model.session`): one more would hold the weights again.
//
// Weights are prepacked (`session.disable_prepacking`) in 8 bits and where a model just runs forward, which takes up
// to 9 % less time and no more memory, since packed copies stand for the others. In steps in float32 they are not:
// gradients read weights the other way round, so both copies stay, for 2 % (dev/performance-notes.md). A session's
// threads rest after each run (`force_spinning_stop`): each session has its own, and they would spin in the next
// one's way.
//
// A device says which operators it has kernels for (`Device.operators`): graphs for WebGPU and CoreML keep to ONNX's
// own, since what they lack goes to the CPU and back. On WebGPU, float32 outputs that are kept stay in the GPU's
// memory (`runtime/gpu-memory.ts`); a tensor there must not outlive its session, and is read by a graph of one
// Identity node. `tests/runtime/webgpu.test.ts` runs it on SwiftShader, which Debian's Chromium brings.
import { gradients } from "../../engine/autograd/gradients.ts";
import { add, graph, input, mul, reduceSum } from "../../engine/graph/build.ts";
import type { Graph, Value } from "../../engine/graph/graph.ts";
import { inputName } from "../../engine/graph/graph.ts";
import { readerCounts, sortedNodes } from "../../engine/graph/walk.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { tokenCount } from "../../models/config.ts";
import { embed, frozenWeights, vitBlocks, vitForward } from "../../models/vit.ts";
import { recompute } from "../../engine/passes/recompute.ts";
import { saveInHalf } from "../../engine/passes/save-half.ts";
import { UserError } from "../../utils/errors.ts";
import type { AdamWScalars } from "../../engine/optim/adamw.ts";
import { adamwSlots, adamwUpdate } from "../../engine/optim/adamw.ts";
import type { Objective } from "../methods/objective.ts";
import type { DistillationOptions } from "../distillation-options.ts";
import type { Draws, Shapes, Trainables } from "./trainables.ts";
import { splitBlockName, weightKind } from "../../models/weight-table.ts";

/** Names of the graphs' inputs and outputs that belong to a parameter. */
export const slot = {
  gradient: (name: string) => `gradient.${name}`,
  /** What micro-batches before, or another session's, gave of a gradient. */
  sum: (name: string) => `sum.${name}`,
  ...adamwSlots,
  folded: (name: string) => `folded.${name}`,
  target: (state: number) => `target.${state}`,
  /** What enters the student's first block. */
  embedded: "embedded",
} as const;

/** What comes in of images that were seen before: nothing, the teacher's states, or these and what enters the student's first block. */
export type Given = "nothing" | "targets" | "targets and tokens";

export interface GradientGraphOptions {
  readonly teacher: ModelDefinition;
  readonly student: ModelDefinition;
  readonly trainables: Trainables;
  readonly objective: Objective;
  readonly draws: Draws;
  /** Images of a run. */
  readonly batch: number;
  /** Runs whose gradients make up a step's. */
  readonly runs: number;
  /** The objective's targets come in as `target.i` `[batch, N, D]`, and the teacher is not in the graph; tokens as `embedded`. */
  readonly given?: Given;
  /** Compute the student's activations anew for the gradients, block by block. */
  readonly checkpointing?: boolean;
  /** What the student's activations are saved in for the gradients. */
  readonly activations?: DistillationOptions["activations"];
}

/** The parameters of student and objective, as inputs of a graph. */
function parameterInputs(shapes: Shapes): Map<string, Value> {
  return new Map([...shapes].map(([name, dims]) => [name, input(name, "float32", dims)]));
}

/**
 * From pixels `[batch, 3, H, W]` and parameters to the loss and the parameters' gradients, these divided by the number of runs. Teacher and student stand in one
 * graph, so that the embedding and what else is equal in front is computed once and weights are held once.
 */
export function gradientGraph(options: GradientGraphOptions): Graph {
  const { teacher, student, trainables, objective, draws, batch, runs, given: what = "nothing" } = options;
  const pixels = pixelInput(teacher, batch);
  const trainedInputs = parameterInputs(trainables.shapes);
  const extra = parameterInputs(objective.shapes);
  const inputs = objective.inputs(batch);
  const weight = frozenWeights(teacher.weights);
  const given = what === "nothing" ? undefined : targetInputs(teacher, objective, batch);
  const tokens = what === "targets and tokens" ? tokenInput(slot.embedded, student, batch) : undefined;
  const seen = given ? [] : vitBlocks(teacher.config, weight, embed(teacher.config, weight, pixels));
  const state = (i: number) => {
    const feature = given?.get(i) ?? seen[i];
    if (!feature) throw new Error(`the objective reads state ${i} of the teacher, which is none of its targets`);
    return feature;
  };
  const parts = trainables.apply(trainedInputs, draws);
  const embedded = tokens ?? embed(student.config, parts.weight, pixels);
  let states: readonly Value[] | undefined;
  const loss = objective.loss({
    pixels,
    checkpoint: (reached) => {
      states = reached;
    },
    teacher: { definition: teacher, weight, state },
    student: { definition: student, embedded, ...parts },
    parameters: extra,
    inputs,
  });

  const parameters = new Map([...trainedInputs, ...extra]);
  const wrt = [...parameters.values()];
  const change = activationChange(options);
  const toStates = change && states ? states.slice(1) : [];
  // Divided here, where it is one number, rather than behind each gradient.
  const all = gradients(runs === 1 ? loss : mul(loss, 1 / runs), [...wrt, ...toStates]);
  const outputs = new Map<string, Value>([["loss", loss]]);
  [...parameters.keys()].forEach((name, i) => outputs.set(slot.gradient(name), all[i]));
  const fed = [tokens ?? pixels, ...parameters.values(), ...inputs.values(), ...draws.inputs.values()];
  const built = graph([...fed, ...(given?.values() ?? [])], outputs);
  if (!change) return built;
  if (!states) throw new UserError(`this method's activations can't be ${change.what}`, { code: "INVALID_OPTION" });
  return change.apply(built, { loss, states, gradients: [loss, ...all.slice(wrt.length)] });
}

/** What is done about activations between the forward pass and the gradients, where anything is. */
function activationChange({ checkpointing, activations }: GradientGraphOptions) {
  if (checkpointing) return { apply: recompute, what: "recomputed (checkpointing)" };
  if (activations === "float16") return { apply: saveInHalf, what: "saved in half precision (activations)" };
  return undefined;
}

function pixelInput({ config: { channels, imageSize } }: ModelDefinition, batch: number | "batch"): Value {
  return input("pixels", "float32", [batch, channels, imageSize, imageSize]);
}

/** `[batch, N, D]` of a model. */
function tokenInput(name: string, { config }: ModelDefinition, batch: number): Value {
  return input(name, "float32", [batch, tokenCount(config), config.width]);
}

/** An objective's targets by the teacher's state. */
function targetInputs(teacher: ModelDefinition, { targets }: Objective, batch: number): Map<number, Value> {
  return new Map((targets ?? []).map((i) => [i, tokenInput(slot.target(i), teacher, batch)]));
}

/** Whether nothing trains of what brings images to the student's first block. */
function frozenEmbedding({ config }: ModelDefinition, trainables: Trainables, pixels: Value): boolean {
  const embedded = embed(config, trainables.apply(parameterInputs(trainables.shapes)).weight, pixels);
  const read = sortedNodes([embedded]).flatMap(({ inputs }) => inputs);
  return read.every((value) => value.source.kind !== "input" || value === pixels);
}

/**
 * What is worth keeping of any number of images: the teacher's states `targets` as `target.i`, and where it never changes what enters
 * the student's first block as `embedded`.
 */
export function targetGraph(
  teacher: ModelDefinition,
  targets: readonly number[],
  student: ModelDefinition,
  trainables: Trainables,
): Graph {
  const { config } = teacher;
  const weight = frozenWeights(teacher.weights);
  const pixels = pixelInput(teacher, "batch");
  const states = vitBlocks(config, weight, embed(config, weight, pixels), undefined, Math.max(...targets));
  const outputs = new Map(targets.map((i) => [slot.target(i), states[i]]));
  if (frozenEmbedding(student, trainables, pixels))
    outputs.set(slot.embedded, embed(student.config, frozenWeights(student.weights), pixels));
  return graph([pixels], outputs);
}

/** Graphs from parameters to the student's weights that they change: one for each block, as sessions copy their weights. */
export function foldingGraphs(trainables: Trainables): Graph[] {
  const parameters = parameterInputs(trainables.shapes);
  const blocks = new Map<number | undefined, Map<string, Value>>();
  for (const [name, value] of trainables.fold(parameters)) {
    const block = splitBlockName(name)?.block;
    const folded = blocks.get(block) ?? new Map<string, Value>();
    blocks.set(block, folded.set(slot.folded(name), value));
  }
  return [...blocks.values()].map((folded) => {
    const read = readerCounts(graph([], folded));
    return graph(
      [...parameters.values()].filter((parameter) => read.has(parameter)),
      folded,
    );
  });
}

/** The student with its parameters as inputs, any number of images: the last block's output and the pooled vector. */
export function featureGraph(student: ModelDefinition, trainables: Trainables): Graph {
  const { config } = student;
  const parameters = parameterInputs(trainables.shapes);
  const { weight, map } = trainables.apply(parameters);
  const pixels = pixelInput(student, "batch");
  const { hiddenStates, pooled } = vitForward(config, weight, pixels, map);
  return graph([pixels, ...parameters.values()], { blockOutput: hiddenStates[config.depth], pooled });
}

/** What a parameter's learning rate is multiplied by: blocks further from the loss move less (arXiv 2003.10555). */
export function layerScale(name: string, depth: number, decay: number): number {
  const inside = splitBlockName(name);
  if (inside) return decay ** (depth - inside.block);
  return weightKind(name)?.part === "embedding" ? decay ** (depth + 1) : 1;
}

/** A gradient as an input of its own, or the sum of two. */
function gradientInput(name: string, dims: readonly number[], halves: boolean): { inputs: Value[]; gradient: Value } {
  const inputs = [slot.gradient, ...(halves ? [slot.sum] : [])].map((as) => input(as(name), "float32", dims));
  return { inputs, gradient: inputs.reduce((a, b) => add(a, b)) };
}

/** The sum of squares of gradients, for their norm; `halves` says that they come as two sums. */
export function squaresGraph(shapes: Shapes, halves: boolean): Graph {
  const all = [...shapes].map(([name, dims]) => gradientInput(name, dims, halves));
  const squares = all.map(({ gradient }) => reduceSum(mul(gradient, gradient))).reduce((a, b) => add(a, b));
  return graph(
    all.flatMap(({ inputs }) => inputs),
    { squares },
  );
}

/**
 * One AdamW update of some parameters; inputs and outputs are named by `slot`. Where gradients are clipped, the input `clip` is
 * what they are multiplied by; `halves` says that they come as two sums.
 */
export function updateGraph(shapes: Shapes, options: DistillationOptions["optimizer"], halves: boolean): Graph {
  const scalar = (name: string) => input(name, "float32", []);
  const scalars: AdamWScalars = {
    learningRate: scalar("learningRate"),
    correction1: scalar("correction1"),
    correction2: scalar("correction2"),
  };
  const clip = options.clipNorm === undefined ? undefined : scalar("clip");
  const inputs: Value[] = [...Object.values(scalars), ...(clip ? [clip] : [])];
  const tensor = (as: string, dims: readonly number[]) => {
    const value = input(as, "float32", dims);
    inputs.push(value);
    return value;
  };
  const outputs = new Map<string, Value>();
  for (const [name, dims] of shapes) {
    const state = {
      parameter: tensor(name, dims),
      momentum: tensor(slot.momentum(name), dims),
      variance: tensor(slot.variance(name), dims),
    };
    const { inputs: fed, gradient } = gradientInput(name, dims, halves);
    inputs.push(...fed);
    const next = adamwUpdate(state, clip ? mul(gradient, clip) : gradient, scalars, options);
    outputs.set(slot.next(name), next.parameter);
    outputs.set(slot.next(slot.momentum(name)), next.momentum);
    outputs.set(slot.next(slot.variance(name)), next.variance);
  }
  return graph(inputs, outputs);
}

/** What `updateLoopGraph` calls its parameter. */
export const anyParameter = "parameter";

/** The same for one parameter, a `matrix` or not, element by element: outputs are named as the inputs that they take the place of. */
export function updateLoopGraph(matrix: boolean, options: DistillationOptions["optimizer"], halves: boolean): Graph {
  const { inputs, outputs } = updateGraph(new Map([[anyParameter, matrix ? [1, 1] : [1]]]), options, halves);
  const changed = new Map<string, Value>();
  for (const name of inputs.map(inputName)) {
    const next = outputs.get(slot.next(name));
    if (next) changed.set(name, next);
  }
  return graph(inputs, changed);
}
