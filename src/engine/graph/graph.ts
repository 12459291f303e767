// The typed graph: values with a type and a shape, made by operators, inputs and constants.
import type { Tensor } from "../../utils/tensor.ts";
import type { Attributes, OpKind } from "./operators.ts";
import type { TensorType } from "./tensor-type.ts";

export type { Dim, Shape, TensorType } from "./tensor-type.ts";
export { formatType } from "./tensor-type.ts";

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

/** The name that an input was given. Throws on other values. */
export function inputName(value: Value): string {
  if (value.source.kind !== "input") throw new Error(`a ${value.source.kind} is no input of the graph`);
  return value.source.name;
}
