// Sums over images: on top of those that come in, and over a run's images in turns, one after the other in one graph. Fewer at once fit
// a processor's caches better and take less memory, and unlike runs of their own, turns share what follows from the parameters alone.
import { add, after, cornersOf, input, mul, slice } from "../graph/build.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { inputName } from "../graph/graph.ts";
import { rewrite } from "../graph/walk.ts";
import { required } from "../../utils/required.ts";

export interface UnrollOptions {
  readonly repeats: number;
  /** Names of the inputs that have a row for each image. */
  readonly images: ReadonlySet<string>;
  /** Outputs that are added up, each with the name of an input that its sum begins with, if any. */
  readonly sums: ReadonlyMap<string, string | undefined>;
}

/**
 * From a graph for some images to one for `turns` times as many: outputs are added up over the turns, or are means where they are no
 * sums (the loss). Run last: what earlier passes made of weights is shared by all turns.
 */
export function unroll(graph: Graph, { repeats, images, sums }: UnrollOptions): Graph {
  const whole = new Map<Value, Value>();
  for (const value of graph.inputs) {
    const [name, [rows, ...others]] = [inputName(value), value.shape];
    if (images.has(name)) whole.set(value, input(name, value.type, [repeats * (rows as number), ...others]));
  }
  const totals = new Map<string, Value>();
  for (const [output, name] of sums) {
    const value = name && graph.outputs.get(output);
    if (value) totals.set(output, input(name, value.type, value.shape));
  }
  const begun = [...totals.values()];
  for (let repeat = 0; repeat < repeats; repeat++) {
    // ONNX Runtime would take turns abreast, which takes the memory of all.
    const gate = repeat > 0 && cornersOf([...sums.keys()].map((output) => required(totals, output)));
    const standIns = new Map<Value, Value>();
    for (const [value, all] of whole) {
      const rows = value.shape[0] as number;
      standIns.set(value, slice(gate ? after(all, gate) : all, 0, repeat * rows, (repeat + 1) * rows));
    }
    for (const [output, value] of rewrite(graph, () => undefined, standIns).outputs) {
      const total = totals.get(output);
      totals.set(output, total ? add(total, value) : value);
    }
  }
  const result = (output: string): Value => {
    const total = required(totals, output);
    return sums.has(output) || repeats === 1 ? total : mul(total, 1 / repeats);
  };
  return {
    inputs: [...graph.inputs.map((value) => whole.get(value) ?? value), ...begun],
    outputs: new Map([...graph.outputs.keys()].map((output) => [output, result(output)])),
  };
}
