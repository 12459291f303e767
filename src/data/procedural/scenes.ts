// Kinds of images with shapes in them: leaves over leaves, things on plain and textured grounds, drawings and signs.
import type { RandomStream } from "../../utils/random.ts";
import type { Canvas, Fill, Outline } from "./canvas.ts";
import {
  blurred,
  canvasOf,
  contour,
  dome,
  flat,
  grained,
  linear,
  maskOf,
  paint,
  paintMask,
  radial,
  stroke,
  textured,
  vignetted,
} from "./canvas.ts";
import type { Color } from "./colors.ts";
import { anyColor, grey, lit, mixed, naturalColor, paintColor, scheme } from "./colors.ts";
import { bell, between, chance, leafSize, pick, scaled } from "./draws.ts";
import { cosineOfTurns, sineOfTurns } from "./exact-math.ts";
import type { Field } from "./scalar-fields.ts";
import { fractalNoise, ringNoise, side } from "./scalar-fields.ts";
import { anyOutline, blob, ellipse, lathe, leaf, placed, rectangle, smooth, star, superellipse } from "./outlines.ts";
import { anyGround, gradientGround } from "./textures.ts";

type Draw = (random: RandomStream) => Color;

/** Textures that several shapes of an image share. */
function texturesOf(random: RandomStream): Field[] {
  return [
    ...fractalNoise(random, {
      exponent: between(random, 0.6, 1.6),
      stretch: scaled(random, 0.4, 2.5),
      turns: random.uniform(),
    }),
    ...ringNoise(random, scaled(random, 8, 50), {
      width: 0.4,
      turns: random.uniform(),
      spread: pick(random, [0.05, 1]),
    }),
  ];
}

interface FillStyle {
  readonly draw: Draw;
  /** How often shapes are flat, shaded over their length, or round. */
  readonly shaded: number;
  /** How often they have a texture. */
  readonly rough: number;
  readonly textures: readonly Field[];
  /** Where light comes from, in turns. */
  readonly light: number;
}

function fillFor(
  random: RandomStream,
  style: FillStyle,
  x: number,
  y: number,
  size: number,
  color = style.draw(random),
): Fill {
  let fill = flat(color);
  if (chance(random, style.shaded))
    fill = chance(random, 0.5)
      ? dome(color, x, y, size * between(random, 0.8, 1.3), style.light, random.uniform())
      : linear(
          lit(color, between(random, 0.9, 1.5)),
          lit(color, between(random, 0.3, 0.9)),
          x - (size / 2) * cosineOfTurns(style.light),
          y - (size / 2) * sineOfTurns(style.light),
          size * 1.5,
          style.light + 0.5,
        );
  if (style.textures.length > 0 && chance(random, style.rough))
    fill = textured(
      fill,
      pick(random, style.textures),
      between(random, 0.05, 0.3),
      random.integer(0, side),
      random.integer(0, side),
    );
  return fill;
}

/** Draws natural things or paints, and shades them as such. */
function styleOf(random: RandomStream): FillStyle {
  const natural = chance(random, 0.5);
  return {
    draw: natural ? naturalColor : paintColor,
    shaded: pick(random, natural ? [0.5, 0.9] : [0, 0.2, 0.7]),
    rough: pick(random, natural ? [0.5, 0.9] : [0, 0, 0.3]),
    textures: natural || chance(random, 0.3) ? texturesOf(random) : [],
    light: random.uniform(),
  };
}

/** Shapes that lie on each other until nothing of the ground is left. */
function leaves(random: RandomStream, outline: (random: RandomStream) => number[], style: FillStyle): Canvas {
  const canvas = canvasOf(flat(style.draw(random)));
  const least = scaled(random, 4, 16);
  // Nine times the image's area covers all but a part of 1e-4 of it.
  let area = 9 * side * side;
  const edge = chance(random, 0.3) ? between(random, 0.3, 0.8) : 1;
  while (area > 0) {
    const size = leafSize(random, least, 90);
    const [x, y] = [between(random, -0.1, 1.1) * side, between(random, -0.1, 1.1) * side];
    const shape = placed(outline(random), x, y, size, random.uniform());
    if (edge < 1 && size > 12)
      paint(
        canvas,
        shape.map((v) => v + 0.1 * size * edge),
        flat([0, 0, 0]),
        0.3,
      );
    paint(canvas, shape, fillFor(random, style, x, y, size));
    area -= 2 * size * size;
  }
  return canvas;
}

