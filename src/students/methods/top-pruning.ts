// The first blocks of the teacher as they are.
import { defineMethod } from "./method.ts";
import { features, l1, nothing } from "./parts.ts";

export const method = defineMethod({
  name: "top-pruning",
  summary: "the first blocks alone",
  options: {},
  start: "top-blocks",
  trains: false,
  trainables: nothing,
  objective: features(l1),
});
