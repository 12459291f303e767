// Types and shapes of values.
import type { DataType } from "../../utils/tensor.ts";

/** A dimension: a number, or a name for one that is known only when the graph runs (`"batch"`). */
export type Dim = number | string;
export type Shape = readonly Dim[];

export interface TensorType {
  readonly type: DataType;
  readonly shape: Shape;
}

/** `float32[8, 197, 768]` */
export function formatType({ type, shape }: TensorType): string {
  return `${type}[${shape.join(", ")}]`;
}
