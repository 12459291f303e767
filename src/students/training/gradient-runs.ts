// Loss and gradients of a step, summed over its micro-batches: each taken whole by one session, or one half each by two at the same time,
// in turns where images are many.
import { compileOn } from "../../engine/compile.ts";
import type { Graph } from "../../engine/graph/graph.ts";
import { inputName } from "../../engine/graph/graph.ts";
import type { Int8Inputs, Int8Options } from "../../engine/passes/int8/int8-products.ts";
import type { DeviceTensors } from "../../runtime/device-tensors.ts";
import { uploadAll } from "../../runtime/device-tensors.ts";
import type { Device, Session } from "../../runtime/device.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { rows, zeros } from "../../utils/tensor.ts";
import type { Given } from "./step-graphs.ts";
import { slot } from "./step-graphs.ts";
import type { Shapes } from "./trainables.ts";
import { required } from "../../utils/required.ts";

/** What sessions are made for: they are opened anew for other micro-batches. */
export interface RunShape {
  readonly batch: number;
  readonly given: Given;
}

/** One micro-batch: its shape, and what a run is fed beside parameters and sums, image by image along the first axis or one for all. */
export interface Part extends RunShape {
  readonly feeds: Readonly<Record<string, Tensor>>;
}

export interface GradientRunsOptions {
  readonly device: Device;
  /** What trains. */
  readonly shapes: Shapes;
  /** Micro-batches of a step. */
  readonly accumulation: number;
  /** Whether two sessions may run at the same time, each with weights of its own. */
  readonly pairs: boolean;
  readonly int8: (Int8Options & { readonly inputs: Int8Inputs }) | undefined;
  /** The graph of loss and gradients, of which a step takes `runs`. */
  build(shape: RunShape, runs: number): Promise<Graph>;
  /** What trains, as it is now, on each of the devices that take part in a step. */
  parametersOn(devices: readonly Device[]): Promise<readonly DeviceTensors[]>;
}

/** What one device's runs of a step gave: gradients that count together with those of the others. */
export interface Share {
  readonly device: Device;
  readonly gradients: DeviceTensors;
}

/** A session that takes all of each micro-batch, or a half of each. */
interface Lane {
  readonly device: Device;
  readonly session: Session;
  /** Where its sums of gradients begin, where it has several runs to a step. */
  readonly blank: DeviceTensors;
}

interface Lanes {
  readonly shape: RunShape;
  readonly all: readonly Lane[];
}

interface Summed extends Share {
  /** Of each micro-batch, or of the lane's half of it. */
  readonly losses: readonly number[];
}

/** Zeros for each parameter; those of one shape share theirs. */
async function blankSums(device: Device, shapes: Shapes): Promise<DeviceTensors> {
  const blanks = await uploadAll(device, new Map([...shapes.values()].map((dims) => [dims.join(), zeros(dims)])));
  return new Map([...shapes].map(([name, dims]) => [name, required(blanks, dims.join())]));
}

const renamed = (tensors: DeviceTensors, by: (name: string) => string) =>
  Object.fromEntries([...tensors].map(([name, tensor]) => [by(name), tensor]));

/** A turn of a run has so many images for each thread, at least: fewer make thin products. */
const imagesPerThread = 2;

/**
 * In how many turns a graph takes its images: two, where they are enough and `threads` of a processor run it. More would gain no more,
 * and a session with four times the nodes takes seconds to open.
 */
function repeatsOf(images: number, threads: number | undefined): number {
  return threads && images % 2 === 0 && images / 2 >= imagesPerThread * threads ? 2 : 1;
}

/** What a lane takes of the feeds: rows of those that have one for each image. */
function shareOf(feeds: Part["feeds"], batch: number, lane: number, lanes: number): Part["feeds"] {
  if (lanes === 1) return feeds;
  const [from, to] = [(lane * batch) / lanes, ((lane + 1) * batch) / lanes];
  const share = (tensor: Tensor) => (tensor.dims[0] === batch ? rows(tensor, from, to) : tensor);
  return Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, share(tensor)]));
}

/** Gives the parts of a step by their numbers, each to `takers`. It is asked for when those in front of it have come. */
function inOrder(parts: readonly (() => Promise<Part>)[], takers: number): (i: number) => Promise<Part> {
  const waiting = new Map<number, { readonly part: Promise<Part>; takers: number }>();
  let next = 0;
  let before: Promise<unknown> = Promise.resolve();
  return (i) => {
    for (; next <= i; next++) {
      const part = before.then(parts[next]);
      // Whoever takes it hears of an error.
      before = part.catch(() => undefined);
      waiting.set(next, { part, takers: takers });
    }
    const entry = required(waiting, i);
    if (--entry.takers === 0) waiting.delete(i);
    return entry.part;
  };
}

/** A step that is under way. */
interface Step {
  /** From 1. */
  readonly number: number;
  readonly take: (i: number) => Promise<Part>;
  /** A lane has failed: the other need not go on. */
  failed: boolean;
}

/** That a step's loss is NaN or infinite. */
export class LossNotFinite extends RunError {}

