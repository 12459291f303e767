// Loss and gradients of a step, summed over its micro-batches: by one session, or by two at a time, each for every other one.
import { compile, compilePair } from "../compile.ts";
import type { Graph } from "../graph/types.ts";
import type { Int8Inputs, Int8Options } from "../passes/int8-products.ts";
import type { Held } from "../runtime/held.ts";
import { downloadAll, uploadAll } from "../runtime/held.ts";
import type { Device, DeviceTensor, Feed, Session } from "../runtime/types.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { elementCount, zeros } from "../utils/tensor.ts";
import { slot } from "./graphs.ts";
import type { Gradients } from "./optimizer-state.ts";
import type { Shapes } from "./trainables.ts";

/** What sessions are made for: they are opened anew for other micro-batches. */
export interface RunShape {
  readonly batch: number;
  readonly givenTargets: boolean;
}

/** One micro-batch: its shape, and what a run is fed beside parameters and sums. */
export interface Part extends RunShape {
  readonly feeds: Readonly<Record<string, Feed>>;
}

export interface GradientRunsOptions {
  readonly device: Device;
  /** What trains. */
  readonly shapes: Shapes;
  /** Micro-batches of a step. */
  readonly accumulation: number;
  /** Whether two sessions may hold activations at the same time. */
  readonly pairs: boolean;
  readonly int8: (Int8Options & { readonly inputs: Int8Inputs }) | undefined;
  /** The graph of loss and gradients. */
  build(shape: RunShape): Promise<Graph>;
}

/** A session that takes some of a step's micro-batches. */
interface Lane {
  readonly device: Device;
  readonly session: Session;
  /** Where its sums of gradients begin, where there are any. */
  readonly blank: Held;
}

interface Lanes {
  readonly shape: RunShape;
  readonly all: readonly Lane[];
}

interface Summed {
  readonly device: Device;
  /** Of each micro-batch that the lane took. */
  readonly losses: readonly number[];
  readonly sums: Held;
}

/** Zeros for each parameter; those of one shape share theirs. */
async function blankSums(device: Device, shapes: Shapes): Promise<Held> {
  const blanks = await uploadAll(device, new Map([...shapes.values()].map((dims) => [dims.join(), zeros(dims)])));
  return new Map([...shapes].map(([name, dims]) => [name, blanks.get(dims.join()) as DeviceTensor]));
}

const renamed = (held: Held, by: (name: string) => string) =>
  Object.fromEntries([...held].map(([name, tensor]) => [by(name), tensor]));

