// The typed graph: values with a type and a shape, made by operators, inputs and constants.
import type { DataType, Tensor } from "../utils/tensor.ts";
import type { Attributes, OpKind } from "./operators.ts";

/** A dimension: a number, or a name for one that is known only when the graph runs (`"batch"`). */
export type Dim = number | string;
export type Shape = readonly Dim[];

export interface TensorType {
  readonly type: DataType;
  readonly shape: Shape;
}

/** A value of the graph. Values are immutable and know what made them; a graph is what its outputs reach. */
export interface Value extends TensorType {
  readonly source: Source;
}

export interface InputSource {
  readonly kind: "input";
  readonly name: string;
}

export interface ConstantSource {
  readonly kind: "constant";
  readonly tensor: Tensor;
  /** The weight's name, kept for readable files; constants without one are numbered. */
  readonly name?: string;
}

export interface NodeSource {
  readonly kind: "node";
  readonly node: Node;
  /** Which of the node's outputs this is. */
  readonly index: number;
}

export type Source = InputSource | ConstantSource | NodeSource;

export interface Node<K extends OpKind = OpKind> {
  readonly op: K;
  readonly inputs: readonly Value[];
  readonly attributes: Attributes<K>;
  readonly outputs: readonly Value[];
}

/** Inputs in order, and outputs by name. The nodes are what the outputs reach. */
export interface Graph {
  readonly inputs: readonly Value[];
  readonly outputs: ReadonlyMap<string, Value>;
}

/** `float32[8, 197, 768]` */
export function formatType({ type, shape }: TensorType): string {
  return `${type}[${shape.join(", ")}]`;
}

/** The name that an input was given. Throws on other values. */
export function inputName(value: Value): string {
  if (value.source.kind !== "input") throw new Error(`a ${value.source.kind} is no input of the graph`);
  return value.source.name;
}
