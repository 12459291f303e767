// Structured pruning by magnitude: heads and MLP channels with the largest L2 norm of their weights stay (Li et al., arXiv 1608.08710,
// for filters; groups of maps that go together as in DepGraph, arXiv 2301.12900). Nothing makes up for the others. No image is read.
import { withLargest, magnitudeScores } from "../pruning/units.ts";
import { copyBlocks } from "../kept-blocks.ts";
import { defineMethod } from "./method.ts";
import { withoutSteps } from "./pruning-options.ts";

export const method = defineMethod({
  name: "magnitude",
  summary: "heads and channels with the largest weights, as they are",
  options: {},
  ...withoutSteps,
  async prune({ teacher, kept, widths }) {
    const student = copyBlocks(teacher, kept);
    return withLargest(student, widths, (block) => magnitudeScores(student, block));
  },
});
