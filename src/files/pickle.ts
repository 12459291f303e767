// A reader of pickles that runs no code: it knows the opcodes and the few constructors that PyTorch's tensors need,
// and refuses anything else by name.
import { UserError } from "../utils/errors.ts";

/** What a pickle holds. Dictionaries are Maps, tuples and lists arrays; other things come from the handlers. */
export type PickleValue = unknown;

export interface PickleHandlers {
  /** What `module.name` stands for when it is called; undefined refuses it. */
  construct(name: string): ((args: readonly PickleValue[]) => PickleValue) | undefined;
  /** Gives an object its state; nothing where left out, as tensors have none that matters. */
  build?(object: PickleValue, state: PickleValue): void;
  /** Whether Python 2's strings stay bytes; all bytes are then views of the file, so that where they lie is known. */
  readonly keepsBytes?: boolean;
  /** A reference to something outside of the pickle (a tensor's storage). */
  persistent(id: PickleValue): PickleValue;
}

class Global {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

const mark = Symbol("mark");
/** A pickle of a few bytes can repeat its parts without end; real ones stay far below. */
const mostOperations = 20_000_000;

/** Reads one pickle from `at`. Throws a UserError that names the file and what is wrong. */
export function unpickle(
  bytes: Uint8Array,
  handlers: PickleHandlers,
  file: string,
  at = 0,
): { value: PickleValue; end: number } {
  const fail = (message: string): never => {
    throw new UserError(`${file} holds a pickle that can't be read: ${message}`);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const need = (count: number) => {
    if (!(count >= 0) || at + count > bytes.byteLength) fail("it is cut off");
    at += count;
    return at - count;
  };
  const text = (length: number) => new TextDecoder().decode(bytes.subarray(need(length), at));
  const raw = (length: number) => {
    const found = bytes.subarray(need(length), at);
    return handlers.keepsBytes ? found : found.slice();
  };
  const oldString = (length: number) => (handlers.keepsBytes ? raw(length) : text(length));
  const line = () => {
    const end = bytes.indexOf(10, at);
    if (end < 0) fail("it is cut off");
    const found = new TextDecoder().decode(bytes.subarray(at, end));
    at = end + 1;
    return found;
  };
  const long = (length: number): number => {
    const from = need(length);
    if (length > 8) return fail(`it holds a number of ${length} bytes`);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[from + i]);
    return Number(BigInt.asIntN(Math.max(8, length * 8), value));
  };

  const stack: PickleValue[] = [];
  const memo = new Map<number, PickleValue>();
  const pop = (): PickleValue => (stack.length > 0 ? stack.pop() : fail("its stack runs empty"));
  const top = (): PickleValue => (stack.length > 0 ? stack[stack.length - 1] : fail("its stack runs empty"));
  const popMark = (): PickleValue[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) fail("a mark is missing");
    const items = stack.splice(from);
    items.shift();
    return items;
  };
  const call = (callee: PickleValue, args: PickleValue): PickleValue => {
    if (!(callee instanceof Global)) return fail("it calls what can't be called");
    const make = handlers.construct(callee.name);
    if (!make) return fail(`it asks for ${callee.name}, which no tensor needs; it was not run`);
    if (!Array.isArray(args)) return fail(`it calls ${callee.name} without a tuple`);
    return make(args);
  };
  const setItems = (items: readonly PickleValue[]) => {
    const target = top();
    if (!(target instanceof Map)) return fail("it sets items of what is no dictionary");
    for (let i = 0; i + 1 < items.length; i += 2) target.set(items[i], items[i + 1]);
    return undefined;
  };
  const append = (items: readonly PickleValue[]) => {
    const target = top();
    if (target instanceof Set) items.forEach((item) => target.add(item));
    else if (Array.isArray(target)) for (const item of items) target.push(item);
    else fail("it appends to what is no list");
  };
  const global = (module: PickleValue, name: PickleValue) =>
    stack.push(new Global(`${String(module)}.${String(name)}`));
  const tuple = (count: number) => {
    if (stack.length < count) fail("its stack runs empty");
    stack.push(stack.splice(stack.length - count));
  };

