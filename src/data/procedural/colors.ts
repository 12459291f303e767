// Colours: those that photographs have, and those that people paint with.
import type { RandomStream } from "../../utils/random.ts";
import { bell, between, chance, pick } from "./draws.ts";

/** Red, green and blue from 0 to 1. */
export type Color = readonly [number, number, number];

const unit = (v: number) => Math.min(1, Math.max(0, v));

/** Of opponent channels: luminance, yellow against blue, red against green. */
export const opponent = (l: number, yellow: number, red: number): Color => [
  unit(l + 0.5 * yellow + red),
  unit(l + 0.35 * yellow - 0.7 * red),
  unit(l - yellow),
];

/** As in photographs: luminance varies most, then yellow against blue, then red against green (Ruderman and others 1998). */
export const naturalColor = (random: RandomStream, l = between(random, 0.03, 0.97)): Color =>
  opponent(l, 0.03 + 0.13 * bell(random) * (0.4 + l), 0.02 + 0.06 * bell(random));

/** From hue (turns), saturation and value. */
export function hueColor(hue: number, saturation: number, value: number): Color {
  const channel = (shift: number) => {
    const t = 6 * (hue + shift - Math.floor(hue + shift));
    return value * (1 - saturation * (1 - unit(Math.abs(t - 3) - 1)));
  };
  return [channel(0), channel(2 / 3), channel(1 / 3)];
}

/** As in drawings: saturated, or grey, black and white. */
export function paintColor(random: RandomStream): Color {
  const kind = random.uniform();
  if (kind < 0.08) return [1, 1, 1];
  if (kind < 0.2) return grey(between(random, 0, 0.15));
  if (kind < 0.3) return grey(random.uniform());
  // Skin, earth and wood.
  if (kind < 0.45) return hueColor(between(random, 0.03, 0.13), between(random, 0.25, 0.9), between(random, 0.25, 1));
  const saturation = chance(random, 0.6) ? between(random, 0.6, 1) : between(random, 0.15, 0.6);
  return hueColor(random.uniform(), saturation, between(random, 0.35, 1));
}

export const grey = (l: number): Color => [l, l, l];

export const anyColor = (random: RandomStream): Color =>
  chance(random, 0.5) ? naturalColor(random) : paintColor(random);

export const mixed = (a: Color, b: Color, t: number): Color => [
  a[0] + t * (b[0] - a[0]),
  a[1] + t * (b[1] - a[1]),
  a[2] + t * (b[2] - a[2]),
];

/** The same colour in other light. */
export const lit = (color: Color, by: number): Color => [unit(color[0] * by), unit(color[1] * by), unit(color[2] * by)];

/** Colours that go together: near one hue, in two hues, or any. */
export function scheme(random: RandomStream, draw: (random: RandomStream) => Color, count: number): Color[] {
  const base = draw(random);
  const other = draw(random);
  const kind = pick(random, ["one", "two", "any"]);
  return Array.from({ length: count }, () => {
    if (kind === "any") return draw(random);
    const from = kind === "two" && chance(random, 0.5) ? other : base;
    return lit(mixed(from, draw(random), between(random, 0, 0.3)), between(random, 0.5, 1.5));
  });
}

/** Colours along a line from 0 to 1, in steps of 1/255. */
export function ramp(random: RandomStream, colors: readonly Color[]): Color[] {
  const even = chance(random, 0.5);
  const stops = colors.map((_, i) => i / Math.max(1, colors.length - 1));
  const at = stops.map((stop, i) =>
    even || i === 0 || i === colors.length - 1 ? stop : stop + between(random, -0.4, 0.4) / colors.length,
  );
  return Array.from({ length: 256 }, (_, i) => {
    const t = i / 255;
    let k = 1;
    while (k < at.length - 1 && at[k] < t) k++;
    if (colors.length === 1) return colors[0];
    return mixed(colors[k - 1], colors[k], unit((t - at[k - 1]) / Math.max(at[k] - at[k - 1], 1e-6)));
  });
}
