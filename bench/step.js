// One distillation step, in a process of its own so that its peak memory is its own: node bench/step.js vit-b 6
// The third word says how, joined by hyphens: float32 or int8, kept (the teacher saw the views before), checkpointing. With "ask" as the fourth,
// each line of standard input asks for one more step (for interleaving with a peer); else it runs `count` steps.
import { createInterface } from "node:readline";
import { createDistillation } from "wecolora/node";
import { noise, randomModel, steps } from "./models.js";

const [model = "vit-b", count = "6", how = "float32", mode = ""] = process.argv.slice(2);
const { rank, batch, ...shape } = steps[model];
const precision = how.startsWith("int8") ? "int8" : "float32";
const checkpointing = how.includes("checkpointing");
const settings = { reductionFactor: 2, rank, precision, checkpointing };
const distillation = await createDistillation(randomModel(shape), settings);
const pixels = noise(batch);
const shown = how.includes("kept") ? { pixels, targets: await distillation.targets(pixels) } : pixels;
await distillation.step([shown]);

async function timed() {
  const start = performance.now();
  await distillation.step([shown]);
  return (performance.now() - start) / 1000 / batch;
}
const peak = () => Math.round(process.resourceUsage().maxRSS / 1024);

if (mode === "ask") {
  console.log("ready");
  for await (const _ of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify({ secondsAPicture: await timed(), peakMegabytes: peak() }));
  }
} else {
  const times = [];
  for (let i = 0; i < Number(count); i++) times.push(await timed());
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({ secondsAPicture: times[times.length >> 1], peakMegabytes: peak() }));
}
process.exit(0);