  for (let operations = 0; ; operations++) {
    if (operations > mostOperations) fail("it has too many operations");
    const op = bytes[need(1)];
    switch (op) {
      case 0x80: // PROTO
        if (bytes[need(1)] > 5) fail("its protocol is newer than 5");
        break;
      case 0x95: // FRAME
        need(8);
        break;
      case 0x2e: // STOP
        return { value: pop(), end: at };
      case 0x28: // MARK
        stack.push(mark);
        break;
      case 0x30: // POP
        pop();
        break;
      case 0x31: // POP_MARK
        popMark();
        break;
      case 0x32: // DUP
        stack.push(top());
        break;
      case 0x4e: // NONE
        stack.push(null);
        break;
      case 0x88: // NEWTRUE
        stack.push(true);
        break;
      case 0x89: // NEWFALSE
        stack.push(false);
        break;
      case 0x4b: // BININT1
        stack.push(bytes[need(1)]);
        break;
      case 0x4d: // BININT2
        stack.push(view.getUint16(need(2), true));
        break;
      case 0x4a: // BININT
        stack.push(view.getInt32(need(4), true));
        break;
      case 0x8a: // LONG1
        stack.push(long(bytes[need(1)]));
        break;
      case 0x8b: // LONG4
        stack.push(long(view.getInt32(need(4), true)));
        break;
      case 0x47: // BINFLOAT
        stack.push(view.getFloat64(need(8), false));
        break;
      case 0x49: {
        // INT
        const written = line();
        stack.push(written === "00" ? false : written === "01" ? true : Number(written));
        break;
      }
      case 0x4c: // LONG
        stack.push(Number(line().replace(/L$/, "")));
        break;
      case 0x46: // FLOAT
        stack.push(Number(line()));
        break;
      case 0x58: // BINUNICODE
        stack.push(text(view.getUint32(need(4), true)));
        break;
      case 0x8c: // SHORT_BINUNICODE
        stack.push(text(bytes[need(1)]));
        break;
      case 0x8d: // BINUNICODE8
        stack.push(text(Number(view.getBigUint64(need(8), true))));
        break;
      case 0x56: // UNICODE
        stack.push(line());
        break;
      case 0x53: // STRING
        stack.push(line().replace(/^(['"])(.*)\1$/, "$2"));
        break;
      case 0x55: // SHORT_BINSTRING
        stack.push(oldString(bytes[need(1)]));
        break;
      case 0x54: // BINSTRING
        stack.push(oldString(view.getUint32(need(4), true)));
        break;
      case 0x42: {
        // BINBYTES
        const length = view.getUint32(need(4), true);
        stack.push(raw(length));
        break;
      }
      case 0x43: {
        // SHORT_BINBYTES
        const length = bytes[need(1)];
        stack.push(raw(length));
        break;
      }
      case 0x8e: {
        // BINBYTES8
        const length = Number(view.getBigUint64(need(8), true));
        stack.push(raw(length));
        break;
      }
      case 0x29: // EMPTY_TUPLE
      case 0x5d: // EMPTY_LIST
        stack.push([]);
        break;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map());
        break;
      case 0x8f: // EMPTY_SET
        stack.push(new Set());
        break;
      case 0x74: // TUPLE
      case 0x6c: // LIST
        stack.push(popMark());
        break;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        tuple(op - 0x84);
        break;
      case 0x64: {
        // DICT
        const items = popMark();
        stack.push(new Map());
        setItems(items);
        break;
      }
      case 0x91: // FROZENSET
        stack.push(new Set(popMark()));
        break;
      case 0x61: // APPEND
        append([pop()]);
        break;
      case 0x65: // APPENDS
        append(popMark());
        break;
      case 0x90: // ADDITEMS
        append(popMark());
        break;
      case 0x73: {
        // SETITEM
        const [value, key] = [pop(), pop()];
        setItems([key, value]);
        break;
      }
      case 0x75: // SETITEMS
        setItems(popMark());
        break;
      case 0x70: // PUT
        memo.set(Number(line()), top());
        break;
      case 0x71: // BINPUT
        memo.set(bytes[need(1)], top());
        break;
      case 0x72: // LONG_BINPUT
        memo.set(view.getUint32(need(4), true), top());
        break;
      case 0x94: // MEMOIZE
        memo.set(memo.size, top());
        break;
      case 0x67: // GET
      case 0x68: // BINGET
      case 0x6a: {
        // LONG_BINGET
        const key = op === 0x67 ? Number(line()) : op === 0x68 ? bytes[need(1)] : view.getUint32(need(4), true);
        if (!memo.has(key)) fail("it recalls what it did not keep");
        stack.push(memo.get(key));
        break;
      }
      case 0x63: // GLOBAL
        global(line(), line());
        break;
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [pop(), pop()];
        global(module, name);
        break;
      }
      case 0x52: {
        // REDUCE
        const args = pop();
        stack.push(call(pop(), args));
        break;
      }
      case 0x81: {
        // NEWOBJ
        const args = pop();
        stack.push(call(pop(), args));
        break;
      }
      case 0x62: {
        // BUILD
        const state = pop();
        if (state instanceof Global) fail("it builds with what can't be a state");
        handlers.build?.(top(), state);
        break;
      }
      case 0x51: // BINPERSID
        stack.push(handlers.persistent(pop()));
        break;
      default:
        fail(`it has the operation 0x${op.toString(16)}, which is not known here`);
    }
  }
}