/** Straight or bent lines of one width law. */
function linesImage(random: RandomStream): Canvas {
  const canvas = canvasOf(chance(random, 0.5) ? flat(anyColor(random)) : anyGround(random));
  const colors = scheme(random, anyColor, random.integer(1, 6));
  const [straight, widest] = [chance(random, 0.4), scaled(random, 1.5, 14)];
  for (let n = random.integer(5, 60); n > 0; n--) {
    const places = Array.from(
      { length: straight ? 4 : 2 * random.integer(3, 6) },
      () => between(random, -0.2, 1.2) * side,
    );
    stroke(canvas, straight ? places : smooth(places), flat(pick(random, colors)), leafSize(random, 1, widest + 1));
  }
  return canvas;
}

/** Overlapping glass or paper. */
function overlapsImage(random: RandomStream): Canvas {
  const canvas = canvasOf(chance(random, 0.5) ? flat(anyColor(random)) : gradientGround(random));
  const colors = scheme(random, anyColor, 8);
  const opacity = between(random, 0.3, 1);
  for (let n = random.integer(4, 40); n > 0; n--) {
    const size = scaled(random, 12, 110);
    const at = [random.uniform() * side, random.uniform() * side] as const;
    paint(canvas, placed(anyOutline(random), ...at, size, random.uniform()), flat(pick(random, colors)), opacity);
  }
  return canvas;
}

/** A sign of a few strokes in a box of size 1. */
function glyph(random: RandomStream): number[][] {
  const grid = [0, 0.5, 1];
  return Array.from({ length: random.integer(1, 4) }, () => {
    const places = Array.from({ length: 2 * random.integer(2, 4) }, () => pick(random, grid));
    return chance(random, 0.5) ? places : smooth(places, 4);
  });
}

/** Lines of writing, in signs that repeat. */
function writingImage(random: RandomStream): Canvas {
  const dark = chance(random, 0.7);
  const canvas = canvasOf(
    chance(random, 0.6) ? flat(grey(dark ? between(random, 0.8, 1) : between(random, 0, 0.2))) : gradientGround(random),
  );
  const signs = Array.from({ length: random.integer(4, 14) }, () => glyph(random));
  const size = scaled(random, 9, 90);
  const ink = flat(dark ? lit(anyColor(random), 0.4) : mixed(anyColor(random), [1, 1, 1], 0.6));
  const [width, slant, gap] = [
    size * between(random, 0.06, 0.22),
    between(random, -0.2, 0.3),
    between(random, 1.4, 2.2),
  ];
  for (let y = size * 0.4; y < side - size * 0.6; y += size * gap) {
    for (let x = size * 0.4; x < side * between(random, 0.6, 1) - size * 0.8; x += size * 1.05) {
      if (chance(random, 0.15)) continue;
      for (const path of pick(random, signs))
        stroke(
          canvas,
          path.map((v, i) => (i % 2 ? y + v * size : x + 0.8 * size * (v + slant * (0.5 - path[i + 1])))),
          ink,
          width,
        );
    }
  }
  return canvas;
}

/** How the things of an image are painted. */
interface PartStyle extends FillStyle {
  readonly line: { readonly color: Color; readonly width: number } | undefined;
  /** Lines alone. */
  readonly open: boolean;
}

function partStyle(random: RandomStream): PartStyle {
  const outlined = chance(random, 0.5);
  return {
    ...styleOf(random),
    line: outlined
      ? { color: chance(random, 0.8) ? grey(0.05) : lit(anyColor(random), 0.4), width: scaled(random, 1, 6) }
      : undefined,
    open: outlined && chance(random, 0.2),
  };
}

interface Part {
  readonly outline: Outline;
  readonly x: number;
  readonly y: number;
  readonly size: number;
  readonly color?: Color;
}

