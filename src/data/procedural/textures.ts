// Kinds that fill the whole image: noise, patterns and what nature grows.
import type { RandomStream } from "../../utils/random.ts";
import type { Canvas, Fill } from "./canvas.ts";
import { canvasOf, colored, flat, linear, paint, radial, rampFill, stroke } from "./canvas.ts";
import type { Color } from "./colors.ts";
import { anyColor, grey, lit, mixed, naturalColor, opponent, paintColor, ramp, scheme } from "./colors.ts";
import { bell, between, chance, pick, scaled } from "./draws.ts";
import { cosineOfTurns, sineOfTurns } from "./exact-math.ts";
import type { Field } from "./scalar-fields.ts";
import {
  bendingFields,
  cellField,
  emptyField,
  fieldOf,
  fractalNoise,
  mapped,
  ringNoise,
  roughLine,
  sampled,
  side,
  smoothStep,
  toUnit,
  warped,
} from "./scalar-fields.ts";
import { placed, rectangle } from "./outlines.ts";

/** Colours of noise as in photographs: three opponent channels that fall off alike, of their own deviations. */
export function opponentFill(random: RandomStream, light: Field, yellow: Field, red: Field): Fill {
  const mean = between(random, 0.2, 0.75);
  const [contrast, chroma] = [between(random, 0.08, 0.28), between(random, 0.02, 0.12)];
  const [my, mr] = [0.03 + 0.1 * bell(random), 0.02 + 0.04 * bell(random)];
  // Lighter places have less of their own colour and more of the light's.
  const strength = between(random, -0.5, 0.5);
  return (x, y) => {
    const i = y * side + x;
    const l = mean + contrast * light[i];
    return opponent(l, my + chroma * (yellow[i] + strength * light[i]), mr + 0.45 * chroma * red[i]);
  };
}

/** Noise with the spectrum of photographs. */
export function spectralGround(random: RandomStream): Fill {
  const exponent = between(random, 0.7, 2);
  const stretch = chance(random, 0.4) ? between(random, 1, 2.5) : 1;
  const shape = { exponent, stretch, turns: random.uniform() };
  const [light, yellow] = fractalNoise(random, shape);
  const [red, other] = fractalNoise(random, { ...shape, exponent: exponent + 0.2 });
  return opponentFill(random, light, chance(random, 0.5) ? yellow : other, red);
}

/** Noise whose edges are sharp: phases are aligned by cutting and folding. */
function foldedGround(random: RandomStream): Fill {
  const [a, b] = fractalNoise(random, { exponent: between(random, 1.2, 2), shift: between(random, 0, 3) });
  const [dx, dy] = bendingFields(random);
  const fold = pick<(v: number) => number>(random, [
    (v) => 1 - Math.abs(v),
    (v) => Math.abs(v),
    (v) => v - Math.floor(v),
    (v) => smoothStep(-0.1, 0.1, v) + 0.3 * v,
    (v) => Math.floor(2.5 * v) / 2.5,
  ]);
  const folded = mapped(warped(a, dx, dy, between(random, 0, 25)), (v, i) => fold(v) + 0.25 * b[i]);
  return rampFill(random, toUnit(folded), scheme(random, anyColor, random.integer(2, 6)));
}

/** Veins and rings: waves whose phase noise bends. */
function veinedGround(random: RandomStream): Fill {
  const [a, b] = fractalNoise(random, { exponent: between(random, 1.3, 2), stretch: scaled(random, 0.5, 2) });
  const [turns, frequency, bend] = [random.uniform(), scaled(random, 2, 24), between(random, 0.1, 1)];
  const [c, s] = [cosineOfTurns(turns) / side, sineOfTurns(turns) / side];
  const rings = chance(random, 0.4);
  const [cx, cy] = [between(random, -0.5, 1.5) * side, between(random, -0.5, 1.5) * side];
  const phase = (x: number, y: number) =>
    rings ? Math.sqrt((x - cx) * (x - cx) + (y - cy) * (y - cy)) / side : x * c + y * s;
  const waves = fieldOf((x, y) => {
    const i = y * side + x;
    return sineOfTurns(frequency * phase(x, y) + bend * a[i]) + 0.3 * b[i];
  });
  return rampFill(random, toUnit(waves), scheme(random, naturalColor, random.integer(2, 4)));
}

