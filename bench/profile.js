// The share of each kind of node in a distillation step, from ONNX Runtime's own profile:
//   node bench/profile.js vit-b int8-kept
// The second word is step.js's: float32 or int8, kept, checkpointing, joined by hyphens.
import { createDistillation, createNodeDevice } from "wecolora/node";
import { noise, randomModel, steps } from "./models.js";
import { profiledDevice } from "./profiling.js";

const [model = "vit-b", how = "float32"] = process.argv.slice(2);
const { rank, batch, ...shape } = steps[model];
const precision = how.startsWith("int8") ? "int8" : "float32";
const { device, shares } = profiledDevice(createNodeDevice());
const settings = { reductionFactor: 2, rank, precision, checkpointing: how.includes("checkpointing") };
const distillation = await createDistillation(randomModel(shape, device), settings);
const pixels = noise(batch);
const shown = how.includes("kept") ? { pixels, targets: await distillation.targets(pixels) } : pixels;
// The profile leaves the first one out.
const count = 5;
for (let i = 0; i <= count; i++) await distillation.step([shown]);
await distillation.dispose();
const kinds = shares();
const all = kinds.reduce((sum, { ms }) => sum + ms, 0);
console.table(
  kinds.slice(0, 20).map(({ kind, count: runs, ms }) => ({
    kind,
    "runs a step": runs / count,
    "ms a step": Number((ms / count).toFixed(1)),
    "share %": Number(((100 * ms) / all).toFixed(1)),
  })),
);
process.exit(0);
