// Plain distillation from random weights.
import { defineMethod } from "./method.ts";
import { backbone, features, l1 } from "./parts.ts";

export const method = defineMethod({
  name: "kd",
  summary: "random weights, all train",
  options: {},
  start: "random",
  trains: true,
  trainables: backbone,
  objective: features({ ...l1, norm: "after" }),
});
