// Rules on shapes that several operators share.
import type { Dim, Shape, TensorType } from "./tensor-type.ts";
import { formatType } from "./tensor-type.ts";

/** A shape or type that an operator can't take. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** NumPy's broadcasting. A named dimension equals only itself and 1. */
export function broadcast(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i): Dim => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw new ShapeError(`shapes [${a.join(", ")}] and [${b.join(", ")}] don't broadcast`);
  });
}

/** The axis counted from the front. */
export function normalAxis(axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= rank) throw new ShapeError(`axis ${axis} of a rank ${rank} tensor`);
  return at;
}

/** The number at a dimension; throws where the dimension is only named. */
export function knownDim(value: TensorType, axis: number): number {
  const d = value.shape[normalAxis(axis, value.shape.length)];
  if (typeof d !== "number") throw new ShapeError(`dimension ${axis} of ${formatType(value)} must be a number here`);
  return d;
}

/** The shape with numbers only; throws where a dimension is named. */
export function knownShape(value: TensorType): number[] {
  return value.shape.map((_, i) => knownDim(value, i));
}

/** The product of numbers and the sorted names: two shapes hold equally many elements where these agree. */
export function countKey(shape: Shape): string {
  let product = 1;
  const names: string[] = [];
  for (const d of shape) {
    if (typeof d === "number") product *= d;
    else names.push(d);
  }
  return [product, ...names.sort()].join("*");
}