/** Spots, mazes and stripes as reaction and diffusion leave them. */
function reactionGround(random: RandomStream): Fill {
  const striped = chance(random, 0.4);
  const [a, b] = ringNoise(random, scaled(random, 5, 40), {
    width: between(random, 0.1, 0.4),
    turns: random.uniform(),
    spread: striped ? between(random, 0.03, 0.12) : 1,
  });
  const [dx, dy] = bendingFields(random);
  const cut = between(random, -0.8, 0.8);
  const soft = scaled(random, 0.05, 1.5);
  const bent = warped(a, dx, dy, striped ? between(random, 0, 12) : 0);
  const spots = mapped(bent, (v, i) => 0.9 * smoothStep(cut - soft, cut + soft, v) + 0.02 * b[i]);
  return rampFill(random, toUnit(spots), scheme(random, anyColor, random.integer(2, 4)));
}

/** Stones, tiles or cells. */
function cellGround(random: RandomStream): Fill {
  const cells = random.integer(3, 24);
  const { near, edge, which } = cellField(random, cells);
  const colors = Array.from(
    { length: cells * cells },
    (
      (draw) => () =>
        draw[random.integer(0, 5)]
    )(scheme(random, anyColor, 6)),
  );
  const [grain] = fractalNoise(random, { exponent: 1.2 });
  const gap = chance(random, 0.6) ? between(random, 0.02, 0.2) : 0;
  const [joint, round, rough] = [anyColor(random), between(random, 0, 0.9), between(random, 0, 0.15)];
  return (x, y) => {
    const i = y * side + x;
    const color = lit(colors[which[i]], Math.max(0, 1.1 - round * near[i] + rough * grain[i]));
    return gap > 0 ? mixed(joint, color, smoothStep(gap * 0.6, gap, edge[i])) : color;
  };
}

/** Distances to points, as skins, caustics and crystals have them. */
function distanceGround(random: RandomStream): Fill {
  const { near, edge } = cellField(random, random.integer(3, 20));
  const { near: finer } = cellField(random, random.integer(12, 40));
  const of = pick<(i: number) => number>(random, [
    (i) => near[i],
    (i) => 1 - edge[i],
    (i) => near[i] * edge[i],
    (i) => near[i] + 0.4 * finer[i],
  ]);
  const [dx, dy] = bendingFields(random);
  const field = warped(
    Float32Array.from(near, (_, i) => of(i)),
    dx,
    dy,
    between(random, 0, 15),
  );
  return rampFill(random, toUnit(field), scheme(random, anyColor, random.integer(2, 5)));
}

/** Where a flat pattern is seen: turned, scaled, in perspective or bent. */
function view(random: RandomStream): (x: number, y: number) => [number, number] {
  const [turns, zoom] = [chance(random, 0.4) ? 0 : random.uniform(), scaled(random, 0.02, 0.15)];
  const [c, s] = [cosineOfTurns(turns) * zoom, sineOfTurns(turns) * zoom];
  const tilt = chance(random, 0.4) ? between(random, 0, 0.8) : 0;
  const [dx, dy] = bendingFields(random);
  const bend = chance(random, 0.4) ? between(random, 0, 20) : 0;
  return (x, y) => {
    const i = y * side + x;
    const depth = 1 - tilt * (1 - y / side);
    const [px, py] = [(x - side / 2) / depth + bend * dx[i], y / depth + bend * dy[i]];
    return [px * c - py * s, px * s + py * c];
  };
}

/** Checks, bricks, stripes, plaids and dots. */
function tiledGround(random: RandomStream): Fill {
  const seen = view(random);
  const [a, b, c] = scheme(random, anyColor, 3);
  const [share, soft] = [between(random, 0.2, 0.8), between(random, 0.02, 0.08)];
  const wave = (v: number) => v - Math.floor(v);
  const step = (v: number) => smoothStep(0, soft, v) - smoothStep(share, share + soft, v);
  const pattern = pick<(u: number, v: number) => Color>(random, [
    (u, v) => ((Math.floor(u) + Math.floor(v)) % 2 === 0 ? a : b),
    (u) => mixed(a, b, step(wave(u))),
    (u, v) => mixed(mixed(a, b, 0.5 * step(wave(u))), c, 0.5 * step(wave(v))),
    (u, v) => {
      const shifted = u + 0.5 * (Math.floor(2 * v) % 2);
      return mixed(
        a,
        mixed(b, c, 0.3 * wave(sineOfTurns(Math.floor(shifted) * 0.37 + v) * 43)),
        step(wave(shifted)) * step(wave(2 * v)),
      );
    },
    (u, v) => {
      const [x, y] = [wave(u) - 0.5, wave(v) - 0.5];
      return mixed(b, a, smoothStep(share / 2 - soft, share / 2 + soft, Math.sqrt(x * x + y * y)));
    },
    (u, v) => mixed(a, b, 0.5 + 0.25 * (sineOfTurns(u) + sineOfTurns(v))),
  ]);
  const [grain] = fractalNoise(random, { exponent: 1 });
  const rough = chance(random, 0.5) ? between(random, 0, 0.2) : 0;
  return (x, y) => lit(pattern(...seen(x, y)), Math.max(0, 1 + rough * grain[y * side + x]));
}

