// One distillation step, in a process of its own so that its peak memory is its own: node bench/step.js vit-b 6
// The third word says how (benchmarkStep in models.js). With "ask" as the fourth,
// each line of standard input asks for one more step (for interleaving with a peer); else it runs `count` steps. BATCH=16 and
// MICRO=16 for other than the default numbers of images, THREADS=1 for other than all cores.
import { createInterface } from "node:readline";
import { benchmarkStep, median } from "./models.js";

const [model = "vit-b", count = "6", how = "float32", mode = ""] = process.argv.slice(2);
const { distillation, shown, batch } = await benchmarkStep(model, how);
await distillation.step(shown);

async function timed() {
  const start = performance.now();
  const used = process.cpuUsage();
  await distillation.step(shown);
  const { user, system } = process.cpuUsage(used);
  cpuSeconds = (user + system) / 1e6 / batch;
  return (performance.now() - start) / 1000 / batch;
}
let cpuSeconds = 0;
const peak = () => Math.round(process.resourceUsage().maxRSS / 1024);

if (mode === "ask") {
  console.log("ready");
  for await (const _ of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify({ secondsPerImage: await timed(), cpuSeconds, peakMegabytes: peak() }));
  }
} else {
  const times = [];
  for (let i = 0; i < Number(count); i++) times.push(await timed());
  console.log(JSON.stringify({ secondsPerImage: median(times), peakMegabytes: peak() }));
}
process.exit(0);
