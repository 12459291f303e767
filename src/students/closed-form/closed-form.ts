// A start in closed form: block by block, the student's maps are refitted so that each block gives what the last of the
// teacher's blocks that it stands for gives, for the tokens that really enter it (errors made so far included). Related:
// ReplaceMe (arXiv 2505.02819), which fits one map for a run of dropped blocks, and PRACTISE.
//
// `closed-form.ts` takes the kept blocks in order, in passes over all images (`refit-graphs.ts`, run by `refit-passes.ts`;
// `refit-sums.ts` says how sums are made and read, `refit-sample.ts` which tokens are summed, `refit-maps.ts` changes maps):
// one for what enters the attention's output map, one for the tokens behind it, one for the block's output; and where all
// tokens are summed, one for what enters fc2. Each is taken once, with the maps before it refitted. Between them, passes over a
// sample of the tokens sum normal equations (G'G and G'R, float32 products on ONNX Runtime, added up in float64) for the
// attention's output map, then for fc2. Channels are ranked by a sum of their own, on every second row of the sample, so that
// fc2's is made for the kept channels alone. Before each of the two maps, those behind a norm are refitted for what enters them
// (`refit-entering.ts`): v behind the first, fc1 behind the second. One solve takes the student's tokens there to those that
// the teacher's block has at the same place, and is folded into the map, where images set aside agree; for the second, the
// teacher's block is gone through in two halves. An attention that loses heads is refitted for these alone: its sums have no target,
// and no MLP in them. The sample is every so many tokens, about five for each unknown of fc2, with a stride that has no factor
// in common with an image's tokens, so that all places are met: neighbouring tokens say much the same, and the sums cost the
// same whatever the number of images. Samples of several batches are summed at once, since adding up a large G'G in float64
// costs more than the products of a few hundred rows. G'G is symmetric, so only strips from the diagonal on are multiplied and
// added up. Sums, tokens and weights that did not change stay on the device. Systems are solved with a ridge toward the copied
// weight, for each input by its own size and the mean of all (`engine/linalg/ridge.ts`: Cholesky in panels; small triangles
// come back and are inverted, all else is products on the device; the inverse's diagonal, which only ranks channels, in
// float32). One batch of five is set aside; a whole map's change stays only where it brings the block nearer to its target
// there. A narrowed map must be changed: it takes the first ridge where tokens are plenty, else the one that leaves less there.
// Where that holds for all maps, nothing is set aside. Where products run in 8 bits (the recipe says so by itself where images
// are many: `students/settle-precision.ts`), the passes over all tokens do, each block's in sessions of its own, since 8-bit
// weights are constants, and tokens are stored in half precision (`engine/passes/stored-half.ts`), which rounds by far less;
// sums and what is saved stay float32. Later sweeps (`--analytic-sweeps`) go through the narrowed student's blocks again. A
// block's weights are inputs of the graphs, so one session serves all blocks: a new session for each cost more than the work.
//
// Tokens of all images lie in memory up to a limit, and beyond it in a file that runs read (`runtime/device-memory.ts`).
//
// The same sums narrow a block (`narrowing.ts`; heads inside: `narrow-queries.ts`, `narrow-values.ts`): they say what the loss
// of a channel or a head costs where the others are refitted for it, and the solve over the kept ones alone refits them. Until
// tokens have passed the attention, heads that go are columns of zeros in the output map, so that its passes serve whole and
// narrow blocks. `students/search/shape.ts` says how many blocks, heads and channels have about as many weights as whole
// blocks, and keeps to what a class of transformers holds: DINOv2 wants MLPs a whole number of times as wide as the model; CLIP
// and DINOv3 keep all heads. Gated MLPs and pooling of the MLP's width keep theirs whole.
//
// Blocks may differ (`shapes`, `--shape by-block`): `students/search/cut-costs.ts` draws the curve of what each cut of each part costs
// from the same sums and scales it by what such an error does to the model's output; `students/search/shape-for-budget.ts` adds
// the curves up under one budget. A block that loses its MLP has its attention's map fitted to the block's output, as fc2 would be;
// one that loses its attention leaves all to fc2. The student's configuration says what each block keeps while it is made
// (`VitConfig.blocks`); where all are alike in the end it is a plain one again. transformers, timm and PEFT want one width.
//
// A student that lost heads has `headWidth` in its configuration: queries, keys and values are `heads * headWidth`
// wide, not the model's width. transformers reads it as `head_dim` from version 5 on (ViT, DeiT, I-JEPA, DINOv2);
// timm has no word for it.
//
// `students/search/block-search.ts` chooses blocks with the same sums: for each number of blocks and each place in
// the teacher it keeps the student that is nearest there, with the tokens that this student really has (dynamic
// programming over students; costs of single runs, added up, chose badly: dev/experiments.md). `--keep auto` then
// tries narrower shapes beside what it found (`students/search/shape-search.ts`): each is refitted on some images
// and held against the teacher on others (`students/search/evidence.ts`, which the frontier of `inspect` uses too).
//
// Training may follow (`--recipe refined`), from the same shapes. With `--loss blockwise` no gradient leaves a block,
// so that each learns from the tokens that reach it, as the closed form does.
//
// A recipe (`commands/distill-options.ts`) is a preset over the one schema; `distillOptions` is the only way from
// what a user says to options. `students/run-start.ts` decides blocks (even, searched, within a budget) and channels, and
// makes the start. `students/search/frontier.ts` measures students of several sizes, and `commands/proposal.ts` picks
// among them for a budget.
import { badWeight, modelName } from "../../models/finite-outputs.ts";
import type { Model } from "../../models/model.ts";
import { UserError } from "../../utils/errors.ts";
import type { VitConfig } from "../../models/config.ts";
import type { BlockShape } from "../../models/config.ts";
import { blockShape, blockShapes, headWidthOf, sameShape, valueWidthOf } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { TargetModule } from "../../models/vit.ts";
import type { Int8Options } from "../../engine/passes/int8/int8-products.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { Widths } from "./narrowing.ts";
import {
  channelsOf,
  checkBlockShapes,
  keptChannels,
  keptHeadCount,
  keptHeads,
  narrowedSums,
  settledShapes,
  shapesDiffer,
  uniformShapes,
  narrowWidth,
  withChannels,
  withHeads,
} from "./narrowing.ts";
import { headQueries, narrowerQueries, withNarrowQueries } from "./narrow-queries.ts";
import { headValues, NarrowMap, narrowerValues } from "./narrow-values.ts";
import { refitEntering, refitsBehind, withoutNorms } from "./refit-entering.ts";
import { behindScale, moved, spread, withoutColumns } from "./refit-maps.ts";
import type { Move, MovingPassName, Stream, TokenStorage } from "./refit-passes.ts";
import { embedAll, heldBy, Passes, startAgain, storageOf, SumsNotFinite, sumUp } from "./refit-passes.ts";
import { fittedTokens, Sample, stridesOf } from "./refit-sample.ts";
import type { Refit, Tools } from "./refit-tools.ts";
import { isPlenty, isUsable, ridgesFor, solveRidged } from "./refit-tools.ts";
import type { Sums } from "../../engine/linalg/ridge.ts";
import { RidgeSolver } from "../../engine/linalg/ridge.ts";
import { copyBlocks, stoodFor } from "../kept-blocks.ts";
import { required } from "../../utils/required.ts";

