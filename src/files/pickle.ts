// A reader of pickles that runs no code: it follows the opcodes, makes the few objects that tensors need, and keeps
// everything else as opaque values. Time and memory are bounded by the file's size: each operation takes at least a byte.
import { PickleMachine } from "./pickle-machine.ts";
import { operations } from "./pickle-operations.ts";
import type { PickleHandlers, PickleValue } from "./pickle-values.ts";

export type { Construct, PickleHandlers, PickleValue } from "./pickle-values.ts";
export { Global, Opaque } from "./pickle-values.ts";

/** Operations of one pickle: real ones stay far below. */
const mostOperations = 20_000_000;

/** Reads one pickle from `at`. Throws a UserError that names the file and what is wrong. */
export function unpickle(
  bytes: Uint8Array,
  handlers: PickleHandlers,
  file: string,
  at = 0,
): { value: PickleValue; end: number } {
  const machine: PickleMachine = new PickleMachine(bytes, handlers, file, at);
  for (let count = 0; !machine.stopped; count++) {
    if (count > mostOperations) machine.fail("it has too many operations");
    const code = machine.byte();
    const operation = operations.get(code);
    if (!operation) machine.fail(`it has the operation 0x${code.toString(16)}, which is not known here`);
    operation(machine);
  }
  return { value: machine.pop(), end: machine.position };
}
