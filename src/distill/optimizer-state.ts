// What trains and the optimizer's running means of it, on the device. An update goes block by block and frees what it has
// replaced, so that it takes no more memory beside them than one block's share.
import { Sessions } from "../compile.ts";
import { adamwScalars } from "../optim/adamw.ts";
import type { Held } from "../runtime/held.ts";
import { downloadAll, uploadAll } from "../runtime/held.ts";
import type { Device, DeviceTensor } from "../runtime/types.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import { float32, zeros } from "../utils/tensor.ts";
import { layerScale, slot, squaresGraph, updateGraph } from "./graphs.ts";
import type { DistillationOptions } from "./options.ts";
import type { Shapes } from "./trainables.ts";
import { blockPrefix } from "./trainables.ts";

/** Parameters that are updated together: a block's, or others of one learning rate. */
interface Group {
  /** The same for groups of the same shapes. */
  readonly key: string;
  /** What its learning rate is multiplied by. */
  readonly scale: number;
  /** By the names within the block, which are those of other blocks too. */
  readonly shapes: Shapes;
  /** The parameter that a name within the block stands for. */
  readonly full: ReadonlyMap<string, string>;
}

function groupsOf(shapes: Shapes, depth: number, decay: number): Group[] {
  const groups = new Map<
    string,
    { scale: number; shapes: Map<string, readonly number[]>; full: Map<string, string> }
  >();
  for (const [name, dims] of shapes) {
    const scale = layerScale(name, depth, decay);
    const prefix = blockPrefix(name);
    const key = `${prefix} ${scale}`;
    const group = groups.get(key) ?? { scale, shapes: new Map(), full: new Map() };
    groups.set(key, group);
    group.shapes.set(name.slice(prefix.length), dims);
    group.full.set(name.slice(prefix.length), name);
  }
  return [...groups.values()].map((group) => ({ ...group, key: JSON.stringify([...group.shapes]) }));
}

/** Sums of gradients by the parameters' names: one, or two halves. */
export type Gradients = readonly [Held] | readonly [Held, Held];

/** What a graph is fed of a parameter's gradients. */
function gradientFeeds([first, second]: Gradients, name: string, own: string): Record<string, DeviceTensor> {
  return {
    [slot.gradient(name)]: first.get(own) as DeviceTensor,
    ...(second ? { [slot.sum(name)]: second.get(own) as DeviceTensor } : {}),
  };
}

/** Puts another tensor under a name; what stood there is the caller's to release. */
function replaced(held: Held, name: string, next: DeviceTensor): DeviceTensor {
  const old = held.get(name) as DeviceTensor;
  held.set(name, next);
  return old;
}

/** PyTorch's clip_grad_norm_ adds so much to the norm. */
const clipEpsilon = 1e-6;

export class OptimizerState {
  /** Parameters by name. */
  readonly parameters: Held;
  private readonly momentum: Held;
  private readonly variance: Held;
  private readonly device: Device;
  private readonly shapes: Shapes;
  private readonly options: DistillationOptions["optimizer"];
  private readonly groups: readonly Group[];
  /** Blocks of the same parameters share one. */
  private readonly sessions: Sessions;

  private constructor(
    device: Device,
    shapes: Shapes,
    options: DistillationOptions["optimizer"],
    depth: number,
    held: readonly [Held, Held, Held],
  ) {
    this.device = device;
    this.sessions = new Sessions(device);
    this.shapes = shapes;
    this.options = options;
    this.groups = groupsOf(shapes, depth, options.layerDecay);
    [this.parameters, this.momentum, this.variance] = held;
  }

  /**
   * Begins with these parameters of a student of `depth` blocks, and with running means of zero; `own` says that it may have the
   * parameters' memory.
   */
  static async create(
    device: Device,
    parameters: ReadonlyMap<string, FloatTensor>,
    options: DistillationOptions["optimizer"],
    depth: number,
    own: boolean,
  ): Promise<OptimizerState> {
    const shapes = new Map([...parameters].map(([name, { dims }]) => [name, dims]));
    const blank = new Map([...shapes].map(([name, dims]) => [name, zeros(dims)]));
    const held = [
      await uploadAll(device, parameters, own),
      await uploadAll(device, blank),
      await uploadAll(device, blank, true),
    ] as const;
    return new OptimizerState(device, shapes, options, depth, held);
  }