/** A few soft colours. */
export function gradientGround(random: RandomStream): Fill {
  const colors = ramp(random, scheme(random, anyColor, random.integer(2, 4)));
  const [x, y] = [random.uniform() * side, random.uniform() * side];
  const length = between(random, 0.5, 1.5) * side;
  const turns = random.uniform();
  const round = chance(random, 0.4);
  const place = round
    ? radial([0, 0, 0], [1, 1, 1], x, y, length)
    : linear([0, 0, 0], [1, 1, 1], x / 2, y / 2, length, turns);
  return (px, py) => colors[Math.floor(255 * place(px, py)[0])];
}

/** The height of one layer of an image of a landscape. */
interface Ridge {
  readonly heights: Float64Array;
  readonly color: Color;
}

/** Sky, hills behind hills, and a ground with texture. */
function landscape(random: RandomStream): Canvas {
  const high = opponent(between(random, 0.3, 0.9), -0.25 * random.uniform(), between(random, -0.02, 0.1));
  const haze = opponent(between(random, 0.6, 1), between(random, -0.1, 0.2), between(random, -0.02, 0.08));
  const [clouds, grain] = fractalNoise(random, { exponent: between(random, 1.2, 1.8), stretch: between(random, 1, 2) });
  const cover = between(random, -1.5, 1.5);
  const horizon = between(random, 0.25, 0.75) * side;
  const count = random.integer(1, 5);
  const ridges = Array.from({ length: count }, (_, k): Ridge => {
    const near = (k + 1) / count;
    const line = roughLine(random, between(random, 1, 1.8));
    const base = horizon + (k * (side - horizon)) / count;
    const color = mixed(haze, naturalColor(random, between(random, 0.1, 0.6)), 0.25 + 0.75 * near);
    return { heights: line.map((v) => base - between(random, 4, 5) * (1 + 2 * random.uniform()) * v), color };
  });
  const amount = between(random, 0.05, 0.3);
  return canvasOf((x, y) => {
    const i = y * side + x;
    for (let k = count - 1; k >= 0; k--)
      if (y >= ridges[k].heights[x])
        return lit(ridges[k].color, Math.max(0, 1 + ((k + 1) / count) * amount * grain[i]));
    return mixed(mixed(high, haze, y / horizon), [1, 1, 1], 0.8 * smoothStep(cover, cover + 2, clouds[i]));
  });
}

/** Hair, grass or brush strokes along a field of directions. */
function strokesGround(random: RandomStream): Canvas {
  const [flow] = fractalNoise(random, { exponent: 2.2 });
  const [tone] = fractalNoise(random, { exponent: 1.5 });
  const [base, bend, length] = [random.uniform(), between(random, 0, 0.25), scaled(random, 8, 50)];
  const width = scaled(random, 1, 7);
  const colors = scheme(random, chance(random, 0.7) ? naturalColor : paintColor, 6);
  const canvas = canvasOf(flat(lit(colors[0], 0.5)));
  const count = Math.min(1800, Math.floor((2.2 * side * side) / (length * width)));
  for (let k = 0; k < count; k++) {
    let [x, y] = [random.integer(0, side - 1), random.integer(0, side - 1)];
    const i = y * side + x;
    const fill = flat(lit(colors[random.integer(0, 5)], Math.max(0.1, 1 + 0.25 * tone[i])));
    const path = [x, y];
    for (let n = 0; n < 3; n++) {
      const turns = base + bend * sampled(flow, x, y);
      x += (length / 3) * cosineOfTurns(turns);
      y += (length / 3) * sineOfTurns(turns);
      path.push(x, y);
    }
    stroke(canvas, path, fill, width, width / 3);
  }
  return canvas;
}

