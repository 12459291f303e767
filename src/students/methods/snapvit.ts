// SnapViT (Simoncini et al., NeurIPS 2025, arXiv 2510.17700), from its paper alone.
// The paper's: the sensitivity of parameters from squared gradients of DINO's loss between crops of unlabelled images, which stand
// for the Hessian's diagonal; correlations between structures, its off-diagonal part, chosen by an evolution strategy that
// looks at what the pruned model's features become; both in one score that ranks heads and channels once; an optional
// correction of the weights as in SparseGPT.
// Ours, where the paper leaves it open or shapes differ: one crop an image; gradients at a factor on each unit; correlations are
// those of the gradients themselves over the images, and the strategy (SNES, a simpler form of the paper's xNES) chooses for each
// block's heads and channels how much they count; a candidate is worth the mean cosine of its pooled features to the teacher's; the
// correction is the optimum for all removed inputs at once, with SparseGPT's damping of 1e-2. The paper's ranking
// takes more from one block than from another. Here all blocks keep as much, so that sizes are those of the other methods.
import { z } from "zod";
import { countOption } from "../../context/common-options.ts";
import { walkBlocks } from "../pruning/block-walk.ts";
import { correctedMap } from "../pruning/moments.ts";
import { narrowBehind } from "../pruning/narrow-behind.ts";
import type { BlockChoice } from "../pruning/snapvit-search.ts";
import { chooseUnits } from "../pruning/snapvit-search.ts";
import { withChannels, withHeads, narrowedConfig } from "../closed-form/narrowing.ts";
import { copyBlocks } from "../kept-blocks.ts";
import { required } from "../../utils/required.ts";
import { defineMethod } from "./method.ts";
import { gradientOptions, withoutSteps } from "./pruning-options.ts";

/** SparseGPT's damping, as a share of the mean of the diagonal (arXiv 2301.00774, section 4). */
const damping = 1e-2;

export const method = defineMethod({
  name: "snapvit",
  summary: "heads and channels by gradients and their correlations, weighed by an evolution strategy",
  options: {
    ...gradientOptions,
    correction: z
      .boolean()
      .default(false)
      .describe("also correct the weights behind removed units (snapvit)")
      .meta({ note: "As SparseGPT does." }),
    generations: countOption.max(10_000).default(20).describe("generations of snapvit's evolution strategy"),
  },
  ...withoutSteps,
  async prune({ teacher, kept, widths, images, options, progress }) {
    const student = copyBlocks(teacher, kept);
    const { device } = teacher;
    const choice = await chooseUnits({ student, device, widths, images, options });
    const unitsOf = (kind: BlockChoice, block: number) => required(choice, `${kind}.${block}`);
    if (options.correction)
      return walkBlocks(
        { student, device, widths, images: images(), progress },
        {
          tokens: "narrowed",
          attention: (place) => narrowBehind(place, "heads", unitsOf("heads", place.block), corrected),
          mlp: (place) => narrowBehind(place, "channels", unitsOf("channels", place.block), corrected),
        },
      );
    let narrowed = student;
    for (let block = 0; block < student.config.depth; block++) {
      if (widths.keptHeads !== undefined) narrowed = withHeads(narrowed, block, unitsOf("heads", block));
      if (widths.mlpWidth !== undefined) narrowed = withChannels(narrowed, block, unitsOf("channels", block));
      progress(block + 1, student.config.depth);
    }
    return { ...narrowed, config: narrowedConfig(student.config, widths) };
  },
});

const corrected: Parameters<typeof narrowBehind>[3] = ({ solver, moments }, map, inputs) =>
  correctedMap(solver, moments, map, inputs, damping);