/** Gives the parts of a step by their numbers, each once. It is asked for when those in front of it have come, whoever takes them. */
function inOrder(parts: readonly (() => Promise<Part>)[]): (i: number) => Promise<Part> {
  const waiting = new Map<number, Promise<Part>>();
  let next = 0;
  let before: Promise<unknown> = Promise.resolve();
  return (i) => {
    for (; next <= i; next++) {
      const part = before.then(parts[next]);
      // Whoever takes it hears of an error.
      before = part.catch(() => undefined);
      waiting.set(next, part);
    }
    const found = waiting.get(i) as Promise<Part>;
    waiting.delete(i);
    return found;
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

export class GradientRuns {
  private readonly options: GradientRunsOptions;
  private lanes: Lanes | undefined;

  constructor(options: GradientRunsOptions) {
    this.options = options;
  }

  /**
   * Mean loss and mean gradients over the micro-batches, which are asked for in order; the gradients stay on the device, and are the
   * sum of what is given. Throws a RunError, with the step's `number` in it, where a loss is not finite, and a UserError where
   * micro-batches are not alike.
   */
  async run(
    parts: readonly (() => Promise<Part>)[],
    parameters: Held,
    number: number,
  ): Promise<{ loss: number; gradients: Gradients }> {
    const take = inOrder(parts);
    const front = await take(0);
    const lanes = await this.open(front);
    const [first, second] = lanes.all;
    // The device beside holds none of the parameters.
    const copies = second && (await uploadAll(second.device, await downloadAll(first.device, parameters), true));
    const step: Step = { number, take: (i) => (i === 0 ? Promise.resolve(front) : take(i)), failed: false };
    const outcomes = await Promise.allSettled(
      lanes.all.map((_, lane) => this.runLane(lanes, lane, (lane > 0 && copies) || parameters, step)),
    );
    if (copies) await second.device.release([...copies.values()]);
    const summed = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed) {
      const blanks = new Set(lanes.all.map(({ blank }) => blank));
      for (const { device, sums } of summed) if (!blanks.has(sums)) await device.release([...sums.values()]);
      throw failed.reason;
    }
    const loss = summed.flatMap(({ losses }) => losses).reduce((sum, one) => sum + one, 0) / parts.length;
    const [own, other] = summed;
    if (!other) return { loss, gradients: [own.sums] };
    const brought = await downloadAll(second.device, other.sums, true);
    return { loss, gradients: [own.sums, await uploadAll(first.device, brought, true)] };
  }
  /** Every other micro-batch, or all of them where there is one lane. */
  private async runLane({ shape, all }: Lanes, lane: number, parameters: Held, step: Step): Promise<Summed> {
    const { device, session, blank } = all[lane];
    const names = [...this.options.shapes.keys()];
    const losses: number[] = [];
    let sums = blank;
    const forget = async () => {
      if (sums !== blank) await device.release([...sums.values()]);
    };
    try {
      for (let i = lane; i < this.options.accumulation && !step.failed; i += all.length) {
        const { feeds, batch, givenTargets } = await step.take(i);
        if (batch !== shape.batch || givenTargets !== shape.givenTargets)
          throw new UserError("a step's micro-batches must have as many pictures each, and all targets or none");
        const { tensors, kept } = await session.run({
          feeds: { ...feeds, ...Object.fromEntries(parameters), ...renamed(sums, slot.sum) },
          fetch: ["loss"],
          keep: names.map(slot.gradient),
        });
        await forget();
        sums = new Map(names.map((name) => [name, kept[slot.gradient(name)]]));
        const loss = Number(tensors.loss.data[0]);
        if (!Number.isFinite(loss)) {
          throw new RunError(
            `the loss is ${loss} at step ${step.number}, so training stops; a lower learning rate or a longer ` +
              "warm-up may help, and pictures or teacher weights that are not finite would explain it too",
          );
        }
        losses.push(loss);
      }
    } catch (error) {
      step.failed = true;
      await forget();
      throw error;
    }
    return { device, losses, sums };
  }

  private async open({ batch, givenTargets }: RunShape): Promise<Lanes> {
    const open = this.lanes;
    if (open?.shape.batch === batch && open.shape.givenTargets === givenTargets) return open;
    await this.close();
    const { device, shapes, accumulation, pairs, int8 } = this.options;
    const shape = { batch, givenTargets };
    const built = await this.options.build(shape);
    const trained = [...shapes.values()].reduce((sum, dims) => sum + elementCount(dims), 0);
    const opened =
      pairs && accumulation % 2 === 0
        ? await compilePair(built, device, 4 * trained, { int8 })
        : [{ device, session: await compile(built, device, { int8 }) }];
    const all: Lane[] = [];
    for (const lane of opened)
      all.push({ ...lane, blank: accumulation > 1 ? await blankSums(lane.device, shapes) : new Map() });
    this.lanes = { shape, all };
    return this.lanes;
  }

  private async close(): Promise<void> {
    for (const { device, session, blank } of this.lanes?.all ?? []) {
      await session.dispose();
      await device.release([...blank.values()]);
      await device.trim();
    }
    this.lanes = undefined;
  }

  /** Closes the sessions and frees what they hold. */
  dispose(): Promise<void> {
    return this.close();
  }
}