/** A map of a fractal: a matrix, how it moves, how it bends, and where its colour lies among all. */
function fractalMap(random: RandomStream) {
  const turns = [random.uniform(), random.uniform()];
  const sizes = [between(random, 0.35, 0.9), between(random, 0.35, 0.9)];
  const [c, s] = [cosineOfTurns, sineOfTurns];
  return {
    matrix: [sizes[0] * c(turns[0]), -sizes[1] * s(turns[1]), sizes[0] * s(turns[0]), sizes[1] * c(turns[1])],
    move: [between(random, -1, 1), between(random, -1, 1)],
    bend: random.integer(0, 2),
    color: random.uniform(),
  };
}

/** Points that the chaos game plays for each image. */
const flamePoints = 120_000;

/** A fractal of a few maps (Barnsley and others): where the chaos game goes, with colours of the maps that led there. */
function flameGround(random: RandomStream): Fill {
  const maps = Array.from({ length: random.integer(2, 5) }, () => fractalMap(random));
  const [hits, hue] = [emptyField(), emptyField()];
  let [x, y, color] = [0.1, 0.1, 0.5];
  const zoom = side * between(random, 0.15, 0.35);
  for (let n = 0; n < flamePoints; n++) {
    const { matrix, move, bend, color: mapColor } = maps[random.integer(0, maps.length - 1)];
    [x, y] = [matrix[0] * x + matrix[1] * y + move[0], matrix[2] * x + matrix[3] * y + move[1]];
    const r = x * x + y * y;
    // Spherical and bent variations keep points near.
    if (bend === 1) [x, y] = [(1.3 * x) / (0.3 + r), (1.3 * y) / (0.3 + r)];
    else if (bend === 2 || r > 16) [x, y] = [x / (1 + 0.2 * r), y / (1 + 0.2 * r)];
    color = (color + mapColor) / 2;
    const [px, py] = [Math.floor(side / 2 + zoom * x), Math.floor(side / 2 + zoom * y)];
    if (px < 0 || py < 0 || px >= side || py >= side) continue;
    hits[py * side + px]++;
    hue[py * side + px] += color;
  }
  const colors = ramp(random, scheme(random, anyColor, 4));
  const ground = pick(random, [anyColor(random), anyColor(random), grey(0), grey(1)]);
  return (px, py) => {
    const i = py * side + px;
    if (hits[i] === 0) return ground;
    return mixed(ground, colors[Math.min(255, Math.floor((255 * hue[i]) / hits[i]))], hits[i] / (hits[i] + 1.5));
  };
}

/** Sparse spots, edges and bars at all scales, as wavelets of photographs have them. */
function sparseGround(random: RandomStream): Fill {
  const field = emptyField();
  const count = random.integer(60, 400);
  for (let k = 0; k < count; k++) {
    const size = scaled(random, 2, 60);
    const [x, y, turns] = [random.uniform() * side, random.uniform() * side, random.uniform()];
    const [c, s, ratio] = [cosineOfTurns(turns) / size, sineOfTurns(turns) / size, scaled(random, 1, 4)];
    const [even, a] = [chance(random, 0.5), bell(random)];
    const reach = Math.ceil(size * 1.5);
    for (let py = Math.max(0, Math.floor(y - reach)); py < Math.min(side, y + reach); py++)
      for (let px = Math.max(0, Math.floor(x - reach)); px < Math.min(side, x + reach); px++) {
        const [u, v] = [(px - x) * c + (py - y) * s, ratio * ((py - y) * c - (px - x) * s)];
        const w = 1 - (u * u + v * v) / 2.25;
        if (w > 0) field[py * side + px] += a * w * w * (even ? 1 - 3 * u * u : 2 * u);
      }
  }
  const [noise, other] = fractalNoise(random, { exponent: 1.4 });
  const share = between(random, 0, 0.5);
  return opponentFill(
    random,
    mapped(field, (v, i) => v + share * noise[i]),
    noise,
    other,
  );
}

