// Where a start in closed form spends its time, on images of noise:
//   node bench/start.js [images] [model] [precision] [tokens per unknown]
// THREADS=1 for other than all cores.
import { analyticDefaults, analyticStart, choosePrecision, loadModel } from "wecolora/node";
import { benchmarkDevice, noise, randomModel, steps } from "./models.js";

const [count = "90", model = "demo/teacher", wanted = "float32", tokens] = process.argv.slice(2);
const inner = benchmarkDevice();
const spent = new Map();
async function timed(key, action) {
  const begin = performance.now();
  const result = await action();
  const [calls, ms] = spent.get(key) ?? [0, 0];
  spent.set(key, [calls + 1, ms + performance.now() - begin]);
  return result;
}
/** What a session is told apart by: what it reads but for weights, and gives. */
const keyOf = ({ feeds }, outputs) => {
  const read = Object.keys(feeds).filter((name) =>
    /^(x|mixed|hidden|target|pixels|[a-b]|trailing|right|found)$/.test(name),
  );
  return `${read.join(" ")} -> ${outputs.join(" ")}`.slice(0, 70);
};
/** A device that keeps count of what its sessions take, by the names of their inputs and outputs. */
const device = Object.assign(Object.create(inner), {
  async createSession(...given) {
    const session = await timed("compile", () => inner.createSession(...given));
    const run = session.run.bind(session);
    return Object.assign(Object.create(session), {
      outputNames: session.outputNames,
      dispose: () => session.dispose(),
      run: (request) => timed(keyOf(request, session.outputNames), () => run(request)),
    });
  },
  upload: (tensor) => timed("upload", () => inner.upload(tensor)),
  download: (tensor) => timed("download", () => inner.download(tensor)),
  release: (tensors) => timed("release", () => inner.release(tensors)),
  trim: () => inner.trim(),
});
const teacher = model in steps ? randomModel(steps[model], device) : await loadModel(model, { device });
await teacher.offload();
async function* batches() {
  const size = teacher.config.imageSize;
  for (let i = 0; i < Number(count); i += 15) yield { ...noise(15, i + 1, size) };
}
// The usual shape of a student of as many weights as half the blocks: all blocks, half of each one's heads and channels.
const kept = Array.from({ length: teacher.config.depth }, (_, i) => i);
const widths = { mlpWidth: 0.5, keptHeads: 0.5 };
const { int8, reason } = await choosePrecision(teacher, { wanted });
console.log(`precision ${reason}`);
/** One pass of the teacher over the same images, beside which the closed form is held. */
async function forward() {
  const started = performance.now();
  for await (const batch of batches()) await teacher.outputs(batch, ["pooled"]);
  return performance.now() - started;
}
await forward();
const passes = [await forward()];
spent.clear();
const begin = performance.now();
const usedBefore = process.cpuUsage();
const tokensPerUnknown = Number(tokens ?? analyticDefaults.tokensPerUnknown);
await analyticStart(teacher, kept, batches(), { ...analyticDefaults, tokensPerUnknown, ...widths, int8 });
const whole = performance.now() - begin;
const { user, system } = process.cpuUsage(usedBefore);
const parts = [...spent];
passes.push(await forward());
const rows = parts.map(([part, [calls, ms]]) => ({ part, calls, seconds: +(ms / 1000).toFixed(2) }));
rows.sort((a, b) => b.seconds - a.seconds);
console.table(rows);
const pass = (passes[0] + passes[1]) / 2;
console.log(
  `a pass of the teacher took ${(passes[0] / 1000).toFixed(1)} s before and ${(passes[1] / 1000).toFixed(1)} s after: ${(whole / pass).toFixed(2)} passes`,
);
const peak = Math.round(process.resourceUsage().maxRSS / 1024);
console.log(
  `${(whole / 1000).toFixed(1)} s, ${rows.reduce((a, b) => a + b.seconds, 0).toFixed(1)} s of them on the device; ${((user + system) / 1e6).toFixed(2)} s of processor time; ${peak} MB at most`,
);
// For npm run bench.
console.log(
  JSON.stringify({
    model,
    images: Number(count),
    precision: reason,
    seconds: whole / 1000,
    passes: whole / pass,
    peakMB: peak,
  }),
);
process.exit(0);
