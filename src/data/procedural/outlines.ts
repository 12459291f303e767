// Outlines of shapes around 0, about 1 in size, and how they are placed.
import type { RandomStream } from "../../utils/random.ts";
import type { Outline } from "./canvas.ts";
import { bell, between, chance, pick } from "./draws.ts";
import { cosineOfTurns, power, sineOfTurns } from "./exact-math.ts";

/** Points around 0 at radii that follow from the turns. */
function around(count: number, radius: (turns: number, i: number) => number): number[] {
  const out: number[] = [];
  for (let i = 0; i < count; i++) {
    const r = radius(i / count, i);
    out.push(r * cosineOfTurns(i / count), r * sineOfTurns(i / count));
  }
  return out;
}

export const ellipse = (ratio = 1): number[] => around(36, () => 1).map((v, i) => (i % 2 ? v * ratio : v));

export const rectangle = (ratio: number): number[] => [-1, -ratio, 1, -ratio, 1, ratio, -1, ratio];

export const regular = (corners: number): number[] => around(corners, () => 1);

export const star = (rays: number, inner: number): number[] => around(2 * rays, (_, i) => (i % 2 ? inner : 1));

/** An outline of waves whose amplitudes fall with their frequency. */
export function blob(random: RandomStream, roughness: number): number[] {
  const waves = [2, 3, 4, 5, 6].map((f) => ({ f, a: (roughness * bell(random)) / f, phase: random.uniform() }));
  return around(
    60,
    (t) =>
      0.8 *
      Math.max(
        0.15,
        waves.reduce((r, { f, a, phase }) => r + a * sineOfTurns(f * t + phase), 1),
      ),
  );
}

/** Between a diamond, an ellipse and a rectangle: |x|^p + |y|^p = 1. */
export function superellipse(p: number, ratio: number): number[] {
  const bent = (v: number) => (v === 0 ? 0 : Math.sign(v) * power(Math.abs(v), 2 / p));
  return ellipse().map((v, i) => (i % 2 ? ratio * bent(v) : bent(v)));
}

/** Corners at any turn and radius: no two alike. */
export const splinter = (random: RandomStream): number[] =>
  around(random.integer(3, 8), () => between(random, 0.35, 1)).map((v) => v + between(random, -0.12, 0.12));

/** Two arcs from tip to tip. */
export function leaf(ratio: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < 24; i++) {
    const t = i / 24;
    const x = t < 0.5 ? 4 * t - 1 : 3 - 4 * t;
    out.push(x, (t < 0.5 ? 1 : -1) * ratio * (1 - x * x) * (1 + 0.3 * x));
  }
  return out;
}

/** A ring with a gap, or a moon: an arc of some width. */
export function arc(random: RandomStream): number[] {
  const [span, inner] = [between(random, 0.3, 0.95), between(random, 0.4, 0.85)];
  const out: number[] = [];
  const moon = chance(random, 0.5);
  for (let i = 0; i <= 24; i++) out.push(cosineOfTurns((span * i) / 24), sineOfTurns((span * i) / 24));
  for (let i = 24; i >= 0; i--) {
    const r = moon ? 1 - (1 - inner) * sineOfTurns(i / 48) : inner;
    out.push(r * cosineOfTurns((span * i) / 24), r * sineOfTurns((span * i) / 24));
  }
  return out;
}

/** A wheel with teeth. */
export const gear = (teeth: number, depth: number): number[] =>
  around(4 * teeth, (_, i) => (i % 4 < 2 ? 1 : 1 - depth));

/** A cross or an arrow of bars. */
export function bars(random: RandomStream): number[] {
  const w = between(random, 0.15, 0.4);
  if (chance(random, 0.5)) return [-w, -1, w, -1, w, -w, 1, -w, 1, w, w, w, w, 1, -w, 1, -w, w, -1, w, -1, -w, -w, -w];
  const head = between(random, 0, 0.6);
  return [-1, -w, head, -w, head, -2 * w - 0.1, 1, 0, head, 2 * w + 0.1, head, w, -1, w];
}

/** A vessel's or tool's outline: a smooth profile, the same on both sides. */
export function lathe(random: RandomStream): number[] {
  const widths = Array.from({ length: random.integer(3, 7) }, () => between(random, 0.12, 0.75));
  const right: [number, number][] = [];
  for (let i = 0; i <= 30; i++) {
    const t = (i / 30) * (widths.length - 1);
    const k = Math.min(widths.length - 2, Math.floor(t));
    const u = t - k;
    const ease = u * u * (3 - 2 * u);
    right.push([widths[k] + ease * (widths[k + 1] - widths[k]), (2 * i) / 30 - 1]);
  }
  return [...right.flat(), ...right.reverse().flatMap(([x, y]) => [-x, y])];
}

/** Any of the shapes. */
export function anyOutline(random: RandomStream): number[] {
  const ratio = between(random, 0.3, 1);
  const shape = pick(random, [
    () => ellipse(ratio),
    () => rectangle(ratio),
    () => regular(random.integer(3, 8)),
    () => star(random.integer(4, 12), between(random, 0.3, 0.8)),
    () => blob(random, between(random, 0.2, 0.9)),
    () => blob(random, between(random, 0.2, 0.9)),
    () => superellipse(between(random, 0.8, 6), ratio),
    () => splinter(random),
    () => leaf(between(random, 0.2, 0.7)),
    () => arc(random),
    () => gear(random.integer(5, 14), between(random, 0.1, 0.4)),
    () => bars(random),
    () => lathe(random),
  ]);
  return shape();
}

/** An outline scaled, turned and moved. */
export function placed(outline: Outline, x: number, y: number, size: number, turns = 0): number[] {
  const [c, s] = [size * cosineOfTurns(turns), size * sineOfTurns(turns)];
  const out: number[] = [];
  for (let i = 0; i < outline.length; i += 2)
    out.push(x + outline[i] * c - outline[i + 1] * s, y + outline[i] * s + outline[i + 1] * c);
  return out;
}

/** A smooth path through places (Catmull and Rom), some points to each stretch. */
export function smooth(places: Outline, each = 8): number[] {
  const count = places.length / 2;
  const at = (i: number, k: number) => places[2 * Math.min(count - 1, Math.max(0, i)) + k];
  const out: number[] = [places[0], places[1]];
  for (let i = 0; i + 1 < count; i++)
    for (let j = 1; j <= each; j++) {
      const t = j / each;
      for (let k = 0; k < 2; k++) {
        const [a, b, c, d] = [at(i - 1, k), at(i, k), at(i + 1, k), at(i + 2, k)];
        out.push(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))));
      }
    }
  return out;
}