const part = (outline: Outline, x: number, y: number, size: number, turns = 0, color?: Color): Part => ({
  outline: placed(outline, x, y, size, turns),
  x,
  y,
  size,
  color,
});

/** Shapes that grow out of each other, on one side or both alike. */
function assembled(random: RandomStream, colors: readonly Color[]): Part[] {
  const mirrored = chance(random, 0.6);
  const parts = [
    part(anyOutline(random), 0, 0, between(random, 0.4, 0.7), chance(random, 0.5) ? 0.25 : random.uniform(), colors[0]),
  ];
  for (let n = random.integer(1, 7); n > 0; n--) {
    const { x, y, size } = pick(random, parts);
    const turns = random.uniform();
    const at = [x + size * cosineOfTurns(turns), y + size * sineOfTurns(turns)] as const;
    const next = part(
      anyOutline(random),
      ...at,
      size * between(random, 0.2, 0.75),
      random.uniform(),
      pick(random, colors),
    );
    parts.push(next);
    if (!mirrored) continue;
    parts.push({ ...next, outline: next.outline.map((v, i) => (i % 2 ? v : -v)), x: -next.x });
  }
  return chance(random, 0.5) ? parts.reverse() : parts;
}

/** A body with a head, eyes and limbs. */
function creature(random: RandomStream, colors: readonly Color[]): Part[] {
  const [coat, other] = colors;
  const length = between(random, 0.3, 0.7);
  const [hx, hy, head] = [length * between(random, 0.4, 1.2), -between(random, 0.2, 0.7), between(random, 0.18, 0.35)];
  const limbs = random.integer(2, 4);
  const parts: Part[] = [];
  for (let k = 0; k < limbs; k++) {
    const x = -length * 0.8 + (1.6 * length * k) / Math.max(1, limbs - 1);
    parts.push(
      part(
        superellipse(3, between(random, 0.15, 0.35)),
        x,
        between(random, 0.35, 0.6),
        between(random, 0.2, 0.4),
        0.25 + 0.05 * bell(random),
        coat,
      ),
    );
  }
  parts.push(part(leaf(0.25), -length, -0.1, between(random, 0.2, 0.5), 0.4 + 0.3 * random.uniform(), other));
  parts.push(part(superellipse(2.2, between(random, 0.5, 0.9)), 0, 0, length, 0.03 * bell(random), coat));
  parts.push(
    part(leaf(between(random, 0.2, 0.6)), hx - head * 0.5, hy - head, head * 0.6, 0.75, coat),
    part(leaf(between(random, 0.2, 0.6)), hx + head * 0.5, hy - head, head * 0.6, 0.75, coat),
  );
  parts.push(part(ellipse(between(random, 0.7, 1)), hx, hy, head, 0, coat));
  parts.push(part(leaf(0.4), hx + head, hy + 0.1 * head, head * between(random, 0.2, 0.6), 0, other));
  for (const dx of [-0.35, 0.35]) {
    parts.push(part(ellipse(), hx + dx * head, hy - 0.2 * head, head * 0.24, 0, [1, 1, 1]));
    parts.push(part(ellipse(), hx + dx * head, hy - 0.2 * head, head * 0.12, 0, grey(0.05)));
  }
  return parts;
}

/** Petals about a middle, on a stem with leaves. */
function flower(random: RandomStream, colors: readonly Color[]): Part[] {
  const [petal, middle, green] = colors;
  const count = random.integer(4, 14);
  const [ratio, size, y] = [between(random, 0.2, 0.6), between(random, 0.25, 0.45), between(random, -0.4, 0)];
  const stem = part(rectangle(0.05), 0, (y + 1) / 2, (1 - y) / 2, 0.25, green);
  const blades = [-1, 1].map((way) =>
    part(leaf(0.3), way * 0.25, between(random, 0.3, 0.7), 0.28, way > 0 ? -0.08 : 0.58, green),
  );
  const petals = Array.from({ length: count }, (_, k) =>
    part(leaf(ratio), size * cosineOfTurns(k / count), y + size * sineOfTurns(k / count), size, k / count, petal),
  );
  return [stem, ...blades, ...petals, part(ellipse(), 0, y, size * between(random, 0.2, 0.6), 0, middle)];
}

