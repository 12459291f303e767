// Pillow's resize: separable, antialiased (the filter widens with the reduction), 22-bit weights and 8-bit rounding
// between the passes, so that pixels are those that PyTorch pipelines train and evaluate on.
import type { Interpolation, RgbImage } from "../utils/image.ts";

/** A part of an image, in whole pixels. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

interface Filter {
  readonly support: number;
  readonly weight: (x: number) => number;
}

function sinc(x: number): number {
  if (x === 0) return 1;
  const angle = x * Math.PI;
  return Math.sin(angle) / angle;
}

const filters: Readonly<Record<Exclude<Interpolation, "nearest">, Filter>> = {
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  hamming: {
    support: 1,
    weight(x) {
      const t = Math.abs(x);
      if (t === 0) return 1;
      if (t >= 1) return 0;
      const angle = t * Math.PI;
      return (Math.sin(angle) / angle) * (0.54 + 0.46 * Math.cos(angle));
    },
  },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  // Keys' cubic with a = -0.5.
  bicubic: {
    support: 2,
    weight(x) {
      const t = Math.abs(x);
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * -0.5 : 0;
    },
  },
};

/** What a pixel of a resized line reads: the line's pixels from `start` on, by weights that sum to 1. */
interface Reads {
  readonly start: number;
  readonly weights: Float64Array;
}

/** What pixel `i` of a line of `from` resized to `to` reads. */
function readsOf(from: number, to: number, i: number, { support, weight }: Filter): Reads {
  const scale = from / to;
  const widening = Math.max(scale, 1);
  const narrowing = 1 / widening;
  const reach = support * widening;
  const centre = (i + 0.5) * scale;
  const start = Math.max(0, Math.trunc(centre - reach + 0.5));
  const end = Math.min(from, Math.trunc(centre + reach + 0.5));
  const weights = new Float64Array(end - start);
  let sum = 0;
  for (let x = start; x < end; x++) {
    weights[x - start] = weight((x - centre + 0.5) * narrowing);
    sum += weights[x - start];
  }
  return { start, weights: weights.map((value) => value * (1 / sum)) };
}

/** What each pixel of a resized line reads, exactly: rows of a sparse matrix `[to, from]`. */
export function resizingMatrix(from: number, to: number, interpolation: Interpolation): readonly Reads[] {
  if (interpolation === "nearest")
    return Array.from(nearestPixels(from, to), (start): Reads => ({ start, weights: Float64Array.of(1) }));
  return Array.from({ length: to }, (_, i) => readsOf(from, to, i, filters[interpolation]));
}

const precision = 22;
const half = 1 << (precision - 1);

interface Taps {
  /** Weights to an output pixel, padded to the widest. */
  readonly size: number;
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly weights: Int32Array;
}

