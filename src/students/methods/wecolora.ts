// WeCoLoRA (arXiv 2404.09326): weight copy, then low-rank adapters on all six maps.
import { targetModules } from "../../models/vit.ts";
import { adapterOptions, adapterPlan } from "./adapter-options.ts";
import { defineMethod } from "./method.ts";
import { adapters, features, l1 } from "./parts.ts";

export const method = defineMethod({
  name: "wecolora",
  summary: "weight copy, adapters on all six maps (the paper's method)",
  options: adapterOptions,
  start: "weight-copy",
  trains: true,
  adapters: (options) => adapterPlan(options, targetModules),
  trainables: (student, { options }) => adapters(student, adapterPlan(options, targetModules), options.seed),
  objective: features(l1),
});