/** A box on wheels, with windows. */
function cart(random: RandomStream, colors: readonly Color[]): Part[] {
  const [body, glass, tyre] = colors;
  const wheels = random.integer(2, 4);
  const [high, p, r] = [between(random, 0.2, 0.5), between(random, 2, 8), between(random, 0.12, 0.25)];
  const parts = [
    part(
      superellipse(p, between(random, 0.4, 0.9)),
      between(random, -0.3, 0.3),
      -high,
      between(random, 0.3, 0.6),
      0,
      body,
    ),
    part(
      superellipse(p, between(random, 0.4, 0.7)),
      between(random, -0.2, 0.2),
      -high,
      between(random, 0.2, 0.3),
      0,
      glass,
    ),
    part(superellipse(6, high), 0, 0, 0.9, 0, body),
  ];
  for (let k = 0; k < wheels; k++) {
    const x = -0.6 + (1.2 * k) / (wheels - 1);
    parts.push(
      part(ellipse(), x, high * 0.9, r, 0, lit(tyre, 0.3)),
      part(ellipse(), x, high * 0.9, r * 0.5, 0, grey(0.7)),
    );
  }
  return parts;
}

/** Walls under a roof, with openings. */
function hut(random: RandomStream, colors: readonly Color[]): Part[] {
  const [wall, roof, door] = colors;
  const [w, h] = [between(random, 0.4, 0.8), between(random, 0.3, 0.6)];
  const parts = [part(rectangle(h / w), 0, 0.3, w, 0, wall)];
  parts.push({
    outline: [-w * 1.15, 0.3 - h, w * 1.15, 0.3 - h, between(random, -0.2, 0.2), 0.3 - h - between(random, 0.2, 0.6)],
    x: 0,
    y: -h,
    size: w,
    color: roof,
  });
  const openings = random.integer(1, 4);
  for (let k = 0; k < openings; k++)
    parts.push(
      part(
        rectangle(between(random, 0.8, 2)),
        w * ((2 * (k + 0.5)) / openings - 1),
        0.3,
        (w / openings) * between(random, 0.25, 0.5),
        0,
        door,
      ),
    );
  return parts;
}

/** Something turned on a lathe, with a band, a handle or a lid. */
function vessel(random: RandomStream, colors: readonly Color[]): Part[] {
  const [body, band] = colors;
  const parts = [part(lathe(random), 0, 0, 0.85, chance(random, 0.7) ? 0 : random.uniform(), body)];
  if (chance(random, 0.5))
    parts.push(
      part(
        superellipse(4, between(random, 0.1, 0.8)),
        0,
        between(random, -0.4, 0.4),
        between(random, 0.1, 0.3),
        0,
        band,
      ),
    );
  if (chance(random, 0.4))
    parts.push(part(ellipse(between(random, 0.1, 0.3)), 0, -0.85, between(random, 0.2, 0.4), 0, lit(body, 0.5)));
  return parts;
}

/** A stem that branches, with leaves or fruits at its ends. */
function branches(random: RandomStream, colors: readonly Color[]): Part[] {
  const [bark, end] = colors;
  const [spread, shrink, forks] = [between(random, 0.05, 0.14), between(random, 0.6, 0.8), random.integer(2, 3)];
  const parts: Part[] = [];
  const tip = chance(random, 0.6) ? leaf(0.4) : ellipse();
  const tipSize = between(random, 0.05, 0.16);
  const grow = (x: number, y: number, turns: number, length: number, depth: number): void => {
    const [nx, ny] = [x + length * cosineOfTurns(turns), y + length * sineOfTurns(turns)];
    parts.push(part(rectangle(0.02 + 0.03 * depth * 0.5), (x + nx) / 2, (y + ny) / 2, length / 2, turns, bark));
    if (depth === 0) parts.push(part(tip, nx, ny, tipSize, turns, end));
    else
      for (let k = 0; k < forks; k++)
        grow(
          nx,
          ny,
          turns + spread * (2 * k - forks + 1) + 0.02 * bell(random),
          length * shrink * between(random, 0.8, 1.1),
          depth - 1,
        );
  };
  grow(0, 0.95, 0.75, 0.6, random.integer(2, 4));
  return parts;
}

