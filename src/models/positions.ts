// Where patches stand: rotary tables, and learned tables resampled for images of another size.
import { UserError } from "../utils/errors.ts";
import type { DataType, FloatTensor, Tensor } from "../utils/tensor.ts";
import { allocate, zeros } from "../utils/tensor.ts";
import type { Resampling, RotaryPositions, VitConfig } from "./config.ts";
import { headWidthOf } from "./config.ts";

/**
 * Cosines and sines `[patches, D/H]` of a rotary embedding: a patch's two coordinates over theta^(4i / (D/H)), those of
 * the first axis before those of the second, each angle for both channels of its pair.
 */
export function rotaryTables(
  config: Pick<VitConfig, "imageSize" | "patchSize" | "width" | "heads" | "headWidth">,
  rotary: RotaryPositions,
  type: DataType = "float32",
): { cos: Tensor; sin: Tensor } {
  const { imageSize, patchSize } = config;
  const { theta, offset = 0, referenceSide, grid = "centred", first = "row", pairs = "halves" } = rotary;
  const [side, headWidth] = [Math.floor(imageSize / patchSize), headWidthOf(config)];
  if (headWidth % 4 !== 0)
    throw new UserError(`Rotary positions need heads of 4n channels, got ${headWidth}`, { code: "NOT_A_VIT" });
  const quarter = headWidth / 4;
  const dims = [side * side, headWidth];
  const [cos, sin] = [allocate(type, side * side * headWidth), allocate(type, side * side * headWidth)];
  const coordinate = (index: number) =>
    grid === "centred"
      ? 2 * Math.PI * ((2 * (index + 0.5 + offset)) / side - 1)
      : ((index + offset) * (referenceSide ?? side)) / side;
  for (let patch = 0; patch < side * side; patch++) {
    const place = [coordinate(Math.floor(patch / side)), coordinate(patch % side)];
    if (first === "column") place.reverse();
    for (let c = 0; c < headWidth; c++) {
      const at = pairs === "halves" ? c % (2 * quarter) : c >> 1;
      const angle = place[Math.floor(at / quarter)] / theta ** ((4 * (at % quarter)) / headWidth);
      cos[patch * headWidth + c] = Math.cos(angle);
      sin[patch * headWidth + c] = Math.sin(angle);
    }
  }
  return { cos: { type, dims, data: cos } as Tensor, sin: { type, dims, data: sin } as Tensor };
}

interface Tap {
  readonly from: number;
  readonly weights: readonly number[];
}

function cubic(x: number, a: number): number {
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

/** The source positions and weights that each of `to` targets reads from `from` sources. */
function taps(from: number, to: number, method: Resampling): Tap[] {
  const scale = from / (method === "bicubic-offset" ? to + 0.1 : to);
  return Array.from({ length: to }, (_, target) => {
    const centre = (target + 0.5) * scale;
    if (method !== "bicubic-antialiased") {
      const first = Math.floor(centre - 0.5) - 1;
      const raw = [0, 1, 2, 3].map((i) => cubic(first + i + 0.5 - centre, -0.75));
      // What lies outside is the edge.
      const begin = Math.max(0, first);
      const weights = new Array<number>(Math.min(from - 1, first + 3) - begin + 1).fill(0);
      raw.forEach((w, i) => {
        weights[Math.min(from - 1, Math.max(0, first + i)) - begin] += w;
      });
      return { from: begin, weights };
    }
    const stretch = Math.max(1, scale);
    const begin = Math.max(0, Math.trunc(centre - 2 * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + 2 * stretch + 0.5));
    const raw = Array.from({ length: end - begin }, (_, i) => cubic((begin + i - centre + 0.5) / stretch, -0.5));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { from: begin, weights: raw.map((w) => w / sum) };
  });
}

/**
 * Resamples a position table `[1, prefix + rows * columns, D]` from a square grid to another grid; the first `prefix`
 * rows stay. Throws a UserError where the table's grid is not square.
 */
export function resamplePositions(
  table: FloatTensor,
  prefix: number,
  to: readonly [rows: number, columns: number],
  method: Resampling,
): FloatTensor {
  const [, count, width] = table.dims;
  const side = Math.round(Math.sqrt(count - prefix));
  if (side * side !== count - prefix) {
    throw new UserError(`A position table of ${count} rows, ${prefix} before the patches, is not a square grid`, {
      code: "NOT_A_VIT",
    });
  }
  const [rows, columns] = to;
  const out = zeros([1, prefix + rows * columns, width]);
  out.data.set(table.data.subarray(0, prefix * width));
  const [down, across] = [taps(side, rows, method), taps(side, columns, method)];
  const stretched = new Float64Array(side * columns * width);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < columns; column++) {
      const { from, weights } = across[column];
      weights.forEach((w, i) => {
        const source = (prefix + row * side + from + i) * width;
        const target = (row * columns + column) * width;
        for (let d = 0; d < width; d++) stretched[target + d] += w * table.data[source + d];
      });
    }
  }
  for (let row = 0; row < rows; row++) {
    const { from, weights } = down[row];
    for (let column = 0; column < columns; column++) {
      const target = (prefix + row * columns + column) * width;
      for (let d = 0; d < width; d++) {
        let sum = 0;
        weights.forEach((w, i) => {
          sum += w * stretched[((from + i) * columns + column) * width + d];
        });
        out.data[target + d] = sum;
      }
    }
  }
  return out;
}
