// What images are painted on, with polygons that have smooth edges and fills that are colours, gradients, light or textures.
import type { RgbImage } from "../../utils/image.ts";
import type { RandomStream } from "../../utils/random.ts";
import type { Color } from "./colors.ts";
import { lit, mixed, ramp } from "./colors.ts";
import { between, evenNumbers } from "./draws.ts";
import { cosineOfTurns, sineOfTurns } from "./exact-math.ts";
import type { Field } from "./scalar-fields.ts";
import { fieldOf, side } from "./scalar-fields.ts";

/** Red, green and blue from 0 to 1, pixel by pixel. */
export type Canvas = Float32Array;

/** The colour of a place. */
export type Fill = (x: number, y: number) => Color;

/** Corners of a closed outline, x and y by turns, in pixels. */
export type Outline = readonly number[];

export const flat =
  (color: Color): Fill =>
  () =>
    color;

/** From one colour to another between two places, and on behind them. */
export function linear(from: Color, to: Color, x: number, y: number, length: number, turns: number): Fill {
  const [dx, dy] = [cosineOfTurns(turns) / length, sineOfTurns(turns) / length];
  return (px, py) => mixed(from, to, Math.min(1, Math.max(0, (px - x) * dx + (py - y) * dy)));
}

/** From one colour in the middle to another at a radius. */
export const radial =
  (from: Color, to: Color, x: number, y: number, radius: number): Fill =>
  (px, py) =>
    mixed(from, to, Math.min(1, Math.sqrt((px - x) * (px - x) + (py - y) * (py - y)) / radius));

/** A dome in the light: darker away from it, with a highlight where `gloss` is above 0. */
export function dome(color: Color, x: number, y: number, radius: number, light: number, gloss: number): Fill {
  const [lx, ly] = [cosineOfTurns(light) * 0.6, sineOfTurns(light) * 0.6];
  return (px, py) => {
    const [nx, ny] = [(px - x) / radius, (py - y) / radius];
    const nz = Math.sqrt(Math.max(0, 1 - nx * nx - ny * ny));
    const shade = Math.max(0, nx * lx + ny * ly + nz * 0.8);
    const high = shade > 0.9 ? gloss * (shade - 0.9) * 10 : 0;
    return mixed(lit(color, 0.3 + 0.8 * shade), [1, 1, 1], Math.min(1, high));
  };
}

/** Another fill with a texture's light and shade in it, moved by some pixels. */
export function textured(fill: Fill, texture: Field, amount: number, dx: number, dy: number): Fill {
  const [mx, my] = [Math.floor(dx), Math.floor(dy)];
  return (x, y) => {
    const i = ((y + my) & (side - 1)) * side + ((x + mx) & (side - 1));
    return lit(fill(x, y), Math.max(0, 1 + amount * texture[i]));
  };
}

/** A field from 0 to 1 as colours. */
export function colored(field: Field, colors: readonly Color[]): Fill {
  return (x, y) => colors[Math.min(255, Math.max(0, Math.floor(field[y * side + x] * 255 + 0.5)))];
}

/** A field as colours that are drawn for it. */
export const rampFill = (random: RandomStream, field: Field, colors: readonly Color[]): Fill =>
  colored(field, ramp(random, colors));

export function canvasOf(fill: Fill): Canvas {
  const out = new Float32Array(3 * side * side);
  for (let y = 0, i = 0; y < side; y++)
    for (let x = 0; x < side; x++, i += 3) {
      const color = fill(x, y);
      out[i] = color[0];
      out[i + 1] = color[1];
      out[i + 2] = color[2];
    }
  return out;
}

/** How much of each pixel an outline covers. */
export interface Mask {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly alpha: Float32Array;
}

/** Lines a pixel on which an outline is looked at; along a line it is exact. */
const lines = 3;

/** The pixels inside of an outline; where it crosses itself, those that it goes around an odd number of times. */
export function maskOf(outline: Outline): Mask | undefined {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < outline.length; i += 2) {
    x0 = Math.min(x0, outline[i]);
    x1 = Math.max(x1, outline[i]);
    y0 = Math.min(y0, outline[i + 1]);
    y1 = Math.max(y1, outline[i + 1]);
  }
  const [left, top] = [Math.max(0, Math.floor(x0)), Math.max(0, Math.floor(y0))];
  const [width, height] = [Math.min(side, Math.ceil(x1) + 1) - left, Math.min(side, Math.ceil(y1) + 1) - top];
  if (!(width > 0 && height > 0)) return undefined;
  const alpha = new Float32Array(width * height);
  for (let line = 0; line < height * lines; line++) {
    const crossings = crossingsAt(outline, top + (line + 0.5) / lines);
    const row = Math.floor(line / lines) * width;
    for (let i = 0; i + 1 < crossings.length; i += 2)
      addSpan(alpha, row, width, crossings[i] - left, crossings[i + 1] - left);
  }
  return { left, top, width, height, alpha };
}

function crossingsAt(outline: Outline, y: number): number[] {
  const out: number[] = [];
  for (let i = 0, j = outline.length - 2; i < outline.length; j = i, i += 2) {
    const [ya, yb] = [outline[j + 1], outline[i + 1]];
    if (ya <= y === yb <= y) continue;
    out.push(outline[j] + ((y - ya) / (yb - ya)) * (outline[i] - outline[j]));
  }
  return out.sort((a, b) => a - b);
}

