// How many images a training step can hold at once in the memory at hand.
import type { VitConfig } from "../../models/config.ts";
import { tokenCount } from "../../models/config.ts";

/** Of the memory at hand, so much may be filled: other programs want some too. */
const usable = 0.7;
/** Blocks whose activations are there beside the saved ones: the teacher's while it runs, and gradients on their way back. */
const passing = 2;

export interface StepMemory {
  /** The student's blocks, counted in whole ones. */
  readonly blocks: number;
  /** All numbers that the teacher and the student hold. */
  readonly parameters: number;
  /** Whether blocks' activations are computed anew for their gradients. */
  readonly checkpointing: boolean;
  /** What activations are saved in. */
  readonly activations: "float32" | "float16";
}

/**
 * Bytes that a training step takes for each image, about: of each block's tokens, eleven vectors of the width, two of the
 * MLP's, and each head's attention; of a block that is computed anew, its input alone; of one that is saved in half precision, all but
 * its input in half as many bytes (dev/performance.md has measured ones).
 */
export function bytesOfImage(config: VitConfig, { blocks, checkpointing, activations }: StepMemory): number {
  const tokens = tokenCount(config);
  const block = 11 * config.width + 2 * config.mlpWidth + config.heads * tokens;
  const inner = checkpointing ? 0 : (block - config.width) / (activations === "float16" ? 2 : 1);
  return 4 * tokens * (blocks * (config.width + inner) + passing * block);
}

/** How many images of a step may be left out for larger parts of it at once. */
const leftOut = 0.1;

/**
 * How many of `most` images at once fit `available` bytes; 1 at least. Parts of a step are of one size, so that it is one
 * that leaves out few of its `effective` images.
 */
export function imagesThatFit(
  { most, effective }: { readonly most: number; readonly effective: number },
  available: number,
  config: VitConfig,
  step: StepMemory,
): number {
  // Sessions hold weights too: in copies of their own, or as pages of a file.
  const free = usable * available - 4 * step.parameters;
  const fitting = Math.floor(free / bytesOfImage(config, step));
  for (let part = Math.min(most, fitting); part > 1; part--) if (effective % part <= leftOut * effective) return part;
  return 1;
}
