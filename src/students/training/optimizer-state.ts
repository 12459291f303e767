// What trains and the optimizer's running means of it, on the device, or shared out among the devices whose runs give the gradients:
// each has all parameters and updates some of them. An update changes them in place where the device can. Elsewhere it goes block by block
// and frees what it has replaced, so that it takes no more memory beside them than one block's share.
import { Sessions } from "../../engine/compile.ts";
import { adamwScalars } from "../../engine/optim/adamw.ts";
import type { DeviceTensors } from "../../runtime/device-tensors.ts";
import { downloadAll, uploadAll } from "../../runtime/device-tensors.ts";
import type { LoopArguments } from "../../runtime/loop-runner.ts";
import type { Device, DeviceTensor } from "../../runtime/device.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { float32, zeros } from "../../utils/tensor.ts";
import { anyParameter, slot, squaresGraph, updateGraph, updateLoopGraph } from "./step-graphs.ts";
import type { DistillationOptions } from "../distillation-options.ts";
import type { Group } from "./parameter-groups.ts";
import { groupsOf, sharedOut } from "./parameter-groups.ts";
import type { Shapes } from "./trainables.ts";
import { required } from "../../utils/required.ts";

/** What a graph is fed of a parameter's gradients: one, or the two that count together. */
function gradientFeeds(
  [first, second]: readonly DeviceTensors[],
  name: string,
  gradientName: string,
): Record<string, DeviceTensor> {
  return {
    [slot.gradient(name)]: required(first, gradientName),
    ...(second ? { [slot.sum(name)]: required(second, gradientName) } : {}),
  };
}

/** Puts another tensor under a name; what stood there is the caller's to release. */
function replaced(tensors: DeviceTensors, name: string, next: DeviceTensor): DeviceTensor {
  const old = required(tensors, name);
  tensors.set(name, next);
  return old;
}

/** Takes tensors out of a map. */
function taken(from: DeviceTensors, names: readonly string[]): DeviceTensors {
  const tensors = new Map(names.map((name) => [name, required(from, name)]));
  for (const name of names) from.delete(name);
  return tensors;
}

/** PyTorch's clip_grad_norm_ adds so much to the norm. */
const clipEpsilon = 1e-6;

/** A device that takes part. */
interface Place {
  readonly device: Device;
  /** Blocks of the same parameters share one. */
  readonly sessions: Sessions;
  /** All of them. */
  readonly parameters: DeviceTensors;
  /** Of those that are updated here. */
  readonly momentum: DeviceTensors;
  readonly variance: DeviceTensors;
  readonly groups: readonly Group[];
}

/** One update, the first being `t` = 1; where gradients are clipped, what they are multiplied by. */
interface UpdateStep {
  readonly t: number;
  readonly learningRate: number;
  readonly clip: number | undefined;
}

const runningMeans = ["momentum", "variance"] as const;

/** What a graph is fed of a parameter's own, which it knows by `name`. */
function tensorsOf(
  { parameters, momentum, variance }: Place,
  gradients: readonly DeviceTensors[],
  name: string,
  gradientName: string,
): Record<string, DeviceTensor> {
  return {
    [name]: required(parameters, gradientName),
    [slot.momentum(name)]: required(momentum, gradientName),
    [slot.variance(name)]: required(variance, gradientName),
    ...gradientFeeds(gradients, name, gradientName),
  };
}

const namesOf = ({ groups }: Pick<Place, "groups">): string[] => groups.flatMap(({ full }) => [...full.values()]);

/** Threads of each, where several devices of one kind share the cores. */
const threadsOf = ({ threads }: Device, count: number): number | undefined =>
  threads && Math.max(1, Math.floor(threads / count));

/** Tensors go from one device to another. */
async function moved(from: Device, to: Device, tensors: DeviceTensors): Promise<DeviceTensors> {
  return uploadAll(to, await downloadAll(from, tensors, true), true);
}

async function copied(from: Device, to: Device, tensors: DeviceTensors): Promise<DeviceTensors> {
  return uploadAll(to, await downloadAll(from, tensors), true);
}

export class OptimizerState {
  private readonly shapes: Shapes;
  private readonly options: DistillationOptions["optimizer"];
  private readonly groups: readonly Group[];
  /** The first is the device that the state began on. */
  private places: readonly [Place, ...Place[]];

  private constructor(
    shapes: Shapes,
    options: DistillationOptions["optimizer"],
    groups: readonly Group[],
    first: Place,
  ) {
    this.shapes = shapes;
    this.options = options;
    this.groups = groups;
    this.places = [first];
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
    mayTake: boolean,
  ): Promise<OptimizerState> {
    const shapes = new Map([...parameters].map(([name, { dims }]) => [name, dims]));
    const groups = groupsOf(shapes, depth, options.layerDecay);
    const blank = new Map([...shapes].map(([name, dims]) => [name, zeros(dims)]));
    const first: Place = {
      device,
      sessions: new Sessions(device),
      parameters: await uploadAll(device, parameters, mayTake),
      momentum: await uploadAll(device, blank),
      variance: await uploadAll(device, blank, true),
      groups,
    };
    return new OptimizerState(shapes, options, groups, first);
  }

