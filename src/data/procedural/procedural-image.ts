// Images from nothing but random numbers, in place of real ones where there are none: kinds of statistics, shapes and scenes that
// photographs and drawings have (dead leaves, noise with natural spectra, textures, things on grounds). Ideas: 'Learning to see by
// looking at noise' (arXiv 2106.05963), Shaders-21k (arXiv 2211.16412), fractal data bases (arXiv 2101.08515).
import type { RgbImage } from "../../utils/image.ts";
import type { RandomStream } from "../../utils/random.ts";
import { randomStream } from "../../utils/random.ts";
import type { Canvas } from "./canvas.ts";
import { imageOf } from "./canvas.ts";
import { sceneKinds } from "./scenes.ts";
import { textureKinds } from "./textures.ts";

/** Changes whenever any image does: another version gives other images under other names. */
export const proceduralVersion = 1;

type Kind = keyof typeof textureKinds | keyof typeof sceneKinds;

const painters: Readonly<Record<Kind, (random: RandomStream) => Canvas>> = { ...textureKinds, ...sceneKinds };

/** How often each kind comes; dev/procedural.md says how that was chosen. */
const shares = Object.fromEntries(Object.keys(painters).map((name) => [name, 1])) as Readonly<Record<Kind, number>>;

export const proceduralKinds = Object.keys(shares) as readonly Kind[];

const golden = 0.6180339887498949;

/** The kind of an image: in a long row of images each kind has its share, in a short one nearly. */
export function kindOf(seed: number, index: number): Kind {
  const all = proceduralKinds.reduce((sum, kind) => sum + shares[kind], 0);
  const start = randomStream(seed, "procedural", "kinds").uniform();
  const turn = start + index * golden;
  let at = (turn - Math.floor(turn)) * all;
  for (const kind of proceduralKinds) {
    at -= shares[kind];
    if (at < 0) return kind;
  }
  return proceduralKinds[proceduralKinds.length - 1];
}

/** One image of a kind. The same bits on each platform. */
export function paintedKind(kind: Kind, seed: number, index: number): RgbImage {
  return imageOf(painters[kind](randomStream(seed, "procedural", proceduralVersion, index, kind)));
}

/** The image with a number among those of a seed, 256 pixels square. */
export const proceduralImage = (seed: number, index: number): RgbImage => paintedKind(kindOf(seed, index), seed, index);