/** Widths are counts, or shares below 1. */
export interface AnalyticOptions extends Widths {
  /**
   * Maps that are refitted beside fc2: the attention's output map, and those behind norms (q, k, v, fc1), for what enters them.
   */
  readonly maps: readonly TargetModule[];
  /**
   * Ridges to try in this order until one helps (see `ridgeOf`). A map that is narrowed takes the first, or with few tokens the
   * one that leaves least.
   */
  readonly ridges: readonly number[];
  /** The share of its solution that the attention's map moves by, where it keeps all heads. */
  readonly attentionStep: number;
  /**
   * Tokens that a map is fitted on for each number that enters it, about: every so many tokens are taken, so that sums cost
   * the same whatever the number of images. Infinity takes all.
   */
  readonly tokensPerUnknown: number;
  /**
   * How often all blocks are gone through. Later sweeps begin with the student of the one before, and move a map only where
   * that brings its block nearer to its target on images set aside; maps behind norms are left as they are.
   */
  readonly sweeps: number;
  /** Products that move tokens from block to block in 8 bits, where these are quicker (`choosePrecision`). */
  readonly int8?: Int8Options;
  /** What the tokens of all images may take of memory, in bytes (512 MiB where left out); the others lie in a file. */
  readonly tokenMemory?: number;
  /**
   * Other images, such as procedural ones, whose solution the maps are drawn to where images are few. `weight`: what all of
   * them count for beside all others together.
   */
  readonly prior?: { readonly images: AsyncIterable<FloatTensor> | Iterable<FloatTensor>; readonly weight: number };
}

