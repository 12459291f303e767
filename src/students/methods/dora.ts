// DoRA (arXiv 2402.09353): adapters on all six maps that change directions, with each row's length apart.
import { targetModules } from "../../models/vit.ts";
import { OptionError } from "../../utils/errors.ts";

import { adapterOptions, adapterPlan } from "./adapter-options.ts";
import { defineMethod } from "./method.ts";
import { adapters, features, l1 } from "./parts.ts";

export const method = defineMethod({
  name: "dora",
  summary: "weight copy, weight-decomposed adapters on all six maps",
  options: adapterOptions,
  start: "weight-copy",
  trains: true,
  adapters: (options) => adapterPlan(options, targetModules, true),
  trainables(student, { options }) {
    const plan = adapterPlan(options, targetModules, true);
    if (plan.alpha !== undefined || plan.dropout)
      throw new OptionError([
        (name) =>
          `The method dora takes neither ${name("alpha")} nor ${name("adapterDropout")}: its magnitudes scale each row already.`,
      ]);
    return adapters(student, plan, options.seed);
  },
  objective: features(l1),
});
