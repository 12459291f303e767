// Wanda (Sun et al., arXiv 2306.11695) for whole units: a weight counts |W| times the L2 norm of its input over the images' tokens,
// and a channel or a head the sum of its weights in the map that reads it (fc2, or the attention's output map). The paper scores
// single weights; the sum over a unit is ours. As in the paper, blocks are pruned in order, with the tokens that the pruned
// blocks before give, and no weight changes.
import { walkBlocks } from "../pruning/block-walk.ts";
import { keptByWanda } from "../pruning/wanda-scores.ts";
import { withChannels, withHeads } from "../closed-form/narrowing.ts";
import { copyBlocks } from "../kept-blocks.ts";
import { defineMethod } from "./method.ts";
import { withoutSteps } from "./pruning-options.ts";

export const method = defineMethod({
  name: "wanda",
  summary: "heads and channels by weights times input norms, as they are",
  options: {},
  ...withoutSteps,
  prune({ teacher, kept, widths, images, progress }) {
    const walk = { student: copyBlocks(teacher, kept), device: teacher.device, widths, images: images(), progress };
    return walkBlocks(walk, {
      tokens: "narrowed",
      squares: true,
      attention: async (place, count) => withHeads(place.student, place.block, keptByWanda(place, "heads", count)),
      mlp: async (place, count) => withChannels(place.student, place.block, keptByWanda(place, "channels", count)),
    });
  },
});