function anyThing(random: RandomStream, draw: Draw): Part[] {
  const kind = pick(random, [
    assembled,
    assembled,
    assembled,
    creature,
    flower,
    cart,
    hut,
    vessel,
    vessel,
    branches,
  ] as const);
  return kind(random, scheme(random, draw, 4));
}

/** Paints a thing at a place, and its shadow on the ground. */
function paintThing(
  random: RandomStream,
  canvas: Canvas,
  parts: readonly Part[],
  style: PartStyle,
  x: number,
  y: number,
  size: number,
  shadow = false,
): void {
  const turn = chance(random, 0.75) ? 0 : random.uniform();
  const lowest = Math.max(...parts.flatMap(({ outline }) => outline.filter((_, i) => i % 2)));
  if (shadow) {
    const mask = maskOf(placed(ellipse(0.2), x, y + size * lowest, size * 0.8));
    paintMask(canvas, mask, flat([0, 0, 0]), 0.35);
  }
  for (const { outline, color, ...at } of parts) {
    const shape = placed(outline, x, y, size, turn);
    const [cx, cy] = placed([at.x, at.y], x, y, size, turn);
    if (!style.open) paint(canvas, shape, fillFor(random, style, cx, cy, at.size * size, color));
    if (style.line) contour(canvas, shape, flat(style.line.color), style.line.width);
  }
}

/** White most often, as catalogues and drawings have it. */
const plainGround = (random: RandomStream): Fill =>
  flat(chance(random, 0.6) ? [1, 1, 1] : chance(random, 0.3) ? grey(random.uniform()) : anyColor(random));

function thingImage(random: RandomStream, ground: Fill, count: number): Canvas {
  const canvas = canvasOf(ground);
  const style = partStyle(random);
  const shadow = chance(random, 0.4);
  const same = count > 1 && chance(random, 0.4) ? anyThing(random, style.draw) : undefined;
  for (let k = 0; k < count; k++) {
    const size = side * (count === 1 ? between(random, 0.28, 0.5) : between(random, 0.1, 0.28));
    const [x, y] =
      count === 1
        ? [side * between(random, 0.4, 0.6), side * between(random, 0.4, 0.6)]
        : [side * between(random, 0.1, 0.9), side * between(random, 0.1, 0.9)];
    paintThing(random, canvas, same ?? anyThing(random, style.draw), style, x, y, size, shadow);
  }
  return canvas;
}

/** One colour on another. */
function silhouette(random: RandomStream): Canvas {
  const [ground, ink] = chance(random, 0.6)
    ? ([[1, 1, 1], grey(0.05)] as const)
    : ([anyColor(random), anyColor(random)] as const);
  const canvas = canvasOf(flat(ground));
  const parts = anyThing(random, paintColor);
  const style: PartStyle = {
    draw: () => ink,
    shaded: 0,
    rough: 0,
    textures: [],
    light: 0,
    line: undefined,
    open: false,
  };
  const inked = parts.map((each) => ({ ...each, color: ink }));
  paintThing(random, canvas, inked, style, side / 2, side / 2, side * between(random, 0.3, 0.45));
  return canvas;
}

/** Lines alone, as pencils draw. */
function drawing(random: RandomStream): Canvas {
  const canvas = canvasOf(flat(chance(random, 0.8) ? [1, 1, 1] : anyColor(random)));
  const style: PartStyle = {
    ...styleOf(random),
    line: { color: grey(between(random, 0, 0.3)), width: scaled(random, 1, 5) },
    open: chance(random, 0.4),
    draw: () => [1, 1, 1],
    shaded: 0,
    rough: 0,
  };
  const parts = anyThing(random, style.draw).map((each) => ({ ...each, color: [1, 1, 1] as const }));
  paintThing(random, canvas, parts, style, side / 2, side / 2, side * between(random, 0.3, 0.45));
  return canvas;
}