/** The input pixels and weights that make each output pixel of a window of a resized line. */
function makeTaps(from: number, to: number, first: number, count: number, filter: Filter): Taps {
  const size = Math.ceil(filter.support * Math.max(from / to, 1)) * 2 + 1;
  const taps = {
    size,
    starts: new Int32Array(count),
    counts: new Int32Array(count),
    weights: new Int32Array(count * size),
  };
  for (let i = 0; i < count; i++) {
    const { start, weights } = readsOf(from, to, first + i, filter);
    taps.starts[i] = start;
    taps.counts[i] = weights.length;
    weights.forEach((weight, x) => {
      const scaled = weight * (1 << precision);
      taps.weights[i * size + x] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
  }
  return taps;
}

function clip(sum: number): number {
  const value = sum >> precision;
  return Math.max(0, Math.min(255, value));
}

/**
 * Resizes the box of an image to `width` x `height` and gives the window of it (all of it where left out). Only what
 * the window needs is computed. As in Pillow, rows come first, unless the height shrinks by more than twice what the
 * width does.
 */
export function resize(
  image: RgbImage,
  box: Box,
  width: number,
  height: number,
  interpolation: Interpolation,
  window: Box = { left: 0, top: 0, width, height },
): RgbImage {
  if (interpolation === "nearest") return resizeNearest(image, box, width, height, window);
  const filter = filters[interpolation];
  const across = makeTaps(box.width, width, window.left, window.width, filter);
  const down = makeTaps(box.height, height, window.top, window.height, filter);
  const [columns, rows] = [reached(across), reached(down)];
  const shrinks = box.height - height;
  if (shrinks > 0 && shrinks > 2 * (box.width - width)) {
    const needed = { left: box.left + columns.first, top: box.top, width: columns.count, height: box.height };
    return resizeAcross(
      resizeDown(image, needed, down, 0),
      wholeBox(columns.count, window.height),
      across,
      columns.first,
    );
  }
  const needed = { left: box.left, top: box.top + rows.first, width: box.width, height: rows.count };
  return resizeDown(resizeAcross(image, needed, across, 0), wholeBox(window.width, rows.count), down, rows.first);
}

/** The input pixel of each output pixel of a line; Pillow adds the step up, so that its rounding is in the sum. */
function nearestPixels(from: number, to: number): Int32Array {
  const step = from / to;
  const pixels = new Int32Array(to);
  let position = step * 0.5;
  for (let i = 0; i < to; i++) {
    pixels[i] = Math.min(from - 1, Math.trunc(position));
    position += step;
  }
  return pixels;
}

function resizeNearest(image: RgbImage, box: Box, width: number, height: number, window: Box): RgbImage {
  const [columns, rows] = [nearestPixels(box.width, width), nearestPixels(box.height, height)];
  const out = new Uint8Array(window.width * window.height * 3);
  for (let y = 0, at = 0; y < window.height; y++) {
    const line = (box.top + rows[window.top + y]) * image.width + box.left;
    for (let x = 0; x < window.width; x++) {
      const pixel = (line + columns[window.left + x]) * 3;
      out[at++] = image.data[pixel];
      out[at++] = image.data[pixel + 1];
      out[at++] = image.data[pixel + 2];
    }
  }
  return { width: window.width, height: window.height, data: out };
}

function wholeBox(width: number, height: number): Box {
  return { left: 0, top: 0, width, height };
}

/** The input pixels that any output pixel reads. */
function reached({ starts, counts }: Taps): { first: number; count: number } {
  const last = starts.length - 1;
  return { first: starts[0], count: starts[last] + counts[last] - starts[0] };
}

/** Resizes each row of the box; `origin` is the input pixel that the box's left edge stands for in the taps. */
function resizeAcross(image: RgbImage, box: Box, taps: Taps, origin: number): RgbImage {
  const width = taps.starts.length;
  const out = new Uint8Array(box.height * width * 3);
  const { data } = image;
  for (let row = 0, at = 0; row < box.height; row++) {
    const line = ((box.top + row) * image.width + box.left - origin) * 3;
    for (let x = 0; x < width; x++) {
      let [r, g, b] = [half, half, half];
      let pixel = line + taps.starts[x] * 3;
      const end = x * taps.size + taps.counts[x];
      for (let k = x * taps.size; k < end; k++) {
        const w = taps.weights[k];
        r += data[pixel] * w;
        g += data[pixel + 1] * w;
        b += data[pixel + 2] * w;
        pixel += 3;
      }
      out[at++] = clip(r);
      out[at++] = clip(g);
      out[at++] = clip(b);
    }
  }
  return { width, height: box.height, data: out };
}

/** Resizes each column of the box; `origin` is the input pixel that the box's top edge stands for in the taps. */
function resizeDown(image: RgbImage, box: Box, taps: Taps, origin: number): RgbImage {
  const height = taps.starts.length;
  const stride = box.width * 3;
  const out = new Uint8Array(height * stride);
  const sums = new Int32Array(stride);
  const { data } = image;
  for (let y = 0; y < height; y++) {
    sums.fill(half);
    for (let k = 0; k < taps.counts[y]; k++) {
      const w = taps.weights[y * taps.size + k];
      const line = ((box.top + taps.starts[y] - origin + k) * image.width + box.left) * 3;
      for (let i = 0; i < stride; i++) sums[i] += data[line + i] * w;
    }
    for (let i = 0; i < stride; i++) out[y * stride + i] = clip(sums[i]);
  }
  return { width: box.width, height, data: out };
}
