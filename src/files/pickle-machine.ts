// Python's unpickling machine: a stack with marks, a memo, and the file's bytes. It makes the few objects that checkpoints
// are made of and keeps all others as opaque values. What is recalled from the memo is shared, never copied.
import { UserError } from "../utils/errors.ts";
import { quote, shorten } from "../utils/quote.ts";
import type { Construct, PickleHandlers, PickleValue } from "./pickle-values.ts";
import { Global, Opaque } from "./pickle-values.ts";

/** Objects that a pickle may make: real checkpoints stay far below. */
const mostObjects = 2_000_000;
/** Longer integers (1 KB and more) are no numbers that anything here needs. */
const longestInteger = 1024;

/** Python 2's names of modules. */
const renamedModules: Readonly<Record<string, string>> = { __builtin__: "builtins", copy_reg: "copyreg" };

/** What does harm when it is called. Nothing is called here, but whoever loads such a file elsewhere runs it. */
const harmful =
  /^((os|posix|nt)\.(?!\w+_result$)|(subprocess|sys|shutil|pty|runpy|ctypes|importlib|webbrowser|commands)\.|builtins\.(eval|exec|execfile|compile|open|input|breakpoint|__import__)$)/;

/** Python's unpickling machine: the file's bytes, a stack with marks, and a memo. */
export class PickleMachine {
  readonly handlers: PickleHandlers;
  stopped = false;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #file: string;
  #at: number;
  #objects = 0;
  /** Elements that constructors may still copy: no more than the file can have spelled out. */
  #copies: number;
  readonly #stack: PickleValue[] = [];
  /** How high the stack was at each open mark. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  readonly #decoder = new TextDecoder();

  constructor(bytes: Uint8Array, handlers: PickleHandlers, file: string, at: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.handlers = handlers;
    this.#file = file;
    this.#at = at;
    this.#copies = bytes.byteLength;
  }

  readonly fail: (message: string) => never = (message) => {
    throw new UserError(`${this.#file} holds a pickle that can't be read: ${message}`, { code: "FILE_NOT_READABLE" });
  };

  get position(): number {
    return this.#at;
  }

  // The file's bytes.

  /** Moves on by `count` bytes; gives where they begin. */
  #take(count: number): number {
    if (!(count >= 0) || this.#at + count > this.#bytes.byteLength) this.fail("it is cut off");
    this.#at += count;
    return this.#at - count;
  }

  skip(count: number): void {
    this.#take(count);
  }

  byte(): number {
    return this.#bytes[this.#take(1)];
  }

