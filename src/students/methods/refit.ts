// The closed form: kept blocks whose remaining maps are re-fitted by ridge regression (students/closed-form/); no steps.
import { closedFormOptions } from "../closed-form/start.ts";
import { defineMethod } from "./method.ts";
import { features, l1, nothing } from "./parts.ts";

export const method = defineMethod({
  name: "refit",
  summary: "kept blocks, their maps refitted in closed form; no steps",
  options: closedFormOptions,
  start: "analytic",
  trains: false,
  trainables: nothing,
  objective: features(l1),
});
