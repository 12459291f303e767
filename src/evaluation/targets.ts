// What images are to be taken for: one class each, or any number of labels.
import type { FloatTensor } from "../utils/tensor.ts";
import { zeros } from "../utils/tensor.ts";

export type Targets =
  | { readonly kind: "class"; readonly count: number; readonly labels: readonly number[] }
  | { readonly kind: "labels"; readonly count: number; readonly labels: readonly (readonly number[])[] };

/** The targets of some of the images. */
export function takeTargets(targets: Targets, rows: readonly number[]): Targets {
  return { ...targets, labels: rows.map((row) => targets.labels[row]) } as Targets;
}

/** `[n, K]`: one for each label that applies, else zero. */
export function targetRows({ labels, count }: Targets): FloatTensor {
  const out = zeros([labels.length, count]);
  labels.forEach((rowLabels, i) => {
    for (const label of typeof rowLabels === "number" ? [rowLabels] : rowLabels) out.data[i * count + label] = 1;
  });
  return out;
}