  /** The update of step `t` (from 1) by gradients whose sum counts. They are released as they are used, and taken out of the maps. */
  async update(gradients: Gradients, t: number, learningRate: number): Promise<void> {
    const clip = await this.clipOf(gradients);
    const halves = gradients.length > 1;
    for (const { key, scale, shapes, full } of this.groups) {
      const session = await this.sessions.get(`update ${halves} ${key}`, () =>
        updateGraph(shapes, this.options, halves),
      );
      const scalars = adamwScalars(t, learningRate * scale, this.options.betas);
      const feeds: Record<string, Tensor | DeviceTensor> = {};
      for (const [name, value] of Object.entries({ ...scalars, ...(clip === undefined ? {} : { clip }) }))
        feeds[name] = float32([value], []);
      for (const [name, own] of full) {
        feeds[name] = this.parameters.get(own) as DeviceTensor;
        feeds[slot.momentum(name)] = this.momentum.get(own) as DeviceTensor;
        feeds[slot.variance(name)] = this.variance.get(own) as DeviceTensor;
        Object.assign(feeds, gradientFeeds(gradients, name, own));
      }
      const { kept } = await session.run({ feeds, keep: session.outputNames });
      const used: DeviceTensor[] = [];
      for (const [name, own] of full) {
        used.push(replaced(this.parameters, own, kept[slot.next(name)]));
        used.push(replaced(this.momentum, own, kept[slot.next(slot.momentum(name))]));
        used.push(replaced(this.variance, own, kept[slot.next(slot.variance(name))]));
        for (const held of gradients) {
          used.push(held.get(own) as DeviceTensor);
          held.delete(own);
        }
      }
      await this.device.release(used);
    }
  }

  /** What all gradients are multiplied by, so that their common norm is at most what is asked for. */
  private async clipOf(gradients: Gradients): Promise<number | undefined> {
    const { clipNorm } = this.options;
    if (clipNorm === undefined) return undefined;
    let squares = 0;
    for (const { key, shapes, full } of this.groups) {
      const halves = gradients.length > 1;
      const session = await this.sessions.get(`squares ${halves} ${key}`, () => squaresGraph(shapes, halves));
      const feeds = Object.assign({}, ...[...full].map(([name, own]) => gradientFeeds(gradients, name, own)));
      const { tensors } = await session.run({ feeds, fetch: ["squares"] });
      squares += Number(tensors.squares.data[0]);
    }
    return Math.min(1, clipNorm / (Math.sqrt(squares) + clipEpsilon));
  }

  /** All tensors by name: parameters and, by their slots, running means. */
  async save(): Promise<Map<string, FloatTensor>> {
    const tensors = await downloadAll(this.device, this.parameters);
    for (const [name, tensor] of await downloadAll(this.device, this.momentum))
      tensors.set(slot.momentum(name), tensor);
    for (const [name, tensor] of await downloadAll(this.device, this.variance))
      tensors.set(slot.variance(name), tensor);
    return tensors;
  }

  /** Takes tensors as `save` gives them. Throws a UserError where one is missing or misshapen; nothing is changed then. */
  async load(tensors: ReadonlyMap<string, FloatTensor>): Promise<void> {
    const wanted = [...this.shapes].flatMap(([name, dims]) =>
      [name, slot.momentum(name), slot.variance(name)].map((as) => {
        const tensor = tensors.get(as);
        if (tensor?.dims.join() !== dims.join())
          throw new UserError(`the saved state has no ${as} [${dims.join(", ")}]; it belongs to other settings`);
        return tensor as FloatTensor;
      }),
    );
    for (const [i, name] of [...this.shapes.keys()].entries())
      for (const [k, held] of [this.parameters, this.momentum, this.variance].entries())
        await this.device.release([replaced(held, name, await this.device.upload(wanted[3 * i + k]))]);
  }

  /** Closes the sessions and frees all tensors. */
  async dispose(): Promise<void> {
    await this.sessions.dispose();
    const all = [this.parameters, this.momentum, this.variance];
    await this.device.release(all.flatMap((held) => [...held.values()]));
    for (const held of all) held.clear();
  }
}
