// The options that several pruning methods share, and what methods without steps have in common.
import { z } from "zod";
import { gradientLosses } from "../pruning/gates.ts";
import { features, l1, nothing } from "./parts.ts";

/** What methods that only prune have instead of training. */
export const withoutSteps = {
  start: "pruned",
  trains: false,
  trainables: nothing,
  objective: features(l1),
} as const;

export const gradientOptions = {
  gradientLoss: z
    .enum(gradientLosses)
    .default("self-supervised")
    .describe("the loss whose gradients score heads and channels")
    .meta({ note: "Cross-entropy between an image and a crop of it, or the squared distance of their features." }),
};
