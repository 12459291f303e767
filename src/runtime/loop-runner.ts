// Loops over the elements of tensors in this thread's memory, strip by strip.
import type { LoopSource } from "../utils/loop-source.ts";
import { vectorBytes } from "../utils/loop-source.ts";

/** What a loop goes over. */
export interface LoopArguments<T> {
  readonly scalars: Readonly<Record<string, number>>;
  /** As many numbers each. */
  readonly tensors: Readonly<Record<string, T>>;
}

/** A loop, ready to be run. */
export function openLoop({ module, strip, scalars, arrays }: LoopSource): (over: LoopArguments<Float32Array>) => void {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module));
  const { memory, loop } = exports as { memory: WebAssembly.Memory; loop: (...numbers: number[]) => void };
  const strips = arrays.map((_, i) => new Float32Array(memory.buffer, 4 * strip * i, strip));
  return (over) => {
    const numbers = scalars.map((name) => over.scalars[name]);
    const lists = arrays.map(({ name }) => over.tensors[name]);
    const { length } = lists[0];
    if (lists.some((list) => list.length !== length)) throw new Error("a loop goes over tensors of one size");
    for (let from = 0; from < length; from += strip) {
      const count = Math.min(strip, length - from);
      lists.forEach((list, i) => strips[i].set(list.subarray(from, from + count)));
      // What is behind the last number is computed and left.
      loop(...numbers, vectorBytes * Math.ceil((4 * count) / vectorBytes));
      arrays.forEach(({ changed }, i) => {
        if (changed) lists[i].set(strips[i].subarray(0, count), from);
      });
    }
  };
}
