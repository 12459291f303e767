// The cases of a folder of scans: opened when they are needed, the last ones kept, their slices found and split.
import type { Directory } from "../files/storage.ts";
import { readFile } from "../files/storage.ts";
import type { Axis, ScanFiles, SliceSplit, SliceStack } from "../data/scans.ts";
import { blockParts, groupScans, heldOutCases, shownSlices, sliceStack } from "../data/scans.ts";
import { longestScan, readNifti } from "../data/nifti.ts";
import { UserError } from "../utils/errors.ts";
import { drawStream } from "../utils/random.ts";
import { required } from "../utils/required.ts";

/** Slices of cases are kept up to this many bytes. */
const keptBytes = 2 ** 30;

/** A slice of one of the cases. */
export interface SliceId {
  readonly case: number;
  readonly slice: number;
}

/** What one look at all cases has shown. */
export interface CaseIndex {
  readonly train: readonly SliceId[];
  readonly test: readonly SliceId[];
  /** The numbers that masks hold, from the smallest; class k of a mask is the k-th of them. */
  readonly labels: readonly number[];
}

export class ScanCases {
  readonly files: readonly ScanFiles[];
  private readonly directory: Directory;
  private readonly axis: Axis;
  private readonly open = new Map<number, SliceStack>();
  private bytes = 0;

  constructor(
    directory: Directory,
    paths: readonly string[],
    options: { readonly axis: Axis; readonly kinds?: readonly string[]; readonly maskName?: string },
  ) {
    this.directory = directory;
    this.axis = options.axis;
    this.files = groupScans(paths, options.kinds, options.maskName);
    if (this.files.length === 0)
      throw new UserError(`There are no volumes in ${directory.describe("")}. Supported are .nii and .nii.gz.`, {
        code: "NO_IMAGES",
      });
  }

  private async volume(path: string) {
    const bytes = await readFile(this.directory, path, longestScan);
    if (!bytes) throw new UserError(`There is no ${this.directory.describe(path)}`, { code: "FILE_NOT_FOUND" });
    return readNifti(bytes, this.directory.describe(path));
  }

  /** The slices of a case. */
  async stack(index: number): Promise<SliceStack> {
    const open = this.open.get(index);
    if (open) {
      this.open.delete(index);
      this.open.set(index, open);
      return open;
    }
    const { name, scans, mask } = this.files[index];
    const volumes = [];
    for (const path of scans) volumes.push(await this.volume(path));
    const made = sliceStack(name, volumes, mask === undefined ? undefined : await this.volume(mask), this.axis);
    this.open.set(index, made);
    this.bytes += made.bytes;
    for (const [oldest, { bytes }] of this.open) {
      if (this.bytes <= keptBytes || oldest === index) break;
      this.open.delete(oldest);
      this.bytes -= bytes;
    }
    return made;
  }

  /** Finds the slices that show something, and splits them. Needs each case once. */
  async index(split: SliceSplit, progress: (done: number) => void = () => undefined): Promise<CaseIndex> {
    const parts = { train: [] as SliceId[], test: [] as SliceId[], none: [] as SliceId[] };
    const labels = new Set<number>([0]);
    const tested = split.kind === "cases" ? heldOutCases(this.files.length, split) : new Set<number>();
    for (const i of this.files.keys()) {
      const stack = await this.stack(i);
      const shown = shownSlices(stack);
      const part = split.kind === "cases" ? undefined : blockParts(shown.length, split);
      shown.forEach((slice, at) => {
        for (const label of stack.labels(slice).keys()) labels.add(label);
        parts[part?.[at] ?? (tested.has(i) ? "test" : "train")].push({ case: i, slice });
      });
      progress(i + 1);
    }
    return { train: parts.train, test: parts.test, labels: [...labels].sort((a, b) => a - b) };
  }

  /**
   * An epoch's slices in random order: cases are shuffled and taken in groups that fit into memory, slices are shuffled
   * within a group, so that no case is opened twice.
   */
  async epochOrder(slices: readonly SliceId[], seed: number, epoch: number): Promise<SliceId[]> {
    const byCase = new Map<number, SliceId[]>();
    for (const id of slices) {
      const ofCase = byCase.get(id.case);
      if (ofCase) ofCase.push(id);
      else byCase.set(id.case, [id]);
    }
    const random = drawStream(seed, "slices", epoch);
    const { bytes } = await this.stack(slices[0].case);
    const together = Math.max(1, Math.floor(keptBytes / bytes / 2));
    const cases = random.shuffle([...byCase.keys()]);
    const order: SliceId[] = [];
    for (let at = 0; at < cases.length; at += together)
      order.push(...random.shuffle(cases.slice(at, at + together).flatMap((i) => required(byCase, i))));
    return order;
  }
}