/** A sign: shapes in shapes, in few flat colours. */
function emblem(random: RandomStream): Canvas {
  const colors = scheme(random, paintColor, 4);
  const canvas = canvasOf(plainGround(random));
  const outline = pick(random, [
    ellipse(),
    rectangle(between(random, 0.5, 1)),
    superellipse(5, between(random, 0.6, 1)),
    anyOutline(random),
  ]);
  const size = side * between(random, 0.3, 0.48);
  const turns = pick(random, [0, 0.125, 0.25]);
  for (const [k, share] of [1, between(random, 0.8, 0.95)].entries())
    paint(canvas, placed(outline, side / 2, side / 2, size * share, turns), flat(colors[k]));
  const style: PartStyle = {
    draw: paintColor,
    shaded: 0,
    rough: 0,
    textures: [],
    light: 0,
    line: undefined,
    open: false,
  };
  const ink = colors[2];
  const inner = chance(random, 0.5)
    ? [part(anyOutline(random), 0, 0, 1, pick(random, [0, 0.25, 0.5, 0.75]), ink)]
    : anyThing(random, paintColor).map((each) => ({ ...each, color: ink }));
  paintThing(random, canvas, inner, style, side / 2, side / 2, size * between(random, 0.4, 0.65));
  return canvas;
}

/** Bands, boxes and crosses with a figure in front. */
function bandsImage(random: RandomStream): Canvas {
  const colors = scheme(random, paintColor, 6);
  const canvas = canvasOf(flat(colors[0]));
  const cut = (x: number, y: number, w: number, h: number, depth: number): void => {
    if (depth === 0 || chance(random, 0.15))
      return paint(canvas, [x, y, x + w, y, x + w, y + h, x, y + h], flat(pick(random, colors)));
    const at = between(random, 0.25, 0.75);
    if (chance(random, 0.5)) {
      cut(x, y, w * at, h, depth - 1);
      cut(x + w * at, y, w * (1 - at), h, depth - 1);
    } else {
      cut(x, y, w, h * at, depth - 1);
      cut(x, y + h * at, w, h * (1 - at), depth - 1);
    }
  };
  cut(0, 0, side, side, random.integer(1, 5));
  if (chance(random, 0.5))
    paint(
      canvas,
      placed(
        chance(random, 0.5) ? star(5, 0.4) : anyOutline(random),
        side / 2,
        side / 2,
        side * between(random, 0.1, 0.4),
      ),
      flat(pick(random, colors)),
    );
  return canvas;
}

/** Squares that mirror themselves, as sprites and patterns do. */
function sprites(random: RandomStream): Canvas {
  const colors = scheme(random, anyColor, 4);
  const canvas = canvasOf(flat(chance(random, 0.5) ? [1, 1, 1] : colors[3]));
  const [cells, repeats] = [2 * random.integer(3, 8), random.integer(1, 3)];
  const size = side / cells / repeats;
  const on = between(random, 0.3, 0.7);
  for (let y = 0; y < cells; y++)
    for (let x = 0; x < cells / 2; x++) {
      if (!chance(random, on)) continue;
      const fill = flat(colors[random.integer(0, 2)]);
      for (let r = 0; r < repeats * repeats; r++)
        for (const column of [x, cells - 1 - x]) {
          const [px, py] = [(column + cells * (r % repeats)) * size, (y + cells * Math.floor(r / repeats)) * size];
          paint(canvas, [px, py, px + size, py, px + size, py + size, px, py + size], fill);
        }
    }
  return canvas;
}

