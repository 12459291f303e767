// Scans in slices: which files belong to one case, slices along an axis as images with their masks, and which of them
// are held out.
import { UserError } from "../utils/errors.ts";
import type { RgbImage } from "../utils/image.ts";
import { drawStream } from "../utils/random.ts";
import type { Volume } from "./nifti.ts";

/** The files of one case: scans of one or several kinds, and a mask where there is one. Names count from the folder. */
export interface ScanFiles {
  readonly name: string;
  readonly scans: readonly string[];
  readonly mask?: string;
}

export const axes = ["axial", "coronal", "sagittal"] as const;
export type Axis = (typeof axes)[number];

/** Last words of a mask's file name. */
const maskNames = new Set(["seg", "mask", "masks", "label", "labels", "gt", "tissue", "segmentation"]);
/** Last words that name a kind of scan; others may be a case's number. */
const kindNames = /^(t1|t2|pd|flair|t1ce|t1c|t1n|t1gd|t1w|t2w|t2f|adc|dwi|swi|ct|pet|mr|mri|image|img|scan|\d{4})$/;
const ending = /\.nii(\.gz)?$/i;
export const isVolumeName = (name: string): boolean => ending.test(name);

interface Named {
  readonly path: string;
  readonly folder: string;
  readonly stem: string;
}

/**
 * Groups volumes into cases. Known are a folder or a name's beginning a case with words for the kinds behind it
 * (`BraTS20_001_t1ce.nii.gz`, `..._seg.nii.gz`), and `imagesTr/` with `labelsTr/` beside it (medical decathlon; nnU-Net
 * with `_0000` for the kinds). `kinds` picks scans by their last word, in that order. Throws a UserError where a mask has
 * no scan, or a case lacks a kind.
 */
export function groupScans(paths: readonly string[], kinds?: readonly string[], maskName?: string): ScanFiles[] {
  const isMask = (word: string) => (maskName === undefined ? maskNames.has(word) : word === maskName.toLowerCase());
  const named = paths.filter(isVolumeName).map((path): Named => {
    const at = path.lastIndexOf("/");
    return { path, folder: path.slice(0, Math.max(0, at)), stem: path.slice(at + 1).replace(ending, "") };
  });
  const cases = new Map<string, { scans: Map<string, string>; mask?: string }>();
  const of = (name: string) => {
    const entry = cases.get(name) ?? { scans: new Map<string, string>() };
    cases.set(name, entry);
    return entry;
  };
  for (const { path, folder, stem } of named) {
    const [, above, tree, part] = /^(.*?)(images|labels)(\w*)$/.exec(folder) ?? [];
    if (tree !== undefined && (above === "" || above.endsWith("/"))) {
      const [, plain, channel = "0000"] = /^(.*?)(?:_(\d{4}))?$/.exec(stem) as RegExpExecArray;
      const entry = of(`${above}${part}/${plain}`);
      if (tree === "labels") entry.mask = path;
      else entry.scans.set(channel, path);
      continue;
    }
    const [, begin, word] = /^(.*?)[_-]?([A-Za-z0-9]+)$/.exec(stem) ?? ["", stem, ""];
    const entry = of([folder, begin].filter(Boolean).join("/"));
    if (isMask(word.toLowerCase())) entry.mask = path;
    else entry.scans.set(word.toLowerCase(), path);
  }
  return whole(cases, kinds).map(([key, entry]) => scanFiles(key, entry, kinds));
}

/** A case's files, its scans in the order of the kinds. */
function scanFiles(
  key: string,
  { scans, mask }: { readonly scans: ReadonlyMap<string, string>; readonly mask?: string },
  kinds: readonly string[] | undefined,
): ScanFiles {
  const name = key.split("/").filter(Boolean).at(-1) ?? "scan";
  if (scans.size === 0) throw new UserError(`There is no scan for the mask ${mask}`, { code: "INVALID_DATA" });
  const wanted = kinds ?? [...scans.keys()].sort();
  const paths = wanted.map((kind) => {
    const path = scans.get(kind.toLowerCase());
    if (path === undefined)
      throw new UserError(`The case ${name} has no scan ${kind}; it has ${[...scans.keys()].join(", ")}`, {
        code: "INVALID_DATA",
      });
    return path;
  });
  return { name, scans: paths, mask };
}