  /** Parameters by name, on the device that the state began on. */
  get parameters(): DeviceTensors {
    return this.places[0].parameters;
  }

  /**
   * The parameters on each of some devices, of which the first is that on which the state began. Updates take their gradients from
   * there, and go on there side by side.
   */
  async on(devices: readonly Device[]): Promise<readonly DeviceTensors[]> {
    const same = devices.length === this.places.length && this.places.every(({ device }, i) => device === devices[i]);
    if (!same) {
      await this.gather();
      if (devices.length > 1) await this.spread(devices);
    }
    return this.places.map(({ parameters }) => parameters);
  }

  /** From one place to several. */
  private async spread(devices: readonly Device[]): Promise<void> {
    const [whole] = this.places;
    await whole.sessions.dispose();
    const [localGroup, ...others] = sharedOut(this.groups, devices.length);
    const places: Place[] = [];
    for (const [i, groups] of others.entries()) {
      const device = devices[i + 1];
      const names = namesOf({ groups });
      places.push({
        device,
        sessions: new Sessions(device, { threads: threadsOf(device, devices.length) }),
        parameters: await copied(whole.device, device, whole.parameters),
        momentum: await moved(whole.device, device, taken(whole.momentum, names)),
        variance: await moved(whole.device, device, taken(whole.variance, names)),
        groups,
      });
    }
    const sessions = new Sessions(whole.device, { threads: threadsOf(whole.device, devices.length) });
    this.places = [{ ...whole, sessions, groups: localGroup }, ...places];
  }

  /** Back to one place. */
  private async gather(): Promise<void> {
    const [first, ...others] = this.places;
    if (others.length === 0) return;
    for (const place of others) {
      for (const means of runningMeans)
        for (const [name, tensor] of await moved(place.device, first.device, place[means]))
          first[means].set(name, tensor);
      await place.device.release([...place.parameters.values()]);
      await place.sessions.dispose();
      await place.device.trim();
    }
    await first.sessions.dispose();
    this.places = [{ ...first, sessions: new Sessions(first.device), groups: this.groups }];
  }

  /**
   * The update of step `t` (from 1) by the gradients that were found at each place, whose sum counts. They are released as they are
   * used, and taken out of the maps.
   */
  async update(gradients: readonly DeviceTensors[], t: number, learningRate: number): Promise<void> {
    const { places } = this;
    if (gradients.length !== places.length) throw new Error("gradients come from other devices than parameters lie on");
    const all = await Promise.all(places.map((place) => this.gradientsAt(place, gradients)));
    try {
      const clip = await this.clipOf(all);
      await Promise.all(places.map((place, i) => this.updateAt(place, all[i], { t, learningRate, clip })));
    } finally {
      for (const [i, { device }] of places.entries())
        await device.release(all[i].flatMap((tensors) => [...tensors.values()]));
    }
    // Each place tells the others.
    await Promise.all(places.flatMap((from) => places.filter((to) => to !== from).map((to) => this.tell(from, to))));
  }

  /** What all places found of the gradients of the parameters that are updated at one, there. */
  private async gradientsAt(place: Place, gradients: readonly DeviceTensors[]): Promise<DeviceTensors[]> {
    const names = namesOf(place);
    return Promise.all(
      gradients.map(async (tensors, i) => {
        const { device } = this.places[i];
        const local = taken(tensors, names);
        return device === place.device ? local : moved(device, place.device, local);
      }),
    );
  }

  /** Copies of parameters that were updated at one place go to another. */
  private async tell(from: Place, to: Place): Promise<void> {
    const updated = new Map(namesOf(from).map((name) => [name, required(from.parameters, name)]));
    const copies = await copied(from.device, to.device, updated);
    await to.device.release([...copies].map(([name, copy]) => replaced(to.parameters, name, copy)));
  }

  private async updateAt(place: Place, gradients: readonly DeviceTensors[], step: UpdateStep): Promise<void> {
    if (place.device.createLoop) await this.changeAt(place, gradients, step);
    else await this.replaceAt(place, gradients, step);
  }

  /** What an update is fed beside tensors. */
  private scalarsOf({ t, learningRate, clip }: UpdateStep, { scale }: Group): Record<string, number> {
    return {
      ...adamwScalars(t, learningRate * scale, this.options.betas),
      ...(clip === undefined ? {} : { clip }),
    };
  }

