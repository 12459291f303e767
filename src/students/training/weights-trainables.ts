// All of a student's weights train (plain distillation, KD and WeCo+KD in the paper), or none does.
import type { ModelDefinition } from "../../models/definition.ts";
import { frozenWeights } from "../../models/vit.ts";
import type { Trainables } from "./trainables.ts";
import { noDraws } from "./trainables.ts";
import { required } from "../../utils/required.ts";

/** Every weight that `trains` says yes to, under its own name. */
export function weightTrainables(student: ModelDefinition, trains: (name: string) => boolean): Trainables {
  const trained = new Map([...student.weights].filter(([name]) => trains(name)));
  const frozen = frozenWeights(student.weights);
  return {
    shapes: new Map([...trained].map(([name, { dims }]) => [name, dims])),
    lowRank: [],
    fresh: () =>
      new Map([...trained].map(([name, { type, dims, data }]) => [name, { type, dims, data: data.slice() }])),
    draws: () => noDraws,
    apply: (parameters) => ({ weight: (name) => parameters.get(name) ?? frozen(name) }),
    fold: (parameters) => new Map([...trained.keys()].map((name) => [name, required(parameters, name)])),
  };
}