type Cases = ReadonlyMap<string, { readonly scans: ReadonlyMap<string, string>; readonly mask?: string }>;

/** Puts `x.nii` to its `x_seg.nii`, and takes files apart that share nothing but their folder. */
function whole(
  cases: Cases,
  kinds: readonly string[] | undefined,
): [string, { scans: ReadonlyMap<string, string>; mask?: string }][] {
  const taken = new Set<string>();
  const stemOf = (path: string) => path.replace(ending, "");
  const matched = [...cases].map(
    ([key, { scans, mask }]): [string, { scans: ReadonlyMap<string, string>; mask?: string }] => {
      if (scans.size > 0 || mask === undefined) return [key, { scans, mask }];
      const scan = [...cases.values()].flatMap((other) => [...other.scans]).find(([, path]) => stemOf(path) === key);
      if (scan) taken.add(scan[1]);
      return [key, { scans: new Map(scan ? [scan] : []), mask }];
    },
  );
  return matched.flatMap(([key, { scans, mask }]): typeof matched => {
    const unmatched = new Map(
      [...scans].filter(([, path]) => !taken.has(path) || (mask !== undefined && stemOf(path) === key)),
    );
    if (unmatched.size === 0 && mask === undefined) return [];
    const apart =
      mask === undefined &&
      kinds === undefined &&
      unmatched.size > 1 &&
      ![...unmatched.keys()].every((k) => kindNames.test(k));
    return apart
      ? [...unmatched].map(([word, path]) => [stemOf(path), { scans: new Map([[word, path]]) }])
      : [[key, { scans: unmatched, mask }]];
  });
}

/** A case in slices: 8-bit images, and the mask's numbers where it has a mask. */
export interface SliceStack {
  readonly name: string;
  readonly count: number;
  readonly width: number;
  readonly height: number;
  /** Millimetres from slice to slice, row to row, column to column. */
  readonly spacing: readonly [number, number, number];
  readonly bytes: number;
  image(slice: number): RgbImage;
  /** Row by row; undefined where the case has no mask. */
  mask(slice: number): Uint8Array | undefined;
  /** Whether a scan shows anything there. */
  blank(slice: number): boolean;
  /** The mask's numbers, with the pixels that have each, in the slice. */
  labels(slice: number): ReadonlyMap<number, number>;
}

/** Brightness is scaled between these shares of a scan's voxels that are not empty, as scanners have no fixed unit. */
const brightness = [0.005, 0.995] as const;
/** A slice is blank where fewer than this share of its pixels are brighter than nothing. */
const blankShare = 0.005;

/** Where `share` of a scan's voxels above its darkest lie below. */
function rangeOf(volume: Volume, channel: number): readonly [number, number] {
  const [nx, ny, nz] = volume.dims;
  const values: number[] = [];
  // A sample is enough: a scan has millions of voxels.
  const step = Math.max(1, Math.round(Math.cbrt((nx * ny * nz) / 250_000)));
  let least = Number.POSITIVE_INFINITY;
  for (let z = 0; z < nz; z += step)
    for (let y = 0; y < ny; y += step)
      for (let x = 0; x < nx; x += step) {
        const value = volume.at(x, y, z, channel);
        values.push(value);
        least = Math.min(least, value);
      }
  const shown = values.filter((v) => v > least).sort((a, b) => a - b);
  if (shown.length === 0) return [least, least + 1];
  const place = (share: number) => shown[Math.min(shown.length - 1, Math.floor(share * shown.length))];
  const [low, high] = brightness.map(place);
  return [Math.min(low, least + (high - least) * 0.01), high > low ? high : low + 1];
}

