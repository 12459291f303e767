// WeCo+KD (the paper): weight copy, then distillation into all weights.
import { defineMethod } from "./method.ts";
import { backbone, features, l1 } from "./parts.ts";

export const method = defineMethod({
  name: "weco-kd",
  summary: "weight copy, then all weights train",
  options: {},
  start: "weight-copy",
  trains: true,
  trainables: backbone,
  objective: features({ ...l1, norm: "after" }),
});