function addSpan(alpha: Float32Array, row: number, width: number, from: number, to: number): void {
  const [a, b] = [Math.max(0, from), Math.min(width, to)];
  if (!(b > a)) return;
  const [first, last] = [Math.floor(a), Math.min(width - 1, Math.floor(b))];
  if (first === last) {
    alpha[row + first] += (b - a) / lines;
    return;
  }
  alpha[row + first] += (first + 1 - a) / lines;
  for (let x = first + 1; x < last; x++) alpha[row + x] += 1 / lines;
  alpha[row + last] += (b - last) / lines;
}

/** Paints the pixels of a mask. */
export function paintMask(canvas: Canvas, mask: Mask | undefined, fill: Fill, opacity = 1): void {
  if (!mask) return;
  const { left, top, width, height, alpha } = mask;
  for (let r = 0, k = 0; r < height; r++) {
    let i = 3 * ((top + r) * side + left);
    for (let c = 0; c < width; c++, k++, i += 3) {
      const a = alpha[k] * opacity;
      if (a <= 0) continue;
      const color = fill(left + c, top + r);
      canvas[i] += a * (color[0] - canvas[i]);
      canvas[i + 1] += a * (color[1] - canvas[i + 1]);
      canvas[i + 2] += a * (color[2] - canvas[i + 2]);
    }
  }
}

export const paint = (canvas: Canvas, outline: Outline, fill: Fill, opacity = 1): void =>
  paintMask(canvas, maskOf(outline), fill, opacity);

/** The outline of a line of some width with round ends, between two places. */
export function segment(xa: number, ya: number, xb: number, yb: number, wa: number, wb = wa): number[] {
  const [dx, dy] = [xb - xa, yb - ya];
  const length = Math.sqrt(dx * dx + dy * dy) || 1;
  const [nx, ny] = [-dy / length / 2, dx / length / 2];
  const out: number[] = [];
  const steps = Math.max(wa, wb) > 4 ? 6 : 3;
  for (let i = 0; i <= steps; i++) {
    const [c, s] = [cosineOfTurns(i / steps / 2), sineOfTurns(i / steps / 2)];
    out.push(xb + wb * (nx * c + ny * s), yb + wb * (ny * c - nx * s));
  }
  for (let i = 0; i <= steps; i++) {
    const [c, s] = [cosineOfTurns(i / steps / 2), sineOfTurns(i / steps / 2)];
    out.push(xa - wa * (nx * c + ny * s), ya - wa * (ny * c - nx * s));
  }
  return out;
}

/** Paints a line through places, with a width at its start and one at its end. */
export function stroke(canvas: Canvas, path: Outline, fill: Fill, from: number, to = from, opacity = 1): void {
  const count = path.length / 2 - 1;
  const width = (i: number) => from + ((to - from) * i) / count;
  for (let i = 0; i < count; i++) {
    const [xa, ya, xb, yb] = path.slice(2 * i, 2 * i + 4);
    paint(canvas, segment(xa, ya, xb, yb, width(i), width(i + 1)), fill, opacity);
  }
}

/** Paints the line around an outline. */
export const contour = (canvas: Canvas, outline: Outline, fill: Fill, width: number): void =>
  stroke(canvas, [...outline, outline[0], outline[1]], fill, width);

/** The mean over a square window around each pixel, three times over, which is nearly Gaussian. */
export function blurred(canvas: Canvas, radius: number): Canvas {
  let out = canvas;
  for (let i = 0; i < 2; i++) out = boxed(boxed(out, radius, 3, 3 * side), radius, 3 * side, 3);
  return out;
}

function boxed(from: Canvas, radius: number, step: number, across: number): Canvas {
  const out = new Float32Array(from.length);
  const scale = 1 / (2 * radius + 1);
  const at = (i: number) => Math.min(side - 1, Math.max(0, i)) * step;
  for (let line = 0; line < side; line++)
    for (let ch = 0; ch < 3; ch++) {
      const start = line * across + ch;
      let sum = 0;
      for (let i = -radius; i <= radius; i++) sum += from[start + at(i)];
      for (let i = 0; i < side; i++) {
        out[start + i * step] = sum * scale;
        sum += from[start + at(i + radius + 1)] - from[start + at(i - radius)];
      }
    }
  return out;
}

/** Noise as a sensor adds it. */
export function grained(random: RandomStream, canvas: Canvas, amount: number): void {
  const even = evenNumbers(random);
  for (let i = 0; i < canvas.length; i++) canvas[i] += amount * (even() + even() - 1);
}

/** Light that falls off from one place. */
export function vignetted(random: RandomStream, canvas: Canvas, amount: number): void {
  const [x, y] = [between(random, 0.3, 0.7) * side, between(random, 0.3, 0.7) * side];
  const light = fieldOf((px, py) => 1 - (amount * ((px - x) * (px - x) + (py - y) * (py - y))) / (side * side));
  for (let i = 0; i < canvas.length; i++) canvas[i] *= light[Math.floor(i / 3)];
}

/** As 8-bit RGB. */
export function imageOf(canvas: Canvas): RgbImage {
  const data = new Uint8Array(canvas.length);
  for (let i = 0; i < data.length; i++) data[i] = Math.floor(Math.min(1, Math.max(0, canvas[i])) * 255 + 0.5);
  return { width: side, height: side, data };
}
