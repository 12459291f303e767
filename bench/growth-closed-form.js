// How the closed form's cost grows with what it is made of, beside one pass of the teacher over the same images and the count of
// products: node bench/growth-closed-form.js [images]
// One thing is changed at a time; random weights, images of noise, half of each block's heads and MLP channels, float32. Each setting
// has a process of its own, so that peak memory is its own.
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { analyticDefaults, analyticStart } from "wecolora/node";
import { blockOperations, noise, patchOperations, randomModel } from "./models.js";

const [given = "30", only] = process.argv.slice(2);
const base = { width: 384, heads: 6, depth: 12, imageSize: 224, images: Number(given) };
const changes = [
  {},
  { images: 3 * base.images },
  { images: 10 * base.images },
  { images: 66 * base.images },
  { width: 192, heads: 3 },
  { width: 768, heads: 12 },
  { width: 1024, heads: 16, depth: 24 },
  { depth: 6 },
  { depth: 24 },
  { imageSize: 336 },
  { imageSize: 518 },
];

/** Operations of one pass of the teacher over an image, in units of 10^9. */
function pass({ width, depth, imageSize }) {
  const patches = Math.floor(imageSize / 16) ** 2;
  const { maps, attention } = blockOperations({ tokens: patches + 1, width });
  return (depth * (maps + attention) + patchOperations({ patches, width })) / 1e9;
}

async function measure({ images, ...shape }) {
  const teacher = randomModel({ ...shape, imageSize: Math.floor(shape.imageSize / 16) * 16 });
  await teacher.offload();
  const size = teacher.config.imageSize;
  async function* batches() {
    for (let i = 0; i < images; i += 15) yield { ...noise(Math.min(15, images - i), i + 1, size) };
  }
  const forward = async () => {
    const begin = performance.now();
    for await (const batch of batches()) await teacher.outputs(batch, ["pooled"]);
    return (performance.now() - begin) / 1000;
  };
  await forward();
  const kept = Array.from({ length: shape.depth }, (_, i) => i);
  const before = await forward();
  const begin = performance.now();
  await analyticStart(teacher, kept, batches(), { ...analyticDefaults, mlpWidth: 0.5, keptHeads: 0.5 });
  const seconds = (performance.now() - begin) / 1000;
  const teacherPass = (before + (await forward())) / 2;
  const peakMB = Math.round(process.resourceUsage().maxRSS / 1024);
  return { seconds, teacherPass, passes: seconds / teacherPass, peakMB };
}

if (only !== undefined) {
  console.log(JSON.stringify(await measure({ ...base, ...JSON.parse(only) })));
  process.exit(0);
}
console.log(`${cpus()[0].model}, ${cpus().length} cores`);
let first;
for (const change of changes) {
  const setting = { ...base, ...change };
  const text = execFileSync(process.execPath, [import.meta.filename, given, JSON.stringify(change)], {
    encoding: "utf8",
  });
  const { seconds, teacherPass, passes, peakMB } = JSON.parse(text.trim().split("\n").at(-1));
  const rate = (pass(setting) * setting.images) / teacherPass;
  first ??= rate;
  console.log(
    `${JSON.stringify(change).padEnd(42)} ${seconds.toFixed(1)} s, ${passes.toFixed(2)} passes of ${teacherPass.toFixed(2)} s ` +
      `(${rate.toFixed(0)} GFLOP a second, ${(rate / first).toFixed(2)} of the first), ${peakMB} MB`,
  );
}