/** Balls and eggs on a floor, each with its shadow. */
function balls(random: RandomStream): Canvas {
  const [far, floor] = scheme(random, naturalColor, 2);
  const horizon = between(random, 0.2, 0.6) * side;
  const style = { ...styleOf(random), shaded: 1 };
  const [grain] = fractalNoise(random, { exponent: 1.2, stretch: 1.6 });
  const ground = textured(flat(floor), grain, between(random, 0, 0.25), 0, 0);
  const canvas = canvasOf((x, y) =>
    y < horizon
      ? mixed(far, [1, 1, 1], (0.5 * y) / horizon)
      : lit(ground(x, y), 0.5 + (0.7 * (y - horizon)) / (side - horizon)),
  );
  const count = random.integer(1, 9);
  const places = Array.from({ length: count }, () => between(random, horizon + 10, side * 0.95)).sort((a, b) => a - b);
  for (const y of places) {
    const size = between(random, 0.15, 0.35) * (y - horizon + 40);
    const x = random.uniform() * side;
    const slant = cosineOfTurns(style.light);
    paint(
      canvas,
      placed(ellipse(0.25), x - slant * size * 0.7, y, size * 1.1),
      radial([0, 0, 0], floor, x, y, size * 2),
      0.5,
    );
    const color = anyColor(random);
    const turned = chance(random, 0.3) ? lathe(random) : ellipse(between(random, 0.7, 1.2));
    const fill = dome(color, x, y - size * 0.8, size * 1.05, style.light, random.uniform());
    const rough =
      style.textures.length > 0
        ? textured(fill, style.textures[0], between(random, 0, 0.3), random.integer(0, side), 0)
        : fill;
    paint(canvas, placed(turned, x, y - size * 0.8, size), rough);
  }
  return canvas;
}

/** Something sharp before a ground that is out of focus. */
function focused(random: RandomStream): Canvas {
  const behind = chance(random, 0.5)
    ? canvasOf(anyGround(random))
    : leaves(random, anyOutline, { ...styleOf(random), draw: naturalColor });
  const canvas = blurred(behind, random.integer(2, 12));
  const textures = texturesOf(random);
  const style: PartStyle = {
    draw: naturalColor,
    shaded: 0.9,
    rough: 0.8,
    textures,
    light: random.uniform(),
    line: undefined,
    open: false,
  };
  for (let n = random.integer(1, 3); n > 0; n--)
    paintThing(
      random,
      canvas,
      anyThing(random, naturalColor),
      style,
      side * between(random, 0.3, 0.7),
      side * between(random, 0.4, 0.7),
      side * between(random, 0.25, 0.6),
    );
  grained(random, canvas, between(random, 0, 0.04));
  vignetted(random, canvas, between(random, 0, 0.8));
  return canvas;
}

/** Leaves of all depths in one light, as woods and heaps are. */
function thicket(random: RandomStream): Canvas {
  const style: FillStyle = {
    draw: naturalColor,
    shaded: 0.6,
    rough: 0.9,
    textures: texturesOf(random),
    light: random.uniform(),
  };
  const colors = scheme(random, naturalColor, 6);
  const outline = pick<(r: RandomStream) => number[]>(random, [
    (r) => blob(r, 0.6),
    (r) => leaf(between(r, 0.15, 0.5)),
    (r) => rectangle(between(r, 0.03, 0.3)),
    anyOutline,
  ]);
  const canvas = leaves(random, outline, { ...style, draw: () => pick(random, colors) });
  const done = chance(random, 0.4) ? blurred(canvas, 1) : canvas;
  grained(random, done, between(random, 0, 0.05));
  vignetted(random, done, between(random, 0, 0.6));
  return done;
}

export const sceneKinds = {
  "dead-leaves": (random: RandomStream) => leaves(random, anyOutline, styleOf(random)),
  "dead-leaves-discs": (random: RandomStream) => leaves(random, () => ellipse(), styleOf(random)),
  "dead-leaves-boxes": (random: RandomStream) => leaves(random, (r) => rectangle(between(r, 0.1, 1)), styleOf(random)),
  thicket,
  lines: linesImage,
  overlaps: overlapsImage,
  writing: writingImage,
  "thing-plain": (random: RandomStream) => thingImage(random, plainGround(random), 1),
  "thing-gradient": (random: RandomStream) => thingImage(random, gradientGround(random), 1),
  "thing-textured": (random: RandomStream) => thingImage(random, anyGround(random), 1),
  "things-plain": (random: RandomStream) => thingImage(random, plainGround(random), random.integer(2, 9)),
  "things-textured": (random: RandomStream) => thingImage(random, anyGround(random), random.integer(2, 9)),
  focused,
  balls,
  silhouette,
  drawing,
  emblem,
  bands: bandsImage,
  sprites,
} as const;
