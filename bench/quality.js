// Time to quality on the demo: how long PyTorch, and this, run the paper's recipe, what difference to the teacher it ends with on
// held-out images, and how long the closed form takes to get below that: node bench/quality.js [steps]
// The same images, views and rates for all, one after the other in one run. PyTorch as for bench/peer.js.
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  analyticDefaults,
  analyticStart,
  createDistillation,
  createImageSource,
  defaultDevice,
  evaluationBatches,
  loadModel,
  Model,
  openDataSet,
  TrainingLoader,
} from "wecolora/node";
import { python } from "./python.js";

/** Images of each class, as the paper's table with three; batch, rate and rank of the comparison. */
const [perClass, batch, rank, rate] = [3, 11, 64, 1e-3];
const count = Number(process.argv[2] ?? 80);
const types = (process.env.PEER_TYPES ?? "float32,bfloat16").split(",");
const interpreter = python();

const device = defaultDevice();
const teacher = await loadModel("demo/teacher", { device });
const { config, preprocessing } = teacher;
const { train, test: val } = await openDataSet("demo/pictures");
const source = createImageSource("demo/pictures");
const seen = new Map();
const items = train.items.filter(({ label }) => {
  seen.set(label, (seen.get(label) ?? 0) + 1);
  return seen.get(label) <= perClass;
});
const evaluationItems = val.items.filter((_, i) => i % 5 < 2);
const all = async (iterable) => {
  const batches = [];
  for await (const { pixels } of iterable) batches.push(pixels);
  return batches;
};
const skip = ({ name }) => console.error(`skipped ${name}`);
const heldOut = await all(evaluationBatches(source, evaluationItems, 20, preprocessing, skip));
const still = await all(evaluationBatches(source, items, 15, preprocessing, skip));
const perEpoch = Math.floor(items.length / batch);
const augmentation = { scale: [0.2, 1], flip: true };
const loader = new TrainingLoader({
  source,
  items,
  batch,
  microBatchesPerEpoch: perEpoch,
  preprocessing,
  augmentation,
  seed: 0,
});
const training = [];
for (let i = 0; i < count; i++) training.push((await loader.next()).pixels);

async function difference(student) {
  let [sum, numbers] = [0, 0];
  for (const pixels of heldOut) {
    const a = await teacher.outputs(pixels, ["blockOutput"]);
    const b = await student.outputs(pixels, ["blockOutput"]);
    a.blockOutput.data.forEach((v, i) => (sum += Math.abs(v - b.blockOutput.data[i])));
    numbers += a.blockOutput.data.length;
  }
  return sum / numbers;
}
const now = () => performance.now() / 1000;
const epochs = count / perEpoch;
const schedule = {
  kind: "cosine",
  baseLearningRate: rate,
  epochs,
  warmupEpochs: epochs / 5,
  iterationsPerEpoch: perEpoch,
};
const results = {};

const start = now();
const widths = { mlpWidth: 0.5, keptHeads: 0.5 };
const kept = Array.from({ length: config.depth }, (_, i) => i);
const { student } = await analyticStart(teacher, kept, still, { ...analyticDefaults, ...widths });
const took = now() - start;
results["closed form"] = { seconds: took, difference: await difference(new Model(student, device)) };

const rates = [];
for (const precision of ["float32", "int8"]) {
  const distillation = await createDistillation(teacher, { reductionFactor: 2, rank, precision, schedule });
  let seconds = 0;
  for (const pixels of training) {
    const begin = now();
    const { learningRate } = await distillation.step([pixels]);
    seconds += now() - begin;
    if (precision === "float32") rates.push(learningRate);
  }
  const trained = await distillation.student();
  results[`paper's recipe here, ${precision}`] = { seconds, difference: await difference(trained) };
  await trained.dispose();
  await distillation.dispose();
}

const folder = mkdtempSync(join(tmpdir(), "wecolora-quality-"));
try {
  const write = (name, tensors) => {
    const file = openSync(join(folder, name), "w");
    for (const { data } of tensors) writeSync(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    closeSync(file);
  };
  let at = 0;
  const index = [...teacher.weights].map(([name, { dims, data }]) => {
    const from = at;
    at += data.length;
    return [name, dims, from];
  });
  write("weights.bin", [...teacher.weights.values()]);
  write("held.bin", heldOut);
  write("training.bin", training);
  const { width, heads, depth, patchSize: patch } = config;
  const plan = { width, heads, depth, patch, rank, batch, rates, weights: index };
  writeFileSync(join(folder, "plan.json"), JSON.stringify(plan));
  const script = fileURLToPath(new URL("quality.py", import.meta.url));
  for (const type of types) {
    const out = execFileSync(interpreter, [script, folder, type], { encoding: "utf8" });
    results[`paper's recipe in PyTorch, ${type}`] = JSON.parse(out);
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(
  JSON.stringify({ machine: cpus()[0].model, cores: availableParallelism(), steps: count, results }, null, 2),
);
process.exit(0);
