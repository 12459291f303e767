// CORP (Zhang and Yang, arXiv 2602.05243): removed parts are affine in those kept, by ridge regression on unlabelled images, and
// folded into the weights.
// The paper's: MLP channels that go are modelled by those that stay, x_D = B x_K + c, folded into fc2 and its bias; heads lose channels
// of queries and keys inside, and the logits of those that go are modelled as [q_s 1] M k_s', folded into the map of queries; each
// layer by itself, from one pass of the whole model.
// Ours, where the paper leaves it open or shapes differ: channels are ranked by |W| times input norms, those of queries and keys by
// their sums of squares; values are narrowed as much, like MLP channels, since heads here have one width; ridges are 1e-3 times the
// mean of the diagonal. `--kept-heads` says how much attention keeps: all heads stay, each with this share of its channels, which
// is as many weights.
import { corpStudent } from "../pruning/corp-student.ts";
import { defineMethod } from "./method.ts";
import { withoutSteps } from "./pruning-options.ts";

export const method = defineMethod({
  name: "corp",
  summary: "head dimensions and channels removed, compensated in closed form (CORP)",
  options: {},
  ...withoutSteps,
  prune: corpStudent,
});
