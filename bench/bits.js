// Weights in few bits on the demo: what plain rounding and rounding by the closed form's normal equations (90 images, three of
// each class) leave of the teacher, and of a student of half its weights. node bench/bits.js [student's folder] [part of a name]
// Figures are on the 300 validation images; k-NN (k = 10, temperature 0.07) over the 593 others. Files are measured as
// ONNX Runtime opens them, in turns.
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import {
  createImageSource,
  defaultDevice,
  evaluationBatches,
  loadModel,
  Model,
  openDataSet,
  quantizeWeights,
  saveModel,
} from "wecolora/node";

const [studentFolder, wanted = "", filesToo] = process.argv.slice(2);
const device = defaultDevice();
const teacher = await loadModel("demo/teacher", { device });
const { preprocessing } = teacher;
const { train, test } = await openDataSet("demo/pictures");
const source = createImageSource("demo/pictures");
const seen = new Map();
const calibration = train.items.filter(({ label }) => {
  seen.set(label, (seen.get(label) ?? 0) + 1);
  return seen.get(label) <= 3;
});

async function read(items, batch) {
  const batches = [];
  for await (const { pixels } of evaluationBatches(source, items, batch, preprocessing, () => undefined))
    batches.push(pixels);
  return batches;
}
const images = await read(calibration, 15);
const parts = { bank: train.items, queries: test.items };

/** Pooled features, each of length 1, and classes by the model's classifier. */
async function features(model, items) {
  const [rows, classes] = [[], []];
  for await (const { pixels } of evaluationBatches(source, items, 30, preprocessing, () => undefined)) {
    const { pooled, logits } = await model.outputs(pixels, ["pooled", "logits"]);
    for (let i = 0; i < pixels.dims[0]; i++) {
      const row = pooled.data.subarray(i * pooled.dims[1], (i + 1) * pooled.dims[1]);
      const length = Math.hypot(...row);
      rows.push(row.map((v) => v / length));
      const scores = [...logits.data.subarray(i * logits.dims[1], (i + 1) * logits.dims[1])];
      classes.push(scores.indexOf(Math.max(...scores)));
    }
  }
  return { rows, classes };
}
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

/** Share of queries whose weighted nearest neighbours have their class. */
function knn(bank, queries) {
  let right = 0;
  queries.rows.forEach((query, i) => {
    const near = bank.rows.map((row, j) => [dot(query, row), parts.bank[j].label]).sort((a, b) => b[0] - a[0]);
    const votes = new Map();
    for (const [cosine, label] of near.slice(0, 10))
      votes.set(label, (votes.get(label) ?? 0) + Math.exp(cosine / 0.07));
    const [best] = [...votes].sort((a, b) => b[1] - a[1])[0];
    if (best === parts.queries[i].label) right++;
  });
  return right / queries.rows.length;
}

const share = (values) => values.filter(Boolean).length / values.length;
const percent = (value) => (value === undefined ? "-" : (100 * value).toFixed(1));
let reference;

async function measure(name, definition, withBank, seconds) {
  const model = new Model(definition, device);
  const queries = await features(model, parts.queries);
  reference ??= queries;
  const bank = withBank ? await features(model, parts.bank) : undefined;
  const figures = [
    bank ? knn(bank, queries) : undefined,
    share(queries.classes.map((c, i) => c === parts.queries[i].label)),
    share(queries.classes.map((c, i) => c === reference.classes[i])),
  ];
  const cosine = queries.rows.reduce((sum, row, i) => sum + dot(row, reference.rows[i]), 0) / queries.rows.length;
  const took = seconds === undefined ? "" : `${seconds.toFixed(0)} s`;
  console.log(`| ${name} | ${figures.map(percent).join(" | ")} | ${cosine.toFixed(4)} | ${took} |`);
  await model.dispose();
}

const half = { calibration: { device, images } };
const ways = [
  ["4 bits, plain", { bits: 4 }, true],
  ["4 bits, compensated", { bits: 4, ...half }, true],
  ["4 bits symmetric, plain", { bits: 4, symmetric: true }, false],
  ["4 bits symmetric, compensated", { bits: 4, symmetric: true, ...half }, false],
  ["4 bits, blocks of 64, plain", { bits: 4, blockSize: 64 }, false],
  ["4 bits, blocks of 64, compensated", { bits: 4, blockSize: 64, ...half }, true],
  ["4 bits, blocks of 128, compensated", { bits: 4, blockSize: 128, ...half }, true],
  ["4 bits, blocks of 64, symmetric, compensated", { bits: 4, blockSize: 64, symmetric: true, ...half }, false],
  ["3 bits, plain", { bits: 3 }, false],
  ["3 bits, compensated", { bits: 3, ...half }, true],
  ["2 bits, plain", { bits: 2 }, false],
  ["2 bits, compensated", { bits: 2, ...half }, true],
];

async function rounded(title, model) {
  if (reference === undefined || title !== "teacher") await measure(`${title}, float32`, model, true);
  for (const [way, options, withBank] of ways) {
    if (!`${title}, ${way}`.includes(wanted)) continue;
    const begin = performance.now();
    const { definition } = await quantizeWeights(model, options);
    await measure(`${title}, ${way}`, definition, withBank, (performance.now() - begin) / 1000);
  }
}

/** Megabytes of the teacher's files, and times for one image beside float32's: the median of several turns. */
async function files() {
  const folder = mkdtempSync(join(tmpdir(), "wecolora-bits-"));
  const variants = [
    ["onnx", "model.onnx", {}],
    ["onnx-int8", "model_int8.onnx", {}],
    ["onnx-int8-weights", "model_quantized.onnx", {}],
    ["onnx-q4", "model_q4.onnx", { accuracyLevel: 0 }],
    ["onnx-q4", "model_q4.onnx", { accuracyLevel: 4 }],
    ["onnx-q4f16", "model_q4f16.onnx", {}],
  ];
  const opened = [];
  for (const [i, [format, file, options]] of variants.entries()) {
    const out = join(folder, String(i));
    await saveModel(teacher, out, { format, ...options });
    const path = join(out, "onnx", file);
    opened.push({
      name: `${format} ${JSON.stringify(options)}`,
      bytes: statSync(path).size,
      session: await ort.InferenceSession.create(path, { executionProviders: ["cpu"] }),
      times: [],
    });
  }
  const feeds = { pixel_values: new ort.Tensor("float32", images[0].data.slice(0, 3 * 224 * 224), [1, 3, 224, 224]) };
  for (let round = 0; round < 13; round++)
    for (const { session, times } of opened) {
      const begin = performance.now();
      await session.run(feeds);
      if (round > 0) times.push(performance.now() - begin);
    }
  const median = ({ times }) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  const float = median(opened[0]);
  for (const one of opened)
    console.log(`| ${one.name} | ${(one.bytes / 1e6).toFixed(2)} MB | ${(median(one) / float).toFixed(2)} |`);
  rmSync(folder, { recursive: true });
}

if (filesToo !== "no-files") await files();
await rounded("teacher", teacher);
if (studentFolder) await rounded("student", await loadModel(studentFolder, { device }));
process.exit(0);
