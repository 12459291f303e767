// What narrows the heads of a block inside: each head's rows of a map multiplied by a matrix of its own.
import { blockShape, qkvRows } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { elementCount } from "../../utils/tensor.ts";

/** What is lost of all heads where they keep so many of their directions, which hold `energies` `[d]` each (index: 0 to all). */
export function directionCosts(heads: readonly { readonly energies: Float64Array }[]): Float64Array {
  const d = heads[0].energies.length;
  const costs = new Float64Array(d + 1);
  for (let kept = d - 1; kept >= 0; kept--)
    costs[kept] = heads.reduce((sum, { energies }) => sum + energies[kept], costs[kept + 1]);
  return costs;
}

/** The first `width` columns of a matrix `[d, d]`: `[d, width]`. */
export const firstColumns = (matrix: Float64Array, d: number, width: number): Float64Array =>
  Float64Array.from({ length: d * width }, (_, i) => matrix[Math.floor(i / width) * d + (i % width)]);

/** The matrix `[d, width]` that keeps the first channels as they are. */
export const firstChannels = (d: number, width: number): Float64Array =>
  Float64Array.from({ length: d * width }, (_, i) => (Math.floor(i / width) === i % width ? 1 : 0));

/** The width that a shape asks for, where it is less than there is. */
export const narrower = (now: number, wanted: number | undefined): number | undefined =>
  wanted !== undefined && wanted < now ? wanted : undefined;

/** Rows `[heads * d, columns]`, those of each head multiplied by its matrix `[d, width]`: `[heads * width, columns]`. */
function turnedRows(rows: Float32Array, matrices: readonly Float64Array[], columns: number): Float32Array {
  const d = rows.length / columns / matrices.length;
  const width = matrices[0].length / d;
  const turned = new Float32Array(matrices.length * width * columns);
  let at = 0;
  matrices.forEach((matrix, head) => {
    const first = head * d * columns;
    for (let r = 0; r < width; r++)
      for (let c = 0; c < columns; c++, at++) {
        let sum = 0;
        for (let i = 0; i < d; i++) sum += matrix[i * width + r] * rows[first + i * columns + c];
        turned[at] = sum;
      }
  });
  return turned;
}

/** Columns `[rows, heads * d]`, those of each head multiplied by its matrix `[d, width]`: `[rows, heads * width]`. */
export function turnedColumns({ dims, data }: FloatTensor, matrices: readonly Float64Array[]): FloatTensor {
  const [count, wide] = dims;
  const d = wide / matrices.length;
  const width = matrices[0].length / d;
  const turned = new Float32Array(count * matrices.length * width);
  matrices.forEach((matrix, head) => {
    for (let row = 0; row < count; row++)
      for (let r = 0; r < width; r++) {
        let sum = 0;
        for (let i = 0; i < d; i++) sum += data[row * wide + head * d + i] * matrix[i * width + r];
        turned[(row * matrices.length + head) * width + r] = sum;
      }
  });
  return { type: "float32", dims: [count, matrices.length * width], data: turned };
}

/** Matrices of a block's heads, of those of q, k and v that are multiplied. */
type HeadMatrices = Partial<Record<"q" | "k" | "v", readonly Float64Array[]>>;

/** The student's weights with a block's joint map of q, k and v so multiplied. */
export function withTurnedHeads(
  { config, weights }: ModelDefinition,
  block: number,
  matrices: HeadMatrices,
): Map<string, FloatTensor> {
  const changed = new Map(weights);
  if (blockShape(config, block).heads === 0) return changed;
  for (const part of ["weight", "bias"] as const) {
    const name = `blocks.${block}.attn.qkv.${part}`;
    const joint = weights.get(name);
    if (!joint) continue;
    // Weights in a file are read as a whole.
    const { data } = joint;
    const columns = elementCount(joint.dims.slice(1));
    const parts = (["q", "k", "v"] as const).map((module) => {
      const [from, to] = qkvRows(config, block, module);
      const rows = data.subarray(from * columns, to * columns);
      const own = matrices[module];
      return own ? turnedRows(rows, own, columns) : rows;
    });
    const count = parts.reduce((sum, { length }) => sum + length, 0);
    const all = new Float32Array(count);
    parts.reduce((at, rows) => (all.set(rows, at), at + rows.length), 0);
    changed.set(name, { type: "float32", dims: [count / columns, ...joint.dims.slice(1)], data: all });
  }
  return changed;
}