export class GradientRuns {
  private readonly options: GradientRunsOptions;
  private lanes: Lanes | undefined;

  constructor(options: GradientRunsOptions) {
    this.options = options;
  }

  /**
   * Mean loss and mean gradients over the micro-batches, which are asked for in order; the gradients stay on the devices, and are the
   * sum of the shares. Throws a RunError, with the step's `number` in it, where a loss is not finite, and a UserError where
   * micro-batches are not alike.
   */
  async run(
    parts: readonly (() => Promise<Part>)[],
    number: number,
  ): Promise<{ loss: number; shares: readonly Share[] }> {
    const [front, ...others] = parts;
    const came = await front();
    const lanes = await this.open(came);
    const take = inOrder([() => Promise.resolve(came), ...others], lanes.all.length);
    const parameters = await this.options.parametersOn(lanes.all.map(({ device }) => device));
    const step: Step = { number, take, failed: false };
    const outcomes = await Promise.allSettled(
      lanes.all.map((_, lane) => this.runLane(lanes, lane, parameters[lane], step)),
    );
    const summed = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed) {
      const blanks = new Set(lanes.all.map(({ blank }) => blank));
      for (const { device, gradients } of summed)
        if (!blanks.has(gradients)) await device.release([...gradients.values()]);
      throw failed.reason;
    }
    const losses = summed.flatMap((one) => one.losses);
    return { loss: losses.reduce((sum, one) => sum + one, 0) / losses.length, shares: summed };
  }

  /** All micro-batches, or a half of each where there are two lanes. */
  private async runLane({ shape, all }: Lanes, lane: number, parameters: DeviceTensors, step: Step): Promise<Summed> {
    const { device, session, blank } = all[lane];
    const names = [...this.options.shapes.keys()];
    const losses: number[] = [];
    let sums = blank;
    const forget = async () => {
      if (sums !== blank) await device.release([...sums.values()]);
    };
    try {
      for (let i = 0; i < this.options.accumulation && !step.failed; i++) {
        const { feeds, batch, given } = await step.take(i);
        if (batch !== shape.batch || given !== shape.given)
          throw new UserError("A step's micro-batches must have as many images each, and all targets or none", {
            code: "INVALID_OPTION",
          });
        const { tensors, kept } = await session.run({
          feeds: {
            ...shareOf(feeds, batch, lane, all.length),
            ...Object.fromEntries(parameters),
            ...renamed(sums, slot.sum),
          },
          fetch: ["loss"],
          keep: names.map(slot.gradient),
        });
        await forget();
        sums = new Map(names.map((name) => [name, kept[slot.gradient(name)]]));
        const loss = Number(tensors.loss.data[0]);
        if (!Number.isFinite(loss)) {
          throw new LossNotFinite(
            `The loss is ${loss} at step ${step.number}, so training stops. A lower learning rate or a longer ` +
              "warm-up may help. Images or teacher weights that are not finite have the same effect.",
            { code: "NOT_FINITE" },
          );
        }
        losses.push(loss);
      }
    } catch (error) {
      step.failed = true;
      await forget();
      throw error;
    }
    return { device, losses, gradients: sums };
  }

  private async open({ batch, given }: RunShape): Promise<Lanes> {
    const open = this.lanes;
    if (open?.shape.batch === batch && open.shape.given === given) return open;
    await this.dispose();
    const { device, shapes, accumulation, pairs, int8 } = this.options;
    const shape = { batch, given };
    const { threads = 1 } = device;
    // A thread or an image that is left over would cost more than halves spare.
    const even = threads % 2 === 0 && batch % 2 === 0;
    const sibling = pairs && even ? device.sibling?.() : undefined;
    const devices = sibling ? [device, sibling] : [device];
    const each = batch / devices.length;
    const repeats = repeatsOf(each, device.threads && threads / devices.length);
    const built = await this.options.build(
      { ...shape, batch: each / repeats },
      repeats * devices.length * accumulation,
    );
    const images = built.inputs.filter((value) => !shapes.has(inputName(value)) && value.shape[0] === each / repeats);
    // Of several runs, each goes on with the sums of those before.
    const sumOf = (name: string) => (accumulation > 1 ? slot.sum(name) : undefined);
    const sums = new Map([...shapes.keys()].map((name) => [slot.gradient(name), sumOf(name)]));
    const sessions = await compileOn(devices, built, {
      int8,
      unrolled: { repeats, images: new Set(images.map(inputName)), sums },
      ...(sibling ? { threads: threads / 2 } : {}),
    });
    const all: Lane[] = [];
    for (const [i, session] of sessions.entries())
      all.push({
        device: devices[i],
        session,
        blank: accumulation > 1 ? await blankSums(devices[i], shapes) : new Map(),
      });
    this.lanes = { shape, all };
    return this.lanes;
  }

  /** Closes the sessions and frees what they hold; others are opened when they are asked for. */
  async dispose(): Promise<void> {
    for (const { device, session, blank } of this.lanes?.all ?? []) {
      await session.dispose();
      await device.release([...blank.values()]);
      await device.trim();
    }
    this.lanes = undefined;
  }
}
