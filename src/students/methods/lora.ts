// LoRA (arXiv 2106.09685): adapters on queries and values alone.
import type { TargetModule } from "../../models/vit.ts";
import { adapterOptions, adapterPlan } from "./adapter-options.ts";
import { defineMethod } from "./method.ts";
import { adapters, features, l1 } from "./parts.ts";

const modules: readonly TargetModule[] = ["q", "v"];

export const method = defineMethod({
  name: "lora",
  summary: "weight copy, adapters on q and v alone",
  options: adapterOptions,
  start: "weight-copy",
  trains: true,
  adapters: (options) => adapterPlan(options, modules),
  trainables: (student, { options }) => adapters(student, adapterPlan(options, modules), options.seed),
  objective: features(l1),
});
