// Pickle's operations, protocols 0 to 5, as Python's `pickletools` lists them: one small function each.
import type { PickleMachine } from "./pickle-machine.ts";
import { Global } from "./pickle-values.ts";

const opcodes = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  FLOAT: 0x46,
  BINFLOAT: 0x47,
  INT: 0x49,
  BININT: 0x4a,
  BININT1: 0x4b,
  LONG: 0x4c,
  BININT2: 0x4d,
  NONE: 0x4e,
  PERSID: 0x50,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  STRING: 0x53,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  DICT: 0x64,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  INST: 0x69,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  OBJ: 0x6f,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  EXT1: 0x82,
  EXT2: 0x83,
  EXT4: 0x84,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  LONG4: 0x8b,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  EMPTY_SET: 0x8f,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  NEWOBJ_EX: 0x92,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
  BYTEARRAY8: 0x96,
  NEXT_BUFFER: 0x97,
  READONLY_BUFFER: 0x98,
} as const;

type Operation = (m: PickleMachine) => void;

const newestProtocol = 5;

/** NEWOBJ, OBJ, REDUCE: a callee with the arguments behind it. */
const reduce: Operation = (m) => {
  const args = m.pop();
  m.pushObject(m.call(m.pop(), args));
};

const table: Readonly<Record<keyof typeof opcodes, Operation>> = {
  // The frame around it.
  PROTO: (m) => {
    if (m.byte() > newestProtocol) m.fail(`its protocol is newer than ${newestProtocol}`);
  },
  FRAME: (m) => m.skip(8),
  STOP: (m) => {
    m.stopped = true;
  },

  // The stack and the memo.
  MARK: (m) => m.mark(),
  POP: (m) => m.drop(),
  POP_MARK: (m) => {
    m.popMark();
  },
  DUP: (m) => m.push(m.top()),
  PUT: (m) => m.memoize(Number(m.line())),
  BINPUT: (m) => m.memoize(m.byte()),
  LONG_BINPUT: (m) => m.memoize(m.uint32()),
  MEMOIZE: (m) => m.memoize(),
  GET: (m) => m.recall(Number(m.line())),
  BINGET: (m) => m.recall(m.byte()),
  LONG_BINGET: (m) => m.recall(m.uint32()),

  // Numbers.
  NONE: (m) => m.push(null),
  NEWTRUE: (m) => m.push(true),
  NEWFALSE: (m) => m.push(false),
  // Protocol 0 and 1 write truth values as the numbers 00 and 01: they stay numbers, which nothing here minds.
  INT: (m) => m.push(m.decimal()),
  BININT: (m) => m.push(m.int32()),
  BININT1: (m) => m.push(m.byte()),
  BININT2: (m) => m.push(m.uint16()),
  LONG: (m) => m.push(m.decimal()),
  LONG1: (m) => m.push(m.integer(m.byte())),
  LONG4: (m) => m.push(m.integer(m.int32())),
  FLOAT: (m) => m.push(Number(m.line())),
  BINFLOAT: (m) => m.push(m.float64()),

  // Texts and bytes.
  STRING: (m) => m.push(m.line().replace(/^(['"])(.*)\1$/, "$2")),
  BINSTRING: (m) => m.push(m.oldString(m.uint32())),
  SHORT_BINSTRING: (m) => m.push(m.oldString(m.byte())),
  UNICODE: (m) => m.push(m.line()),
  BINUNICODE: (m) => m.push(m.text(m.uint32())),
  SHORT_BINUNICODE: (m) => m.push(m.text(m.byte())),
  BINUNICODE8: (m) => m.push(m.text(m.length64())),
  BINBYTES: (m) => m.push(m.bytes(m.uint32())),
  SHORT_BINBYTES: (m) => m.push(m.bytes(m.byte())),
  BINBYTES8: (m) => m.push(m.bytes(m.length64())),
  BYTEARRAY8: (m) => m.push(m.bytes(m.length64())),
  NEXT_BUFFER: (m) => m.fail("it keeps a part of its data outside of the file"),
  READONLY_BUFFER: () => undefined,

  // Containers.
  EMPTY_TUPLE: (m) => m.pushObject([]),
  TUPLE1: (m) => m.pushObject(m.popMany(1)),
  TUPLE2: (m) => m.pushObject(m.popMany(2)),
  TUPLE3: (m) => m.pushObject(m.popMany(3)),
  TUPLE: (m) => m.pushObject(m.popMark()),
  EMPTY_LIST: (m) => m.pushObject([]),
  LIST: (m) => m.pushObject(m.popMark()),
  APPEND: (m) => m.append([m.pop()]),
  APPENDS: (m) => m.append(m.popMark()),
  EMPTY_DICT: (m) => m.pushObject(new Map()),
  DICT: (m) => {
    const items = m.popMark();
    m.pushObject(new Map());
    m.setItems(items);
  },
  SETITEM: (m) => m.setItems(m.popMany(2)),
  SETITEMS: (m) => m.setItems(m.popMark()),
  EMPTY_SET: (m) => m.pushObject(new Set()),
  ADDITEMS: (m) => m.append(m.popMark()),
  FROZENSET: (m) => m.pushObject(new Set(m.popMark())),

  // Classes, and objects made of them.
  GLOBAL: (m) => {
    const module = m.line();
    m.pushObject(m.global(module, m.line()));
  },
  STACK_GLOBAL: (m) => {
    const [module, name] = m.popMany(2);
    m.pushObject(m.global(module, name));
  },
  // Numbers that programs agree on for classes; what they stand for, no file says.
  EXT1: (m) => m.pushObject(new Global(`copyreg.extension ${m.byte()}`)),
  EXT2: (m) => m.pushObject(new Global(`copyreg.extension ${m.uint16()}`)),
  EXT4: (m) => m.pushObject(new Global(`copyreg.extension ${m.int32()}`)),
  REDUCE: reduce,
  NEWOBJ: reduce,
  NEWOBJ_EX: (m) => {
    const [callee, args] = m.popMany(3);
    m.pushObject(m.call(callee, args));
  },
  INST: (m) => {
    const module = m.line();
    const of = m.global(module, m.line());
    m.pushObject(m.call(of, m.popMark()));
  },
  OBJ: (m) => {
    const [of = m.fail("its stack runs empty"), ...args] = m.popMark();
    m.pushObject(m.call(of, args));
  },
  BUILD: (m) => {
    const state = m.pop();
    m.build(state);
  },
  PERSID: (m) => m.pushObject(m.handlers.persistent(m.line())),
  BINPERSID: (m) => m.pushObject(m.handlers.persistent(m.pop())),
};

/** What each byte does. */
export const operations: ReadonlyMap<number, Operation> = new Map(
  Object.entries(opcodes).map(([name, code]) => [code, table[name as keyof typeof opcodes]]),
);