  /** Changes parameters and running means in place. */
  private async changeAt(place: Place, gradients: readonly DeviceTensors[], step: UpdateStep): Promise<void> {
    const halves = gradients.length > 1;
    for (const matrices of [true, false]) {
      const calls: LoopArguments<DeviceTensor>[] = [];
      for (const group of place.groups) {
        const scalars = this.scalarsOf(step, group);
        for (const [name, gradientName] of group.full)
          if (required(group.shapes, name).length >= 2 === matrices)
            calls.push({ scalars, tensors: tensorsOf(place, gradients, anyParameter, gradientName) });
      }
      if (calls.length === 0) continue;
      const key = `${matrices} ${halves}`;
      const loop = await place.sessions.loop(key, () => updateLoopGraph(matrices, this.options, halves));
      await loop.run(calls);
    }
  }

  /** Puts new tensors in the place of those there were, block by block. */
  private async replaceAt(place: Place, gradients: readonly DeviceTensors[], step: UpdateStep): Promise<void> {
    const halves = gradients.length > 1;
    const { device, sessions, groups, parameters, momentum, variance } = place;
    for (const group of groups) {
      const { key, shapes, full } = group;
      const session = await sessions.get(`update ${halves} ${key}`, () => updateGraph(shapes, this.options, halves));
      const feeds: Record<string, Tensor | DeviceTensor> = {};
      for (const [name, value] of Object.entries(this.scalarsOf(step, group))) feeds[name] = float32([value], []);
      for (const [name, gradientName] of full) Object.assign(feeds, tensorsOf(place, gradients, name, gradientName));
      const { kept } = await session.run({ feeds, keep: session.outputNames, mustFinish: true });
      const used: DeviceTensor[] = [];
      for (const [name, gradientName] of full) {
        used.push(replaced(parameters, gradientName, kept[slot.next(name)]));
        used.push(replaced(momentum, gradientName, kept[slot.next(slot.momentum(name))]));
        used.push(replaced(variance, gradientName, kept[slot.next(slot.variance(name))]));
        for (const gradient of gradients) used.push(...taken(gradient, [gradientName]).values());
      }
      await device.release(used);
    }
  }

  /** What all gradients are multiplied by, so that their common norm is at most what is asked for; `gradients` of each place. */
  private async clipOf(gradients: readonly (readonly DeviceTensors[])[]): Promise<number | undefined> {
    const { clipNorm } = this.options;
    if (clipNorm === undefined) return undefined;
    const squares = await Promise.all(this.places.map((place, i) => this.squaresAt(place, gradients[i])));
    return Math.min(1, clipNorm / (Math.sqrt(squares.reduce((a, b) => a + b)) + clipEpsilon));
  }

  private async squaresAt({ sessions, groups }: Place, gradients: readonly DeviceTensors[]): Promise<number> {
    const halves = gradients.length > 1;
    let squares = 0;
    for (const { key, shapes, full } of groups) {
      const session = await sessions.get(`squares ${halves} ${key}`, () => squaresGraph(shapes, halves));
      const feeds = Object.assign(
        {},
        ...[...full].map(([name, gradientName]) => gradientFeeds(gradients, name, gradientName)),
      );
      const { tensors } = await session.run({ feeds, fetch: ["squares"], mustFinish: true });
      squares += Number(tensors.squares.data[0]);
    }
    return squares;
  }

  /** All tensors by name: parameters and, by their slots, running means. */
  async save(): Promise<Map<string, FloatTensor>> {
    const [first] = this.places;
    const tensors = await downloadAll(first.device, first.parameters);
    for (const means of runningMeans) {
      const saved = new Map<string, FloatTensor>();
      for (const place of this.places)
        for (const [name, tensor] of await downloadAll(place.device, place[means])) saved.set(name, tensor);
      for (const name of this.shapes.keys()) tensors.set(slot[means](name), required(saved, name));
    }
    return tensors;
  }

  /** Takes tensors as `save` gives them. Throws a UserError where one is missing or misshapen; nothing is changed then. */
  async load(tensors: ReadonlyMap<string, FloatTensor>): Promise<void> {
    const wanted = [...this.shapes].flatMap(([name, dims]) =>
      [name, slot.momentum(name), slot.variance(name)].map((as) => {
        const tensor = tensors.get(as);
        if (tensor?.dims.join() !== dims.join())
          throw new UserError(`The saved state has no ${as} [${dims.join(", ")}]; it belongs to other settings`, {
            code: "INVALID_OPTION",
          });
        return tensor as FloatTensor;
      }),
    );
    await this.gather();
    const [{ device, parameters, momentum, variance }] = this.places;
    for (const [i, name] of [...this.shapes.keys()].entries())
      for (const [k, tensors] of [parameters, momentum, variance].entries())
        await device.release([replaced(tensors, name, await device.upload(wanted[3 * i + k]))]);
  }

  /** Closes the sessions and frees all tensors. */
  async dispose(): Promise<void> {
    for (const { device, sessions, parameters, momentum, variance } of this.places) {
      await sessions.dispose();
      const all = [parameters, momentum, variance];
      await device.release(all.flatMap((tensors) => [...tensors.values()]));
      for (const tensors of all) tensors.clear();
      await device.trim();
    }
  }
}
