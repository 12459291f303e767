// NIfTI scans as images: slices that show something, split as `wecolora segment` splits them.
import type { ListedSet, ImageFolder } from "../dataset.ts";
import type { Item } from "../sampling.ts";
import {
  blockParts,
  groupScans,
  heldOutCases,
  isVolumeName,
  shownSlices,
  sliceDefaults,
  sliceStack,
} from "../scans.ts";
import { unusedFile } from "../unused.ts";
import { withOthers } from "./contents.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import type { DataTree } from "./tree.ts";
import { bytesOf, pathOf } from "./tree.ts";

/** Scans as images: slices that show something, split as `wecolora segment` splits them. */
async function openScans(tree: DataTree, volumes: readonly string[], seed: number): Promise<ListedSet> {
  const { longestScan, readNifti } = await import("../nifti.ts");
  const { axis, share, gap } = sliceDefaults;
  const cases = groupScans(volumes);
  const heldOut = cases.length > 1 ? heldOutCases(cases.length, { kind: "cases", share, seed }) : undefined;
  const items = { train: [] as Item[], test: [] as Item[] };
  for (const [i, { scans }] of cases.entries()) {
    // The first scan shows which slices are blank; the others are read when their slices are.
    const first = readNifti(await bytesOf(tree, scans[0], longestScan), pathOf(tree, scans[0]));
    const stack = sliceStack(scans[0], [first], undefined, axis);
    const shown = shownSlices(stack);
    const blocks = heldOut ? undefined : blockParts(shown.length, { kind: "blocks", share, gap });
    shown.forEach((slice, at) => {
      const part = blocks?.[at] ?? (heldOut?.has(i) ? "test" : "train");
      const place = { kind: "slice" as const, scans, axis, slice };
      if (part !== "none") items[part].push({ name: `${scans[0]}#${axis}-${slice}`, place });
    });
  }
  const folder = (items: readonly Item[]): ImageFolder => ({ path: tree.path, items: items, skipped: [] });
  const masks = cases.flatMap(({ mask }) => (mask === undefined ? [] : [mask]));
  const used = [...cases.flatMap(({ scans }) => scans), ...masks];
  const train = { ...folder(items.train), skipped: masks.map((mask) => unusedFile(mask, "a mask of a scan")) };
  return withOthers(tree, used, { path: tree.path, train, test: folder(items.test) });
}

export const format = defineFormat({
  name: "scan-slices",
  summary: "NIfTI scans, each slice an image",
  extensions: [".nii", ".nii.gz"],
  order: askedAs.container + 20,
  options: {},
  async recognise(_, { hasImages, below }) {
    const volumes = hasImages ? [] : await below(isVolumeName);
    return volumes.length > 0 ? volumes : undefined;
  },
  open: (tree, volumes, { seed }) => openScans(tree, volumes, seed),
});