/** Voxel coordinates of a pixel, seen as radiologists do: front or top up, the patient's right on the left. */
function placer(axis: Axis, [nx, ny, nz]: readonly [number, number, number]) {
  switch (axis) {
    case "axial":
      return {
        sizes: [nz, ny, nx],
        order: [2, 1, 0],
        at: (s: number, r: number, c: number) => [nx - 1 - c, ny - 1 - r, s],
      };
    case "coronal":
      return {
        sizes: [ny, nz, nx],
        order: [1, 2, 0],
        at: (s: number, r: number, c: number) => [nx - 1 - c, s, nz - 1 - r],
      };
    case "sagittal":
      return {
        sizes: [nx, nz, ny],
        order: [0, 2, 1],
        at: (s: number, r: number, c: number) => [s, ny - 1 - c, nz - 1 - r],
      };
  }
}

/**
 * Cuts a case into slices, each cropped to where any slice of the case shows something. One scan becomes grey, several
 * the channels of an image (three at most). Throws a UserError where scans or mask differ in size.
 */
export function sliceStack(name: string, scans: readonly Volume[], mask: Volume | undefined, axis: Axis): SliceStack {
  const [first] = scans;
  checkAlike(first, [...scans.slice(1), ...(mask ? [mask] : [])]);
  if (mask && mask.channels !== 1)
    throw new UserError(`${mask.name} has ${mask.channels} volumes; a mask has one`, { code: "INVALID_DATA" });
  const sources = scans.flatMap((scan) => Array.from({ length: scan.channels }, (_, channel) => ({ scan, channel })));
  const shown = sources.slice(0, 3).map(({ scan, channel }) => ({ scan, channel, range: rangeOf(scan, channel) }));
  const placed = placer(axis, first.dims);
  const { whole, box, bright } = planesOf(shown, placed);
  if (box.bottom < 0) throw new UserError(`${first.name} is empty: all its voxels are alike`, { code: "INVALID_DATA" });
  const planes = whole.map((plane) => cropped(plane, placed.sizes, box));
  const masks = mask && cropped(maskNumbers(mask, placed.sizes, placed.at), placed.sizes, box);
  const [count, rows, columns] = placed.sizes;
  const [height, width] = [box.bottom - box.top + 1, box.right - box.left + 1];
  const size = height * width;
  const [i, j, k] = placed.order;
  const spacing = [first.spacing[i], first.spacing[j], first.spacing[k]] as const;
  return {
    name,
    count,
    width,
    height,
    spacing,
    bytes: (planes.length + (masks ? 1 : 0)) * count * size,
    image(slice) {
      const data = new Uint8Array(3 * size);
      for (let c = 0; c < 3; c++) {
        const source = planes[Math.min(c, planes.length - 1)];
        for (let i = 0; i < size; i++) data[3 * i + c] = source[slice * size + i];
      }
      return { width, height, data };
    },
    mask: (slice) => masks?.subarray(slice * size, (slice + 1) * size),
    blank: (slice) => bright[slice] < blankShare * rows * columns,
    labels: (slice) => countsOf(masks?.subarray(slice * size, (slice + 1) * size) ?? []),
  };
}

/** Throws a UserError where volumes differ in size. */
function checkAlike(first: Volume, others: readonly Volume[]): void {
  const differs = others.find(({ dims }) => dims.join() !== first.dims.join());
  if (differs)
    throw new UserError(
      `${differs.name} is ${differs.dims.join(" x ")}, but ${first.name} is ${first.dims.join(" x ")}`,
      { code: "INVALID_DATA" },
    );
}

/** How often each number occurs. */
function countsOf(labels: ArrayLike<number>): Map<number, number> {
  const counts = new Map<number, number>();
  for (const label of Array.from(labels)) counts.set(label, (counts.get(label) ?? 0) + 1);
  return counts;
}

interface Channel {
  readonly scan: Volume;
  readonly channel: number;
  readonly range: readonly number[];
}

