// A method of your own: the student keeps every r-th block, and only its LayerNorms train.
//
// Norms are a thousandth of the weights, so this needs little memory and hardly overfits. It is a lower bound to compare
// adapters with. Use it in a process of yours:
//
//     const distillation = await createDistillation(teacher, { method: normTuning, reductionFactor: 2 });
//
// or make its name known first, with registerMethod(normTuning).
import { defineMethod, methodParts, weightTrainables } from "wecolora";
import { z } from "zod";

export const normTuning = defineMethod({
  name: "norm-tuning",
  summary: "weight copy, LayerNorms alone train",
  // The method's own options. They are checked, and shown by the messages for unknown options.
  options: {
    normBiases: z.boolean().default(true).describe("train the biases of the norms too"),
  },
  start: "weight-copy",
  trains: true,
  trainables: (student, { options }) =>
    weightTrainables(
      student,
      (name) => /norm\d?\.weight$/.test(name) || (options.normBiases && /norm\d?\.bias$/.test(name)),
    ),
  // The paper's loss: mean absolute difference of the last blocks' outputs.
  objective: methodParts.features(methodParts.l1),
});
