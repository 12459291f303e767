// GRAIL (Tang et al., CPAL 2026, arXiv 2602.23795): any rule selects heads and channels, then the map that reads them rebuilds the
// inputs that are gone from those that stay, W' = W G_:K (G_KK + ridge I)^-1, with G the sums of products of its inputs. The ridge is
// 1e-3 times the mean of G's diagonal. Blocks are pruned and compensated in order, each with the tokens that the blocks before
// give once they are. A head is a group of inputs that goes as a whole; no bias changes.
import { z } from "zod";
import type { BlockPlace } from "../pruning/block-walk.ts";
import { walkBlocks } from "../pruning/block-walk.ts";
import { rebuiltMap } from "../pruning/moments.ts";
import { narrowBehind } from "../pruning/narrow-behind.ts";
import { keepLargest, magnitudeScores } from "../pruning/units.ts";
import type { UnitKind } from "../pruning/wanda-scores.ts";
import { keptByWanda } from "../pruning/wanda-scores.ts";
import { copyBlocks } from "../kept-blocks.ts";
import { defineMethod } from "./method.ts";
import { withoutSteps } from "./pruning-options.ts";

/** The authors' ridge, as a share of the mean of the diagonal. */
const ridgeShare = 1e-3;

export const method = defineMethod({
  name: "grail",
  summary: "heads and channels by magnitude or Wanda, the map behind them by ridge regression",
  options: {
    selection: z
      .enum(["magnitude", "wanda"])
      .default("wanda")
      .describe("what selects heads and channels for grail")
      .meta({ note: "Norms of weights, or weights times the norms of their inputs." }),
  },
  ...withoutSteps,
  prune({ teacher, kept, widths, images, options, progress }) {
    const student = copyBlocks(teacher, kept);
    const select = (place: BlockPlace, kind: UnitKind, count: number) =>
      options.selection === "wanda"
        ? keptByWanda(place, kind, count)
        : keepLargest(magnitudeScores(student, place.block)[kind], count);
    const narrow = (place: BlockPlace, kind: UnitKind, count: number) =>
      narrowBehind(place, kind, select(place, kind, count), ({ solver, moments }, map, inputs) =>
        rebuiltMap(solver, moments, map, inputs, ridgeShare),
      );
    const walk = { student, device: teacher.device, widths, images: images(), progress };
    return walkBlocks(walk, {
      tokens: "narrowed",
      attention: (place, count) => narrow(place, "heads", count),
      mlp: (place, count) => narrow(place, "channels", count),
    });
  },
});