interface Box {
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

/** 8-bit slices `[count, rows, columns]` of each channel, where they show something, and how many pixels of each slice do. */
function planesOf(shown: readonly Channel[], { sizes: [count, rows, columns], at }: ReturnType<typeof placer>) {
  const whole = shown.map(() => new Uint8Array(count * rows * columns));
  const box = { top: rows, left: columns, bottom: -1, right: -1 };
  const bright = new Int32Array(count);
  for (let s = 0; s < count; s++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const [x, y, z] = at(s, r, c);
        let seen = false;
        shown.forEach(({ scan, channel, range: [low, high] }, i) => {
          const level = Math.round((255 * (scan.at(x, y, z, channel) - low)) / (high - low));
          const value = Math.max(0, Math.min(255, level));
          whole[i][(s * rows + r) * columns + c] = value;
          seen ||= value > 0;
        });
        if (!seen) continue;
        bright[s]++;
        box.top = Math.min(box.top, r);
        box.bottom = Math.max(box.bottom, r);
        box.left = Math.min(box.left, c);
        box.right = Math.max(box.right, c);
      }
  return { whole, box, bright };
}

/** The part of each slice of `[count, rows, columns]` that lies in a box. */
function cropped(source: Uint8Array, [count, rows, columns]: readonly number[], box: Box): Uint8Array {
  const [height, width] = [box.bottom - box.top + 1, box.right - box.left + 1];
  const out = new Uint8Array(count * height * width);
  for (let s = 0; s < count; s++)
    for (let r = 0; r < height; r++) {
      const from = (s * rows + box.top + r) * columns + box.left;
      out.set(source.subarray(from, from + width), (s * height + r) * width);
    }
  return out;
}

function maskNumbers(
  mask: Volume,
  [count, rows, columns]: readonly number[],
  at: (s: number, r: number, c: number) => number[],
): Uint8Array {
  const out = new Uint8Array(count * rows * columns);
  let i = 0;
  for (let s = 0; s < count; s++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const [x, y, z] = at(s, r, c);
        const value = mask.at(x, y, z);
        if (!(Number.isInteger(value) && value >= 0 && value <= 255))
          throw new UserError(`${mask.name} holds ${value} at ${x}, ${y}, ${z}; a mask holds whole numbers up to 255`, {
            code: "INVALID_DATA",
          });
        out[i++] = value;
      }
  return out;
}

/** The slices of a case that show something, in order. */
export function shownSlices({ count, blank }: Pick<SliceStack, "count" | "blank">): number[] {
  return Array.from({ length: count }, (_, s) => s).filter((s) => !blank(s));
}

/** How slices are held out: whole cases, or blocks of neighbouring slices of each case. */
export type SliceSplit =
  | { readonly kind: "cases"; readonly share: number; readonly seed: number }
  /** One block in the lower and one in the upper half, or the two ends; `gap` slices beside each are in neither part. */
  | { readonly kind: "blocks" | "ends"; readonly share: number; readonly gap: number };

/** How scans are cut and split where nothing else is said. */
export const sliceDefaults = { axis: "axial", share: 0.3, gap: 4 } as const;

/** The part of each of `count` slices in order: to train on, to test on, or in between. */
export function blockParts(count: number, { kind, share, gap }: Extract<SliceSplit, { gap: number }>) {
  const size = Math.max(1, Math.round((count * share) / 2));
  const starts =
    kind === "ends" ? [0, count - size] : [0.25, 0.75].map((place) => Math.round(place * count - size / 2));
  const inside = (i: number, more: number) => starts.some((from) => i >= from - more && i < from + size + more);
  return Array.from({ length: count }, (_, i) => (inside(i, 0) ? "test" : inside(i, gap) ? "none" : "train"));
}

/** Which of `count` cases are held out; one at least stays. */
export function heldOutCases(count: number, { share, seed }: Extract<SliceSplit, { kind: "cases" }>): Set<number> {
  const wanted = Math.min(count - 1, Math.max(1, Math.round(count * share)));
  const all = Array.from({ length: count }, (_, i) => i);
  return new Set(drawStream(seed, "cases").shuffle(all).slice(0, wanted));
}