export const analyticDefaults: AnalyticOptions = {
  maps: ["v", "proj", "fc1", "fc2"],
  ridges: [0.2, 1],
  attentionStep: 0.5,
  tokensPerUnknown: 5,
  sweeps: 1,
};

/**
 * The defaults for a student of such widths. Blocks that differ are narrow where that costs least, and wide where tokens are hard to
 * make up for: there all tokens and a weaker ridge bring other images nearer; where all are alike they don't (dev/shape.md).
 */
export const analyticDefaultsFor = ({ shapes }: Pick<Widths, "shapes">): AnalyticOptions =>
  shapes && shapesDiffer(shapes)
    ? { ...analyticDefaults, ridges: [0.05, ...analyticDefaults.ridges], tokensPerUnknown: 15 }
    : analyticDefaults;

export interface AnalyticStart {
  readonly student: ModelDefinition;
  readonly refits: readonly Refit[];
}

/**
 * Refits a student of the teacher's `kept` blocks on normalised images, batch by batch `[B, 3, H, W]`. Kept are the tokens of
 * all images twice and what enters the block's attention's output map (in half precision with `int8`): in memory as far as
 * `tokenMemory` allows, the others in a file. Memory also holds a sample of all of these, and one map's normal equations twice.
 * Throws a UserError that names the block where sums are not finite.
 */
