// Scalar fields over the image, which textures, grounds and landscapes are made of. All have `side * side` numbers, row by row.
import type { RandomStream } from "../../utils/random.ts";
import { between, evenNumbers } from "./draws.ts";
import { cosineOfTurns, power, sineOfTurns } from "./exact-math.ts";

/** Pixels per side of every image: a power of two for the Fourier transform. */
export const side = 256;
const pixels = side * side;
export type Field = Float32Array;

export const emptyField = (): Field => new Float32Array(pixels);

/** A field of a value for each pixel. */
export function fieldOf(value: (x: number, y: number) => number): Field {
  const out = emptyField();
  for (let y = 0, i = 0; y < side; y++) for (let x = 0; x < side; x++, i++) out[i] = value(x, y);
  return out;
}

const cosines = Float64Array.from({ length: side }, (_, i) => cosineOfTurns(i / side));
const sines = Float64Array.from({ length: side }, (_, i) => sineOfTurns(i / side));
const reversed = Uint16Array.from({ length: side }, (_, i) => {
  let out = 0;
  for (let bit = 1, from = side >> 1; bit < side; bit <<= 1, from >>= 1) if (i & bit) out |= from;
  return out;
});

const bufferRe = new Float64Array(side);
const bufferIm = new Float64Array(side);

/** The Fourier transform of a row in place (Cooley and Tukey), `step` apart from `start`. */
function transformRow(re: Float64Array, im: Float64Array, start: number, step: number): void {
  for (let i = 0; i < side; i++) {
    bufferRe[reversed[i]] = re[start + i * step];
    bufferIm[reversed[i]] = im[start + i * step];
  }
  transformReversed(bufferRe, bufferIm);
  for (let i = 0; i < side; i++) {
    re[start + i * step] = bufferRe[i];
    im[start + i * step] = bufferIm[i];
  }
}

function transformReversed(re: Float64Array, im: Float64Array): void {
  for (let half = 1; half < side; half <<= 1) {
    const turn = side / (2 * half);
    for (let k = 0; k < half; k++) {
      const c = cosines[k * turn];
      const s = sines[k * turn];
      for (let a = k; a < side; a += 2 * half) {
        const b = a + half;
        const r = re[b] * c - im[b] * s;
        const m = re[b] * s + im[b] * c;
        re[b] = re[a] - r;
        im[b] = im[a] - m;
        re[a] += r;
        im[a] += m;
      }
    }
  }
}

/**
 * Two independent fields of noise with a given amplitude for each frequency `(u, v)` in cycles an image, mean 0 and deviation 1:
 * the real and the imaginary part of the transform of a random spectrum.
 */
export function spectralFields(random: RandomStream, amplitude: (u: number, v: number) => number): [Field, Field] {
  const even = evenNumbers(random);
  const re = new Float64Array(pixels);
  const im = new Float64Array(pixels);
  for (let y = 0, i = 0; y < side; y++) {
    const v = y < side / 2 ? y : y - side;
    for (let x = 0; x < side; x++, i++) {
      const u = x < side / 2 ? x : x - side;
      const a = u === 0 && v === 0 ? 0 : amplitude(u, v);
      re[i] = a * (even() - 0.5);
      im[i] = a * (even() - 0.5);
    }
  }
  for (let y = 0; y < side; y++) transformRow(re, im, y * side, 1);
  for (let x = 0; x < side; x++) transformRow(re, im, x, side);
  return [standardised(re), standardised(im)];
}

function standardised(values: Float64Array | Float32Array): Field {
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < values.length; i++) {
    sum += values[i];
    squares += values[i] * values[i];
  }
  const mean = sum / values.length;
  const deviation = Math.sqrt(Math.max(squares / values.length - mean * mean, 1e-20));
  const out = emptyField();
  for (let i = 0; i < out.length; i++) out[i] = (values[i] - mean) / deviation;
  return out;
}

/** Powers of all distances that two whole frequencies below `side / 2` can have, so that a spectrum takes no power a pixel. */
function powersOf(exponent: number, shift: number): Float64Array {
  const most = side;
  return Float64Array.from({ length: 4 * most + 1 }, (_, i) => power(Math.max(i / 4, 0.25) + shift, -exponent));
}

/**
 * Noise with the amplitude 1 / f^`exponent` (about 1 in photographs), longer along one direction by `stretch`. `shift` cycles an
 * image flatten it below.
 */
export function fractalNoise(
  random: RandomStream,
  {
    exponent,
    stretch = 1,
    turns = 0,
    shift = 0,
  }: { exponent: number; stretch?: number; turns?: number; shift?: number },
): [Field, Field] {
  const table = powersOf(exponent, shift);
  const [c, s] = [cosineOfTurns(turns), sineOfTurns(turns)];
  return spectralFields(random, (u, v) => {
    const [along, across] = [(u * c + v * s) * stretch, (v * c - u * s) / stretch];
    const f = Math.sqrt(along * along + across * across);
    return table[Math.min(table.length - 1, Math.floor(4 * f + 0.5))];
  });
}

