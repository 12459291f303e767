// What a checkpoint of a training holds.
import type { FloatTensor } from "../utils/tensor.ts";

/** All that a distillation needs to resume: tensors by name, and the steps that were taken. */
export interface DistillationState {
  readonly steps: number;
  readonly tensors: ReadonlyMap<string, FloatTensor>;
}
