// One distillation step, in a process of its own so that its peak memory is its own: node bench/step.js vit-b 6
// Each line of standard input asks for one more step (for interleaving with a peer); without one it runs `count` steps.
import { createInterface } from "node:readline";
import { createDistillation } from "wecolora/node";
import { noise, randomModel, steps } from "./models.js";

const [model = "vit-b", count = "6", mode = ""] = process.argv.slice(2);
const { rank, batch, ...shape } = steps[model];
const teacher = randomModel(shape);
const distillation = await createDistillation(teacher, { reductionFactor: 2, rank });
const pixels = noise(batch);
await distillation.step([pixels]);

async function timed() {
  const start = performance.now();
  await distillation.step([pixels]);
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
