// The share of each kind of node in a distillation step, from ONNX Runtime's own profile:
//   node bench/profile.js vit-b int8-kept
// The second word says how (benchmarkStep in models.js).
import { createNodeDevice, profiledDevice } from "wecolora/node";
import { benchmarkStep } from "./models.js";

const [model = "vit-b", how = "float32"] = process.argv.slice(2);
const { device, times } = profiledDevice(createNodeDevice());
const { distillation, shown } = await benchmarkStep(model, how, device);
for (let i = 0; i < 6; i++) await distillation.step(shown);
// The profile leaves out each session's first run, which takes the first of a step's micro-batches.
const count = 6 - 1 / shown.length;
await distillation.dispose();
const kinds = times(true);
const all = kinds.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
console.table(
  kinds.slice(0, 20).map(({ kind, count: runs, milliseconds }) => ({
    kind,
    "runs a step": Number((runs / count).toFixed(1)),
    "ms a step": Number((milliseconds / count).toFixed(1)),
    "share %": Number(((100 * milliseconds) / all).toFixed(1)),
  })),
);
process.exit(0);
