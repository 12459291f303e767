// The baseline: kept blocks as they are.
import { defineMethod } from "./method.ts";
import { features, l1, nothing } from "./parts.ts";

export const method = defineMethod({
  name: "weight-copy",
  summary: "weight copy alone",
  options: {},
  start: "weight-copy",
  trains: false,
  trainables: nothing,
  objective: features(l1),
});