export async function analyticStart(
  teacher: Model,
  kept: readonly number[],
  batches: AsyncIterable<FloatTensor> | Iterable<FloatTensor>,
  options: AnalyticOptions = analyticDefaults,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<AnalyticStart> {
  let student = copyBlocks(teacher, kept);
  const { device } = teacher;
  const { mlpWidth, keptHeads: heads } = options;
  if (options.shapes) checkBlockShapes(teacher, kept, options.shapes);
  const shapes =
    options.shapes ??
    uniformShapes(student.config, {
      mlpWidth: mlpWidth === undefined ? undefined : narrowWidth(teacher, mlpWidth),
      keptHeads: heads === undefined ? undefined : keptHeadCount(teacher, heads),
    });
  // Nothing is removed, so nothing is refitted.
  if (keepsAll(teacher.config, kept, shapes)) return { student: settledShapes(student), refits: [] };
  const storage = storageFor(options);
  const { prior } = options;
  const again = options.sweeps > 1;
  const streams = await embedAll(teacher, batches, { storage, again });
  if (prior) streams.push(...(await embedAll(teacher, prior.images, { storage, again, priorWeight: prior.weight })));
  const solver = new RidgeSolver(device);
  const teaching = new Passes(device, storage);
  let refits: readonly Refit[] = [];
  try {
    for (let sweep = 0; sweep < options.sweeps; sweep++) {
      if (sweep > 0) await startAgain(teaching, streams);
      const behind = (done: number) => progress(sweep * kept.length + done, options.sweeps * kept.length);
      // Later sweeps begin with maps behind norms that are not the teacher's any more; shared ones are no block's own.
      const maps = sweep === 0 && !teacher.config.sharing ? options.maps : withoutNorms(options.maps);
      const tools = {
        teacher,
        teaching,
        solver,
        streams,
        maps,
        shapes: sweep === 0 ? shapes : blockShapes(student.config),
      };
      const lastSweep = sweep === options.sweeps - 1;
      ({ student, refits } = await sweepBlocks(tools, student, kept, { ...options, lastSweep }, behind));
    }
  } finally {
    await teaching.dispose();
    await device.release(heldBy(streams));
    await device.trim();
    await solver.dispose();
  }
  return { student: settledShapes(student), refits };
}

/** Whether a student keeps all that its teacher has. */
function keepsAll(config: VitConfig, kept: readonly number[], shapes: readonly BlockShape[]): boolean {
  const whole = blockShapes(config);
  return kept.length === config.depth && shapes.every((shape, i) => sameShape(shape, whole[i]));
}

interface SweepTools extends Pick<Tools, "solver" | "streams" | "maps" | "shapes"> {
  readonly teacher: Model;
  /** Passes over the teacher's blocks. */
  readonly teaching: Passes;
}

/** Products in 8 bits round tokens by far more than half precision does. */
const storageFor = ({ int8, tokenMemory }: AnalyticOptions): TokenStorage =>
  storageOf(int8 ? "float16" : "float32", tokenMemory);

/** Goes once through all of a student's blocks. */
async function sweepBlocks(
  { teacher, teaching, streams, shapes, ...shared }: SweepTools,
  given: ModelDefinition,
  kept: readonly number[],
  options: AnalyticOptions & { readonly lastSweep: boolean },
  progress: (done: number) => void,
): Promise<{ student: ModelDefinition; refits: readonly Refit[] }> {
  let student = given;
  const { device } = teacher;
  const { config } = given;
  const passes = new Passes(device, storageFor(options));
  const refits: Refit[] = [];
  // As many tokens as the widest map asks for: fewer for the others cost fidelity and save little.
  // Blocks that share maps look at places side by side, so that rows alone are not enough.
  const wanted = config.sharing ? Infinity : options.tokensPerUnknown * (config.mlpWidth + 1);
  const strides = stridesOf(streams, wanted);
  const together = streams.map((stream) => ({ ...stream, aside: false }));
  const unseen = isPlenty(fittedTokens(together, strides.training), unknownsUnseen(config, shapes));
  const looked = unseen ? together : streams;
  const evaluated = looked.some(({ aside }) => aside);
  // Too few images to set some aside: only a firm ridge is to be trusted.
  const ridges = evaluated || unseen ? options.ridges : options.ridges.filter((ridge) => ridge >= 1);
  const sample = new Sample(passes, looked, strides);
  const tools: Tools = { ...shared, passes, streams, sample, shapes, ridges, evaluated };
  const { int8 } = options;
  try {
    let next = 0;
    const { takeOf } = sample;
    const teach = (names: readonly MovingPassName[], to: readonly Stream[], seen?: Move["seen"]) =>
      teaching.move(names, to, { model: teacher, block: next, int8, seen });
    const teachTo = async (end: number) => {
      for (; next < end; next++) await teach(["teacher"], streams, next === end - 1 ? takeOf : undefined);
    };
    await teachTo(kept[0]);
    await sample.take(["student"]);
    const refitFrom = async (block: number, end: number) => {
      // Nothing reads what all tokens would become behind the last block.
      const last = options.lastSweep && block === kept.length - 1;
      // Until a block was left out or refitted, student and teacher have the same tokens.
      if (next > 0 && shapes[block].heads > 0 && refitsBehind("norm1", tools.maps)) {
        const refit = await refitEntering(tools, student, block, "norm1");
        student = refit.student;
        refits.push(...refit.refits);
      }
      if (shapes[block].mlpWidth > 0 && refitsBehind("norm2", tools.maps)) {
        if (!sample.isApart) {
          await teach(["teacherAttention"], streams);
          await teach(["teacherMlp"], streams);
        } else if (last && next === end) {
          await teach(["teacherAttention"], streams, takeOf);
          await teaching.drop(streams, "middle");
          await teach(["teacherMlp"], sample.streams);
        } else await teach(["teacherAttention", "teacherMlp"], streams, takeOf);
        next++;
      }
      await teachTo(end + 1);
      const refit = await refitBlock(tools, student, block, { ...options, last });
      student = refit.student;
      refits.push(...refit.refits);
      // Each block begins as a whole one.
      const whole = blockShape(config, 0);
      const following = shapes[block + 1] ?? whole;
      if (shapesDiffer(shapes))
        await passes.keepShapes([whole, { ...whole, queryWidth: following.queryWidth }, following]);
    };
    for (const [block, end] of stoodFor(kept, teacher.config.depth).entries()) {
      await refitFrom(block, end).catch((error: unknown) => {
        throw error instanceof SumsNotFinite ? notFiniteAt(teacher, kept[block], end, error) : error;
      });
      progress(block + 1);
    }
  } finally {
    await sample.release();
    await passes.dispose();
  }
  return { student, refits };
}

/** That the closed form met NaN or infinity: the blocks, and the weight that holds it too, where there is one. */
function notFiniteAt(teacher: Model, first: number, last: number, cause: Error): UserError {
  const blocks = first === last ? `block ${first}` : `blocks ${first} to ${last}`;
  const bad = badWeight(teacher.weights);
  const why = bad
    ? `Its weight ${bad.name} holds ${bad.value}. Use another copy of the model.`
    : "All its weights are finite, so numbers overflow inside of it. Try --precision float32.";
  return new UserError(
    `The teacher ${modelName(teacher.origin)} gives NaN or infinity in ${blocks}, so the closed form can't refit it. ${why}`,
    { code: "NOT_FINITE", cause },
  );
}

/**
 * The most unknowns of one map, where all maps can be solved with the first ridge unseen if tokens are plenty for it, so that no
 * images need to be set aside; Infinity where one part of all blocks stays whole, whose change is taken only if it helps.
 */
function unknownsUnseen(config: VitConfig, shapes: readonly BlockShape[]): number {
  const whole = blockShapes(config);
  if (shapes.every(({ heads }, i) => heads === whole[i].heads)) return Infinity;
  if (shapes.every(({ mlpWidth }, i) => mlpWidth === whole[i].mlpWidth)) return Infinity;
  return Math.max(...shapes.flatMap(({ heads, mlpWidth }) => [mlpWidth, heads * headWidthOf(config)])) + 1;
}

interface BlockOptions extends AnalyticOptions {
  /** Whether the block is the last that is gone through. */
  readonly last: boolean;
}

/** Refits one block's maps, narrows it where that is asked for, and moves the student's tokens behind it. */
async function refitBlock(
  tools: Tools,
  given: ModelDefinition,
  block: number,
  options: BlockOptions,
): Promise<{ student: ModelDefinition; refits: Refit[] }> {
  const { passes, streams, sample, shapes } = tools;
  const { int8, last } = options;
  const { heads, mlpWidth } = shapes[block];
  let student = withoutParts(given, block, shapes[block]);
  const refits: Refit[] = [];
  if (heads > 0) {
    student = await narrowQueries(tools, student, block);
    const { takeOf } = sample;
    await passes.move("attention", streams, { model: student, block, int8, seen: takeOf });
    const attention = await refitAttention(tools, student, block, options);
    const behind = { model: attention.student, block, int8 };
    if (last && sample.isApart) await passes.move("attended", sample.streams, behind);
    else await passes.move("attended", streams, { ...behind, seen: takeOf });
    await passes.drop(streams, "mixed");
    student = attention.narrowed?.(attention.student) ?? attention.student;
    refits.push(...attention.refits);
  }
  if (mlpWidth > 0) {
    const fc1 = await refitEntering(tools, student, block, "norm2");
    const mlp = await refitMlp(tools, fc1.student, block, options);
    student = mlp.student;
    refits.push(...fc1.refits, ...mlp.refits);
    // What enters fc2 is made again for all tokens, where only rows of it were looked at: it is the widest of all to be stored.
    const rest: MovingPassName = sample.isApart ? "mlp" : "output";
    if (!last) await passes.move(rest, streams, { model: student, block, int8, seen: sample.takeOf });
    await passes.drop(streams, "hidden");
  }
  return { student, refits };
}

/** The student with as narrow queries and keys in a block as its shape says, by the tokens that enter it. */
async function narrowQueries(
  { passes, solver, sample, shapes }: Tools,
  student: ModelDefinition,
  block: number,
): Promise<ModelDefinition> {
  const width = narrowerQueries(student, block, shapes[block].queryWidth);
  if (width === undefined) return student;
  const { all } = await sumUp(passes, sample.streams, "entering", await passes.blockOf(student, block), 0);
  return withNarrowQueries(student, block, await headQueries(solver, all, student, block), width);
}

/** The student without the attention or the MLP of a block that is to have none. */
function withoutParts(student: ModelDefinition, block: number, { heads, mlpWidth }: BlockShape): ModelDefinition {
  const first = heads === 0 ? withHeads(student, block, []) : student;
  return mlpWidth === 0 ? withChannels(first, block, []) : first;
}

/**
 * Refits the attention's output map. Heads that go are columns of zeros there, which the other heads make up for; `heads` are
 * those that stay.
 */
async function refitAttention(
  tools: Tools,
  student: ModelDefinition,
  block: number,
  options: AnalyticOptions,
): Promise<{ student: ModelDefinition; refits: Refit[]; narrowed?: (whole: ModelDefinition) => ModelDefinition }> {
  const { passes, solver, sample, shapes, ridges } = tools;
  const { width } = student.config;
  const name = `blocks.${block}.attn.proj`;
  const wanted = shapes[block].heads;
  const valueWidth = narrowerValues(student, block, shapes[block].valueWidth);
  if (wanted < blockShape(student.config, block).heads || valueWidth !== undefined || shapes[block].mlpWidth === 0) {
    const proj = required(student.weights, `${name}.weight`);
    const headWidth = valueWidthOf(student.config, block);
    const seen = behindScale(student, block, "ls1", proj);
    // What the student lacks so far is left to fc2: to this map it would be noise (dev/experiments.md).
    // Without an MLP behind it there is none to be left to.
    const blockTensors = await passes.blockOf(student, block);
    const alone = shapes[block].mlpWidth === 0;
    const first = await sumUp(
      passes,
      sample.streams,
      alone ? "proj" : "mixed",
      alone ? blockTensors : { ...blockTensors, feeds: {} },
      width,
    );
    const heads = await keptHeads(solver, first.fitting, seen, headWidth, wanted, ridges[0]);
    const narrowMap =
      valueWidth === undefined
        ? undefined
        : new NarrowMap(proj, await headValues(first.fitting, seen, headWidth), heads, valueWidth);
    const map = narrowMap ?? headsAlone(proj, channelsOf(heads, headWidth));
    const made = async (sums: Sums, ridge: number) =>
      map.changed(student, name, await solveRidged(solver, sums, ridge));
    const fitting = await map.sums(solver, first.fitting);
    const best = await nearest(tools, "difference", block, fitting.n, (ridge) => made(fitting, ridge));
    // With the ridge found, images that were set aside are fitted on too.
    const final =
      first.all === first.fitting ? best.student : await made(await map.sums(solver, first.all), best.ridge);
    const narrowed = (whole: ModelDefinition) => {
      const some = withHeads(whole, block, heads);
      return narrowMap?.narrowed(some, block) ?? some;
    };
    return { student: final, refits: [{ block, map: "proj", ridge: best.ridge }], narrowed };
  }
  const unchanged: Refit = { block, map: "proj", share: 1 };
  if (!tools.maps.includes("proj") || shapesDiffer(shapes)) return { student, refits: [] };
  const feeds = await passes.blockOf(student, block);
  const first = await sumUp(passes, sample.streams, "proj", feeds, width);
  if (!isUsable(first)) return { student, refits: [unchanged] };
  const [ridge] = ridges;
  const moving = moved(student, name, await solveRidged(solver, first.fitting, ridge), options.attentionStep);
  const residual = await differenceOf(tools, "difference", moving, block);
  return residual < first.difference
    ? { student: moving, refits: [{ block, map: "proj", ridge, share: residual / first.difference }] }
    : { student, refits: [unchanged] };
}

/** An output map that reads some channels alone, as it was and with zeros for the others. */
const headsAlone = (proj: FloatTensor, channels: readonly number[]): Pick<NarrowMap, "sums" | "changed"> => ({
  sums: (solver, sums) => narrowedSums(solver, sums, proj, channels),
  changed: (student, name, solution) =>
    moved(withoutColumns(student, `${name}.weight`, channels), name, spread(solution, channels, proj.dims[1]), 1),
});

/** Refits the MLP's last map, of fewer channels where that is asked for. */
async function refitMlp(
  tools: Tools,
  given: ModelDefinition,
  block: number,
  { int8 }: BlockOptions,
): Promise<{ student: ModelDefinition; refits: Refit[] }> {
  const { passes, solver, sample, shapes, ridges } = tools;
  const { mlpWidth } = shapes[block];
  const narrowed = mlpWidth < blockShape(given.config, block).mlpWidth;
  const student = narrowed ? withChannels(given, block, await channelsToKeep(tools, given, block)) : given;
  await passes.move("hidden", sample.streams, { model: student, block, int8 });
  const feeds = await passes.blockOf(student, block);
  const before = await sumUp(passes, sample.streams, "fc2", feeds, student.config.width);
  const name = `blocks.${block}.mlp.fc2`;
  const refitTo = (ridge: number, residual?: number): Refit => ({
    block,
    map: "fc2",
    ridge,
    ...(residual === undefined ? {} : { share: residual / before.difference }),
  });
  const { fitting, all } = before;
  const made = async (sums: Sums, ridge: number) => moved(student, name, await solveRidged(solver, sums, ridge), 1);
  if (narrowed || shapesDiffer(shapes)) {
    const best = await nearest(tools, "fc2Difference", block, fitting.n, (ridge) => made(fitting, ridge));
    const final = all === fitting ? best.student : await made(all, best.ridge);
    return { student: final, refits: [refitTo(best.ridge, best.difference)] };
  }
  for (const ridge of isUsable(before) ? ridges : []) {
    const trial = await made(fitting, ridge);
    const residual = await differenceOf(tools, "fc2Difference", trial, block);
    if (!(residual < before.difference)) continue;
    return { student: all === fitting ? trial : await made(all, ridge), refits: [refitTo(ridge, residual)] };
  }
  return { student, refits: [{ block, map: "fc2", share: 1 }] };
}

/** The channels that a block's MLP is to keep. Every second row of the sample ranks them, where that is plenty. */
async function channelsToKeep(
  { passes, solver, sample, shapes, ridges }: Tools,
  student: ModelDefinition,
  block: number,
): Promise<number[]> {
  const fc2 = required(student.weights, `blocks.${block}.mlp.fc2.weight`);
  const seen = behindScale(student, block, "ls2", fc2);
  const thinned = isPlenty(sample.tokens / 2, fc2.dims[1] + 1) ? await sample.thinned(2) : undefined;
  try {
    const feeds = await passes.blockOf(student, block);
    const { fitting } = await sumUp(passes, thinned ?? sample.streams, "channels", feeds, 0);
    return await keptChannels(solver, fitting, seen, shapes[block].mlpWidth, ridges[0]);
  } finally {
    if (thinned) await passes.device.release(heldBy(thinned));
  }
}

/** A pass that says how far a block's output is from its target, from a place within it. */
type DifferencePass = "difference" | "fc2Difference";

/**
 * The student made with the first ridge; where there are few tokens for so many unknowns, of those made with each ridge the one
 * whose block is nearest to its target on images set aside.
 */
async function nearest(
  tools: Tools,
  pass: DifferencePass,
  block: number,
  unknowns: number,
  made: (ridge: number) => Promise<ModelDefinition>,
): Promise<{ student: ModelDefinition; ridge: number; difference?: number }> {
  let best: { student: ModelDefinition; ridge: number; difference: number } | undefined;
  const ridges = ridgesFor(tools, unknowns);
  if (ridges.length === 1) return { student: await made(ridges[0]), ridge: ridges[0] };
  for (const ridge of ridges) {
    const student = await made(ridge);
    const residual = await differenceOf(tools, pass, student, block);
    if (!best || residual < best.difference) best = { student, ridge, difference: residual };
  }
  if (!best) throw new Error("no ridge to try");
  return best;
}

/** The absolute difference of a block's output to its target, on images set aside. */
async function differenceOf(
  { evaluated, passes, sample }: Tools,
  pass: DifferencePass,
  model: ModelDefinition,
  block: number,
): Promise<number> {
  const feeds = await passes.blockOf(model, block);
  let sum = 0;
  for (const stream of sample.streams.filter((s) => s.aside === evaluated && s.priorWeight === undefined)) {
    sum += (await passes.sum(pass, stream, feeds)).difference;
  }
  return sum;
}