  uint16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** A length of 8 bytes: those that a number can't hold are beyond any file's end. */
  length64(): number {
    return Number(this.#view.getBigUint64(this.#take(8), true));
  }

  float64(): number {
    return this.#view.getFloat64(this.#take(8), false);
  }

  /** Bytes as they lie in the file: a view, so that where they lie is known. */
  bytes(length: number): Uint8Array {
    const from = this.#take(length);
    return this.#bytes.subarray(from, this.#at);
  }

  text(length: number): string {
    return this.#decoder.decode(this.bytes(length));
  }

  /** Python 2's string: bytes that are most often a text. */
  oldString(length: number): PickleValue {
    return this.handlers.keepsBytes ? this.bytes(length) : this.text(length);
  }

  line(): string {
    const end = this.#bytes.indexOf(10, this.#at);
    if (end < 0) this.fail("it is cut off");
    const text = this.text(end - this.#at);
    this.skip(1);
    return text;
  }

  /** An integer of two's complement. What a number can't hold exactly is a bigint; what is endless stays opaque. */
  integer(length: number): PickleValue {
    const bytes = this.bytes(length);
    if (length === 0) return 0;
    if (length > longestInteger) return new Opaque("int");
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    return numberOf(BigInt.asIntN(length * 8, value));
  }

  /** An integer as a line of decimal digits. */
  decimal(): PickleValue {
    const text = this.line().replace(/L$/, "");
    if (text.length > 2 * longestInteger) return new Opaque("int");
    if (!/^[-+]?\d+$/.test(text)) this.fail(`it holds the integer ${quote(text)}`);
    return numberOf(BigInt(text.replace(/^\+/, "")));
  }

  // The stack, its marks and the memo.

  push(value: PickleValue): void {
    this.#stack.push(value);
  }

  /** Pushes an object that takes memory of its own. */
  pushObject(value: PickleValue): void {
    if (++this.#objects > mostObjects) this.fail(`it makes more than ${mostObjects} objects`);
    this.#stack.push(value);
  }

  get #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  pop(): PickleValue {
    return this.#stack.length > this.#floor ? this.#stack.pop() : this.fail("its stack runs empty");
  }

  top(): PickleValue {
    return this.#stack.length > this.#floor ? this.#stack.at(-1) : this.fail("its stack runs empty");
  }

  /** The topmost values, in the order in which they were pushed. */
  popMany(count: number): PickleValue[] {
    if (this.#stack.length - count < this.#floor) this.fail("its stack runs empty");
    return this.#stack.splice(this.#stack.length - count);
  }

  mark(): void {
    this.#marks.push(this.#stack.length);
  }

  /** All that was pushed since the last mark. */
  popMark(): PickleValue[] {
    const from = this.#marks.pop() ?? this.fail("a mark is missing");
    return this.#stack.splice(from);
  }

  /** POP takes away a mark where one is topmost. */
  drop(): void {
    if (this.#marks.length > 0 && this.#stack.length === this.#floor) this.#marks.pop();
    else this.pop();
  }

  memoize(key: number = this.#memo.size): void {
    this.#memo.set(key, this.top());
  }

  recall(key: number): void {
    if (!this.#memo.has(key)) this.fail("it recalls what it did not keep");
    this.push(this.#memo.get(key));
  }

  // Objects.

  /** A class or function by name. Names are texts: anything else could be endless, written out. */
  global(module: PickleValue, name: PickleValue): Global {
    if (typeof module !== "string" || typeof name !== "string") return this.fail("the name of a class is not text");
    const currentModule = Object.hasOwn(renamedModules, module) ? renamedModules[module] : module;
    return new Global(`${currentModule}.${name}`);
  }

  /** Counts elements that are copied: a list recalled a thousand times must not be copied a thousand times. */
  spend(count: number): void {
    this.#copies -= count;
    if (this.#copies < 0) this.fail("it copies its parts over and over");
  }

  /** What a call gives; nothing is called that is not a table's entry here. */
  call(callee: PickleValue, args: PickleValue): PickleValue {
    if (!(callee instanceof Global)) return new Opaque(callee instanceof Opaque ? callee.className : "object", args);
    const { name } = callee;
    if (harmful.test(name)) return this.fail(`it asks for ${shorten(name)}, which would do harm where it is run`);
    if (!Array.isArray(args)) return this.fail(`it calls ${shorten(name)} without a tuple`);
    // A method of a class (`OrderedDict.fromkeys`) and the like are not the class.
    const make = this.handlers.construct(name) ?? this.#container(name);
    return make ? make(args) : new Opaque(name, args);
  }

  /** Python's own containers. */
  #container(name: string): Construct | undefined {
    switch (name) {
      case "collections.OrderedDict":
      case "collections.Counter":
      case "builtins.dict":
        return ([items]) => this.#dictionary(items);
      case "collections.defaultdict":
        return ([, items]) => this.#dictionary(items);
      case "builtins.set":
      case "builtins.frozenset":
        return ([items]) => new Set(this.#elements(items));
      case "builtins.list":
      case "builtins.tuple":
      case "torch.Size":
        return ([items]) => [...this.#elements(items)];
      // `Class.__new__(Class, ...)` of protocol 0 and 1, and of classes that spell it out.
      case "copyreg._reconstructor":
      case "copyreg.__newobj__":
        return (args) => (args[0] instanceof Global ? this.#bare(args[0], args) : new Opaque(name, args));
      default:
        return undefined;
    }
  }

  /** An empty object of a class; containers begin empty, their items follow. */
  #bare(of: Global, args: readonly PickleValue[]): PickleValue {
    return this.#container(of.name) ? this.call(of, []) : new Opaque(of.name, args);
  }

  #elements(items: PickleValue): readonly PickleValue[] {
    if (!Array.isArray(items)) return [];
    this.spend(items.length);
    return items as readonly PickleValue[];
  }

  #dictionary(items: PickleValue): Map<PickleValue, PickleValue> {
    if (items instanceof Map) {
      this.spend(items.size);
      return new Map(items);
    }
    const pairs = this.#elements(items).filter((pair): pair is PickleValue[] => Array.isArray(pair));
    return new Map(pairs.map(([key, value]) => [key, value]));
  }

  setItems(items: readonly PickleValue[]): void {
    const target = this.top();
    const map = target instanceof Opaque ? (target.entries ??= new Map()) : target;
    if (!(map instanceof Map)) this.fail("it sets items of what is not a dictionary");
    for (let i = 0; i + 1 < items.length; i += 2) map.set(items[i], items[i + 1]);
  }

  append(items: readonly PickleValue[]): void {
    const target = this.top();
    const list = target instanceof Opaque ? (target.elements ??= []) : target;
    if (list instanceof Set) for (const item of items) list.add(item);
    else if (Array.isArray(list)) for (const item of items) list.push(item);
    else this.fail("it appends to what is not a list");
  }

  build(state: PickleValue): void {
    const target = this.top();
    if (target instanceof Opaque) target.state = state;
    this.handlers.build?.(target, state);
  }
}

function numberOf(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
