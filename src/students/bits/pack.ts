// Maps in few bits as ONNX Runtime's MatMulNBits stores them.
import type { PackedWeights } from "../../engine/passes/few-bits.ts";
import type { BlockWeights } from "./block-weights.ts";
import { blockCount } from "./block-weights.ts";

/** Puts numbers of so many bits into bytes, the first in the lowest bits; each row begins a byte. */
function packNumbers(
  numbers: (row: number, at: number) => number,
  rows: number,
  length: number,
  bits: number,
): Uint8Array {
  const each = 8 / bits;
  const rowBytes = Math.ceil(length / each);
  const bytes = new Uint8Array(rows * rowBytes);
  for (let r = 0; r < rows; r++)
    for (let i = 0; i < length; i++) bytes[r * rowBytes + Math.floor(i / each)] |= numbers(r, i) << (bits * (i % each));
  return bytes;
}

/**
 * Outputs `from` to `to` of a map, packed. Places beyond the inputs hold the block's zero point. 2 and 3 bits are packed
 * as 4, whose product is the fastest; files store them smaller (`storeInFewerBits`).
 */
export function packRows(weights: BlockWeights, from: number, to: number): PackedWeights {
  const { blockSize, inputs, values, scales, zeros } = weights;
  const bits = weights.bits === 8 ? 8 : 4;
  // Left out, a zero point is the middle of the kernel's own numbers.
  const symmetric = weights.symmetric && bits === weights.bits;
  const blocks = blockCount(inputs, blockSize);
  const outputs = to - from;
  const value = (n: number, k: number) =>
    k < inputs ? values[(from + n) * inputs + k] : zeros[(from + n + 1) * blocks - 1];
  const packed = packNumbers(value, outputs, blocks * blockSize, bits);
  const points = symmetric ? undefined : packNumbers((n, b) => zeros[(from + n) * blocks + b], outputs, blocks, bits);
  return {
    ...{ bits, blockSize, inputs, outputs },
    packed: { type: "uint8", dims: [outputs, blocks, (blockSize * bits) / 8], data: packed },
    scales: { type: "float32", dims: [outputs, blocks], data: scales.slice(from * blocks, to * blocks) },
    ...(points && {
      zeroPoints: { type: "uint8", dims: [outputs, points.length / outputs], data: points },
    }),
  };
}