/** Houses or shelves: a grid of panes, some lit. */
function panesGround(random: RandomStream): Canvas {
  const canvas = canvasOf(gradientGround(random));
  for (let b = random.integer(1, 7); b > 0; b--) {
    const [wall, pane, other] = scheme(random, anyColor, 3);
    const [w, h] = [between(random, 0.15, 0.8) * side, between(random, 0.3, 1.1) * side];
    const [x, y] = [
      between(random, -0.2, 0.9) * side,
      chance(random, 0.7) ? side - h : between(random, -0.2, 0.6) * side,
    ];
    paint(
      canvas,
      [x, y, x + w, y, x + w, y + h, x, y + h],
      linear(wall, lit(wall, between(random, 0.6, 1.3)), x, y, h, 0.25),
    );
    const [nx, ny] = [random.integer(1, 9), random.integer(2, 12)];
    const fill = between(random, 0.4, 0.85);
    for (let i = 0; i < nx; i++)
      for (let j = 0; j < ny; j++) {
        const [cx, cy] = [x + ((i + 0.5) * w) / nx, y + ((j + 0.5) * h) / ny];
        const [pw, ph] = [(fill * w) / nx / 2, (fill * h) / ny / 2];
        paint(canvas, placed(rectangle(ph / pw), cx, cy, pw), flat(chance(random, 0.8) ? pane : other));
      }
  }
  return canvas;
}

/** A map or a relief: bands and lines of equal height. */
function contourGround(random: RandomStream): Fill {
  const [heights] = fractalNoise(random, { exponent: between(random, 1.6, 2.3) });
  const [levels, thin] = [between(random, 1, 5), between(random, 0.04, 0.2)];
  const colors = ramp(random, scheme(random, anyColor, 5));
  const unit = toUnit(heights);
  const [banded, line] = [chance(random, 0.6), anyColor(random)];
  const ground = anyColor(random);
  return (x, y) => {
    const i = y * side + x;
    const at = levels * heights[i];
    const part = at - Math.floor(at);
    const color = banded ? colors[Math.floor(255 * Math.min(1, (Math.floor(unit[i] * 8) + 0.5) / 8))] : ground;
    return part < thin ? line : color;
  };
}

/** Light and shade of a rough surface. */
function reliefGround(random: RandomStream): Fill {
  const [heights, spots] = fractalNoise(random, { exponent: between(random, 1.1, 2) });
  const [lx, ly] = [bell(random), bell(random)];
  const depth = scaled(random, 0.3, 4);
  const shade = fieldOf((x, y) => {
    const h = heights[y * side + x];
    const [dx, dy] = [heights[y * side + ((x + 1) & (side - 1))] - h, heights[((y + 1) & (side - 1)) * side + x] - h];
    const [nx, ny] = [-depth * dx * 4, -depth * dy * 4];
    return Math.max(0, 0.6 + (0.5 * (nx * lx + ny * ly)) / Math.sqrt(1 + nx * nx + ny * ny));
  });
  const colors = ramp(random, scheme(random, naturalColor, 3));
  const tint = toUnit(spots);
  const base = colored(tint, colors);
  return (x, y) => lit(base(x, y), shade[y * side + x] * 1.4);
}

export const textureKinds = {
  "spectral-noise": (random: RandomStream) => canvasOf(spectralGround(random)),
  "folded-noise": (random: RandomStream) => canvasOf(foldedGround(random)),
  veins: (random: RandomStream) => canvasOf(veinedGround(random)),
  reaction: (random: RandomStream) => canvasOf(reactionGround(random)),
  cells: (random: RandomStream) => canvasOf(cellGround(random)),
  distances: (random: RandomStream) => canvasOf(distanceGround(random)),
  tiles: (random: RandomStream) => canvasOf(tiledGround(random)),
  gradient: (random: RandomStream) => canvasOf(gradientGround(random)),
  landscape,
  strokes: strokesGround,
  flame: (random: RandomStream) => canvasOf(flameGround(random)),
  sparse: (random: RandomStream) => canvasOf(sparseGround(random)),
  panes: panesGround,
  contours: (random: RandomStream) => canvasOf(contourGround(random)),
  relief: (random: RandomStream) => canvasOf(reliefGround(random)),
} as const;

/** A ground for what stands in front of it. */
export function anyGround(random: RandomStream): Fill {
  return pick(random, [
    spectralGround,
    spectralGround,
    gradientGround,
    foldedGround,
    veinedGround,
    cellGround,
    tiledGround,
    reliefGround,
  ])(random);
}