/**
 * Noise of a ring of frequencies about `frequency`, as reaction and diffusion end with: spots and mazes where it is cut off, and
 * stripes where only frequencies within `spread` turns of a direction are in it.
 */
export function ringNoise(
  random: RandomStream,
  frequency: number,
  { width = 0.15, turns = 0, spread = 1 }: { width?: number; turns?: number; spread?: number } = {},
): [Field, Field] {
  const [c, s] = [cosineOfTurns(turns), sineOfTurns(turns)];
  const least = spread >= 0.25 ? -1 : cosineOfTurns(spread);
  return spectralFields(random, (u, v) => {
    const f = Math.sqrt(u * u + v * v);
    const off = (f - frequency) / (width * frequency);
    if (off > 3 || off < -3 || Math.abs(u * c + v * s) < least * f) return 0;
    const near = 1 / (1 + off * off);
    return near * near * near;
  });
}

/** A field's value between its pixels, repeated at the edges. */
export function sampled(field: Field, x: number, y: number): number {
  const [fx, fy] = [Math.floor(x), Math.floor(y)];
  const [ax, ay] = [x - fx, y - fy];
  const x0 = fx & (side - 1);
  const x1 = (fx + 1) & (side - 1);
  const y0 = (fy & (side - 1)) * side;
  const y1 = ((fy + 1) & (side - 1)) * side;
  const top = field[y0 + x0] + ax * (field[y0 + x1] - field[y0 + x0]);
  return top + ay * (field[y1 + x0] + ax * (field[y1 + x1] - field[y1 + x0]) - top);
}

/** A field bent by two others, which say how many pixels it moves. */
export const warped = (field: Field, dx: Field, dy: Field, by: number): Field =>
  fieldOf((x, y) => {
    const i = y * side + x;
    return sampled(field, x + by * dx[i], y + by * dy[i]);
  });

/** Each value through a function. */
export function mapped(field: Field, of: (value: number, i: number) => number): Field {
  const out = emptyField();
  for (let i = 0; i < out.length; i++) out[i] = of(field[i], i);
  return out;
}

/** Moved and scaled so that values lie between 0 and 1. */
export function toUnit(field: Field): Field {
  let [least, most] = [Infinity, -Infinity];
  for (let i = 0; i < field.length; i++) {
    least = Math.min(least, field[i]);
    most = Math.max(most, field[i]);
  }
  const range = most - least || 1;
  return mapped(field, (v) => (v - least) / range);
}

/** From 0 to 1 as `x` goes from `low` to `high`, smoothly. */
export function smoothStep(low: number, high: number, x: number): number {
  const t = Math.min(1, Math.max(0, (x - low) / (high - low)));
  return t * t * (3 - 2 * t);
}

/** Points in a grid of cells, each somewhere in its own: distances to the nearest two (Worley 1996), and which is nearest. */
export function cellField(random: RandomStream, cells: number): { near: Field; edge: Field; which: Uint16Array } {
  const even = evenNumbers(random);
  const size = side / cells;
  const [px, py] = [0, 1].map(() => Float64Array.from({ length: cells * cells }, () => even()));
  const [near, edge, which] = [emptyField(), emptyField(), new Uint16Array(pixels)];
  for (let y = 0, i = 0; y < side; y++) {
    const row = Math.floor(y / size);
    for (let x = 0; x < side; x++, i++) {
      const column = Math.floor(x / size);
      let [first, second, best] = [Infinity, Infinity, 0];
      for (let r = row - 1; r <= row + 1; r++)
        for (let c = column - 1; c <= column + 1; c++) {
          const cell = ((r + cells) % cells) * cells + ((c + cells) % cells);
          const dx = (c + px[cell]) * size - x;
          const dy = (r + py[cell]) * size - y;
          const d = dx * dx + dy * dy;
          if (d < first) {
            second = first;
            first = d;
            best = cell;
          } else if (d < second) second = d;
        }
      near[i] = Math.sqrt(first) / size;
      edge[i] = Math.sqrt(second) / size - near[i];
      which[i] = best;
    }
  }
  return { near, edge, which };
}

/** A smooth random line of `side` heights: a sum of waves whose amplitudes fall as 1 / f^`exponent`, deviation about 1. */
export function roughLine(random: RandomStream, exponent: number): Float64Array {
  const waves = Array.from({ length: 40 }, (_, k) => {
    const f = k / 2 + 0.5;
    return { f, amplitude: power(f, -exponent), phase: random.uniform() };
  });
  const scale = Math.sqrt(waves.reduce((sum, { amplitude }) => sum + (amplitude * amplitude) / 2, 0));
  return Float64Array.from(
    { length: side },
    (_, x) =>
      waves.reduce((sum, { f, amplitude, phase }) => sum + amplitude * sineOfTurns((f * x) / side + phase), 0) / scale,
  );
}

/** A pair of fields to bend others with: smooth, of a random size. */
export const bendingFields = (random: RandomStream): [Field, Field] =>
  fractalNoise(random, { exponent: between(random, 1.6, 2.4), shift: between(random, 0, 4) });
