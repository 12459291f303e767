// A run's pictures in turns, one after the other in one graph. Fewer at once fit a processor's caches better and take less memory, and unlike
// runs of their own, turns share what follows from the parameters alone and give one sum of gradients.
import { add, after, concat, input, mul, reshape, slice } from "../graph/build.ts";
import type { Graph, Value } from "../graph/types.ts";
import { inputName } from "../graph/types.ts";
import { rewrite } from "../graph/walk.ts";

export interface UnrollOptions {
  readonly turns: number;
  /** Names of the inputs that have a row for each picture. */
  readonly pictures: ReadonlySet<string>;
  /** By an input that is added to an output: the output. */
  readonly sums: ReadonlyMap<string, string>;
  /** Whether sums begin with these pictures: their inputs go. */
  readonly begins: boolean;
}

/** A number of a value, `[1]`. */
const numberOf = (value: Value): Value =>
  reshape(
    value.shape.reduce<Value>((x, _, axis) => slice(x, axis, 0, 1), value),
    [1],
  );

/**
 * From a graph for some pictures to one for `turns` times as many: sums go from turn to turn, other outputs (the loss) become means
 * over the turns. Run last: what earlier passes made of weights is shared by all turns.
 */
export function unroll(graph: Graph, { turns, pictures, sums, begins }: UnrollOptions): Graph {
  const inputs = new Map(graph.inputs.map((value) => [inputName(value), value]));
  const summed = [...sums].filter(([name]) => inputs.has(name));
  const rowsOf = (name: string) => inputs.get(name)?.shape[0] as number;
  const whole = new Map<string, Value>();
  for (const [name, { type, shape }] of inputs)
    if (pictures.has(name)) whole.set(name, input(name, type, [turns * rowsOf(name), ...shape.slice(1)]));
  const leading = new Set(begins ? summed.map(([name]) => inputs.get(name) as Value) : []);
  const made: ReadonlyMap<string, Value>[] = [];
  for (let turn = 0; turn < turns; turn++) {
    const before = made.at(-1);
    const standIns = new Map<Value, Value>();
    // ONNX Runtime would take turns abreast, which takes the memory of all.
    const gate =
      before &&
      concat(
        summed.map(([, output]) => numberOf(before.get(output) as Value)),
        0,
      );
    for (const [name, all] of whole) {
      const rows = rowsOf(name);
      const own = slice(gate ? after(all, gate) : all, 0, turn * rows, (turn + 1) * rows);
      standIns.set(inputs.get(name) as Value, own);
    }
    if (before)
      for (const [name, output] of summed) standIns.set(inputs.get(name) as Value, before.get(output) as Value);
    const { outputs } = rewrite(
      graph,
      ({ op, inputs: [first] }, [, second]) => (!before && op === "Add" && leading.has(first) ? [second] : undefined),
      standIns,
    );
    made.push(outputs);
  }
  const isSum = new Set(summed.map(([, output]) => output));
  const meanOf = (name: string) => {
    const all = made.map((outputs) => outputs.get(name) as Value);
    return turns === 1
      ? all[0]
      : mul(
          all.reduce((a, b) => add(a, b)),
          1 / turns,
        );
  };
  return {
    inputs: graph.inputs.filter((value) => !leading.has(value)).map((value) => whole.get(inputName(value)) ?? value),
    outputs: new Map([...(made.at(-1) ?? [])].map(([name, value]) => [name, isSum.has(name) ? value : meanOf(name)])),
  };
}
