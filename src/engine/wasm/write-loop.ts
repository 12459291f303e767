// A graph of numbers taken element by element, as a loop in WebAssembly that changes tensors in place. ONNX Runtime would take a pass over
// memory for each operation, and give new tensors.
import type { Graph, Node, Value } from "../graph/graph.ts";
import { inputName } from "../graph/graph.ts";
import { sortedNodes } from "../graph/walk.ts";
import type { LoopSource } from "../../utils/loop-source.ts";
import { vectorBytes } from "../../utils/loop-source.ts";

/** All strips of an optimizer's update fit a processor's second cache, and what a call costs is spread over enough numbers. */
const strip = 4096;
const stripBytes = 4 * strip;
const pageBytes = 65536;

// Of WebAssembly's binary format (core specification, chapter 5).
const type = { i32: 0x7f, f32: 0x7d, v128: 0x7b, func: 0x60 } as const;
const code = {
  loop: 0x03,
  end: 0x0b,
  branchIf: 0x0d,
  get: 0x20,
  set: 0x21,
  constant: 0x41,
  lessUnsigned: 0x49,
  add: 0x6a,
  vector: 0xfd,
} as const;
const nothing = 0x40;
/** Strips begin, and steps end, at multiples of 2 to this power. */
const alignment = Math.log2(vectorBytes);

/** Opcodes behind `code.vector`. */
const vector = { load: 0x00, store: 0x0b, constant: 0x0c, splat: 0x13 } as const;
const arithmetic: Readonly<Partial<Record<Node["op"], number>>> = {
  Sqrt: 0xe3,
  Add: 0xe4,
  Sub: 0xe5,
  Mul: 0xe6,
  Div: 0xe7,
};

/** An unsigned number in groups of 7 bits (LEB128). */
function leb(value: number): number[] {
  const low = value & 0x7f;
  return value > 0x7f ? [low | 0x80, ...leb(value >>> 7)] : [low];
}

const list = (items: readonly (readonly number[])[]): number[] => [...leb(items.length), ...items.flat()];
const sized = (bytes: readonly number[]): number[] => [...leb(bytes.length), ...bytes];
const section = (id: number, content: readonly number[]): number[] => [id, ...sized(content)];
const named = (name: string): number[] => sized([...new TextEncoder().encode(name)]);
const instruction = (opcode: number, ...immediates: number[]): number[] => [code.vector, ...leb(opcode), ...immediates];

const isScalar = ({ shape }: Value): boolean => shape.length === 0;

/** A number four times. */
function constantOf({ source }: Value): number[] {
  if (source.kind !== "constant" || source.tensor.data.length !== 1)
    throw new Error("a loop's constants are single numbers");
  const bytes = new Uint8Array(Float32Array.of(Number(source.tensor.data[0])).buffer);
  return instruction(vector.constant, ...bytes, ...bytes, ...bytes, ...bytes);
}

/**
 * Inputs are scalars, or tensors of one shape; each output is named as the input that it takes the place of. Throws on operations that are not
 * taken element by element.
 */
export function writeLoop(graph: Graph): LoopSource {
  const scalars = graph.inputs.filter(isScalar);
  const arrays = graph.inputs.filter((value) => !isScalar(value));
  const end = scalars.length;
  const offset = end + 1;
  const locals = new Map<Value, number>();
  const localOf = (value: Value): number => {
    const local = locals.get(value) ?? offset + 1 + locals.size;
    locals.set(value, local);
    return local;
  };
  const get = (index: number) => [code.get, ...leb(index)];
  const set = (value: Value) => [code.set, ...leb(localOf(value))];
  const at = (array: number) => [alignment, ...leb(array * stripBytes)];
  /** What is the same for all elements is computed once, in front of the loop. */
  const front: number[] = [];
  const body: number[] = [];

  scalars.forEach((value, i) => front.push(...get(i), ...instruction(vector.splat), ...set(value)));
  arrays.forEach((value, i) => body.push(...get(offset), ...instruction(vector.load, ...at(i)), ...set(value)));
  for (const node of sortedNodes(graph.outputs.values())) {
    const opcode = arithmetic[node.op];
    if (opcode === undefined) throw new Error(`${node.op} is not taken element by element`);
    for (const read of node.inputs)
      if (read.source.kind === "constant" && !locals.has(read)) front.push(...constantOf(read), ...set(read));
    const [made] = node.outputs;
    const place = isScalar(made) ? front : body;
    place.push(...node.inputs.flatMap((read) => get(localOf(read))), ...instruction(opcode), ...set(made));
  }
  for (const [name, value] of graph.outputs) {
    const array = arrays.findIndex((input) => inputName(input) === name);
    if (array < 0) throw new Error(`the output ${name} takes no input's place`);
    body.push(...get(offset), ...get(localOf(value)), ...instruction(vector.store, ...at(array)));
  }

  const next = [...get(offset), code.constant, vectorBytes, code.add, code.set, ...leb(offset)];
  const again = [...get(offset), ...get(end), code.lessUnsigned, code.branchIf, 0];
  const declared = list([
    [1, type.i32],
    [...leb(locals.size), type.v128],
  ]);
  const func = [...declared, ...front, code.loop, nothing, ...body, ...next, ...again, code.end, code.end];
  const parameters = [...scalars.map(() => type.f32), type.i32];
  const pages = Math.ceil((arrays.length * stripBytes) / pageBytes);
  const module = [
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list([[type.func, ...sized(parameters), 0]])),
    ...section(3, list([[0]])),
    ...section(5, list([[0, ...leb(pages)]])),
    ...section(
      7,
      list([
        [...named("memory"), 2, 0],
        [...named("loop"), 0, 0],
      ]),
    ),
    ...section(10, list([sized(func)])),
  ];
  return {
    module: Uint8Array.from(module),
    strip,
    scalars: scalars.map(inputName),
    arrays: arrays.map((value) => ({ name: inputName(value), changed: graph.outputs.has(inputName(value)) })),
  };
}
