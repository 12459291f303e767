// Pruning by first-order Taylor scores (Molchanov et al., arXiv 1906.10771): a head or a channel counts the mean over images of
// (the sum over its weights of gradient times weight)^2, from one pass over the images. The paper takes gradients of the
// training loss with labels. Here no image has one, so the loss is between an image and a crop of it (`--gradient-loss`);
// that is ours.
import { gateGradients, meanSquares } from "../pruning/gate-scores.ts";
import { withLargest } from "../pruning/units.ts";
import { copyBlocks } from "../kept-blocks.ts";
import { defineMethod } from "./method.ts";
import { gradientOptions, withoutSteps } from "./pruning-options.ts";

export const method = defineMethod({
  name: "taylor",
  summary: "heads and channels by first-order Taylor scores, as they are",
  options: gradientOptions,
  ...withoutSteps,
  async prune({ teacher, kept, widths, images, options, progress }) {
    const student = copyBlocks(teacher, kept);
    const { seed, gradientLoss: loss } = options;
    const scoring = { student, device: teacher.device, images: images(), loss, seed };
    const gradients = await gateGradients(scoring);
    progress(student.config.depth, student.config.depth);
    return withLargest(student, widths, (block) => {
      const { heads, channels } = gradients[block];
      return { heads: meanSquares(heads), channels: meanSquares(channels) };
    });
  },
});
