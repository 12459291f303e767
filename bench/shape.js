// Students of different shapes and closed forms on the demo, made in one process and held against the teacher:
//   node bench/shape.js '[{"r":2},{"r":2,"shape":"pooled"},{"r":3,"tokens":8,"draws":[0,1]}]'
// Each is made of so many images of each class (`perClass`, 3), drawn by `draws` ([0]); `flips` adds each one mirrored, and
// `"prior":{"images":150,"weight":0.1}` procedural images as a prior, `"queries":false` and `"values":false` leave these whole,
// `"bits":2` rounds the block maps to blocks of 128. Printed:
// cosine of pooled vectors and agreement of predictions on the training images that the draw has not used, then k-NN (of all training images), classifier and agreement
// on val/, which nothing is to be chosen by. Pixels and the teacher's outputs are cached under .bench/.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import {
  analyticDefaults,
  analyticStart,
  budgetDefaults,
  createImageSource,
  defaultDevice,
  evaluationBatches,
  loadModel,
  Model,
  openDataSet,
  proceduralImage,
  quantizeWeights,
  rankCuts,
  shapeForBudget,
  wholeBudget,
} from "wecolora/node";
import { paintedBatches } from "./painted.js";

const [classes, channels, folder] = [30, 3, ".bench"];
mkdirSync(folder, { recursive: true });
const device = defaultDevice();
const full = 224;
/** Pixels a side: with SMALLER=2 half of them (means of 2 x 2), a fifth of the time, for comparing shapes with each other. */
const smaller = Number(process.env.SMALLER ?? 1);
const teacher = await loadModel("demo/teacher", { device, imageSize: full / smaller });
const { config } = teacher;
const numbers = channels * full ** 2;
const { train, test: val } = await openDataSet("demo/pictures");
const labels = (items) => items.map(({ label }) => label);
const [trainLabels, valLabels] = [labels(train.items), labels(val.items)];

/** All pixels, one image after the other. */
async function pixels() {
  const path = `${folder}/pixels.bin`;
  const { preprocessing } = await loadModel("demo/teacher", { device });
  const items = [...train.items, ...val.items];
  if (!existsSync(path)) {
    const all = new Float32Array(items.length * numbers);
    let at = 0;
    const source = createImageSource("demo/pictures");
    for await (const batch of evaluationBatches(source, items, 20, preprocessing, (s) => console.error(s))) {
      all.set(batch.pixels.data, at);
      at += batch.pixels.data.length;
    }
    writeFileSync(path, new Uint8Array(all.buffer));
  }
  const { buffer, byteOffset, byteLength } = readFileSync(path);
  return new Float32Array(buffer, byteOffset, byteLength / 4);
}
const images = await pixels();
const total = train.items.length + val.items.length;
const batchOf = (indices, flip = () => false) => {
  const side = config.imageSize;
  const each = channels * side ** 2;
  const data = new Float32Array(indices.length * each);
  indices.forEach((image, i) => {
    const imagePixels = images.subarray(image * numbers, (image + 1) * numbers);
    for (let p = 0; p < channels * full; p++)
      for (let x = 0; x < full; x++) {
        const [row, column] = [Math.floor(p / smaller), Math.floor(x / smaller)];
        const to = flip(image) ? side - 1 - column : column;
        data[i * each + row * side + to] += imagePixels[p * full + x] / smaller ** 2;
      }
  });
  return { type: "float32", dims: [indices.length, channels, config.imageSize, config.imageSize], data };
};
const chunks = (list, size) =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));

/** Pooled vectors and predictions of all images. */
async function outputsOf(model, which = [...Array(total).keys()]) {
  const pooled = [];
  const predicted = [];
  for (const indices of chunks(which, 20)) {
    const output = await model.outputs(batchOf(indices), ["pooled", "logits"]);
    indices.forEach((image, i) => {
      const row = output.pooled.data.subarray(i * config.width, (i + 1) * config.width);
      const size = Math.hypot(...row);
      pooled[image] = Array.from(row, (v) => v / size);
      const logits = Array.from(output.logits.data.subarray(i * classes, (i + 1) * classes));
      predicted[image] = logits.indexOf(Math.max(...logits));
    });
  }
  return { pooled, predicted };
}
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const mean = (list) => list.reduce((sum, v) => sum + v, 0) / list.length;

/** Weighted votes of the 10 nearest of the training images, as in the evaluation. */
function knn({ pooled }) {
  const bank = pooled.slice(0, trainLabels.length);
  return pooled.slice(trainLabels.length).map((query) => {
    const near = bank.map((row, i) => [dot(query, row), trainLabels[i]]).sort((a, b) => b[0] - a[0]);
    const votes = new Array(classes).fill(0);
    for (const [similarity, label] of near.slice(0, 10)) votes[label] += Math.exp(similarity / 0.07);
    return votes.indexOf(Math.max(...votes));
  });
}
/** What the teacher gives for some images, computed once. */
async function targetsOf(indices) {
  const path = `${folder}/teacher-${config.imageSize}.json`;
  const cached = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : { pooled: [], predicted: [] };
  const missing = indices.filter((i) => !cached.pooled[i]);
  if (missing.length === 0) return cached;
  const made = await outputsOf(teacher, missing);
  for (const i of missing) {
    cached.pooled[i] = made.pooled[i];
    cached.predicted[i] = made.predicted[i];
  }
  writeFileSync(path, JSON.stringify(cached));
  return cached;
}

/** So many images of each class, by a seed. */
function draw(perClass, seed) {
  let state = seed + 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const order = trainLabels.map((label, i) => [random(), label, i]).sort((a, b) => a[0] - b[0]);
  const seen = new Map();
  return order.flatMap(([, label, i]) => {
    seen.set(label, (seen.get(label) ?? 0) + 1);
    return seen.get(label) <= perClass ? [i] : [];
  });
}

const percent = (list) => (100 * mean(list.map(Number))).toFixed(1);
async function evaluate(student, used, onVal) {
  const model = new Model(student, device);
  const all = trainLabels.map((_, i) => i).filter((i) => !used.includes(i));
  const some = Number(process.env.IMAGES ?? 160);
  const every = Math.max(1, Math.floor(all.length / some));
  const unused = onVal ? all : all.filter((_, i) => i % every === 0);
  const outputs = await outputsOf(model, onVal ? undefined : unused);
  await model.dispose();
  const target = await targetsOf(onVal ? [...Array(total).keys()] : unused);
  const behind = valLabels.map((_, i) => trainLabels.length + i);
  const agrees = (i) => outputs.predicted[i] === target.predicted[i];
  return {
    cosine: mean(unused.map((i) => dot(outputs.pooled[i], target.pooled[i]))).toFixed(4),
    agreement: percent(unused.map(agrees)),
    images: unused.length,
    ...(onVal ? accuraciesOf(outputs, behind, agrees) : {}),
  };
}

const accuraciesOf = (outputs, behind, agrees) => ({
  "val k-NN": percent(knn(outputs).map((label, i) => label === valLabels[i])),
  "val classifier": percent(behind.map((i, j) => outputs.predicted[i] === valLabels[j])),
  "val agreement": percent(behind.map(agrees)),
});

const priorBatches = (count, seed) =>
  paintedBatches(count, (i) => proceduralImage(seed, i), { ...teacher.preprocessing, cropSize: config.imageSize });

/** Uniform shapes as they are by default. */
const uniform = { 2: [12, 3, 768], 3: [8, 3, 768], 4: [6, 3, 768] };
const spreadOf = (count) => Array.from({ length: count }, (_, i) => Math.round((i * (config.depth - 1)) / (count - 1)));
const costs = new Map();
async function costsOf(key, batches) {
  if (!costs.has(key)) {
    const begin = performance.now();
    costs.set(key, await rankCuts(teacher, batches));
    console.log(`rankCuts took ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  }
  return costs.get(key);
}

const rounded = async (student, bits, images) =>
  (await quantizeWeights(student, { bits, blockSize: 128, calibration: { device, images } })).definition;

for (const variant of JSON.parse(process.argv[2])) {
  const {
    r = 2,
    perClass = 3,
    draws = [0],
    shape,
    tokens = 5,
    flips = false,
    budget = {},
    onVal = false,
    prior,
    share,
    queries = true,
    values = true,
    bits,
    ...more
  } = variant;
  for (const seed of draws) {
    const used = draw(perClass, seed);
    const batches = chunks(used, 15).map((indices) => batchOf(indices));
    const seen = flips ? [...batches, ...chunks(used, 15).map((indices) => batchOf(indices, () => true))] : batches;
    const [count, heads, mlpWidth] = uniform[r];
    let kept = spreadOf(count);
    let shapes;
    if (shape) {
      const measured = await costsOf(`${perClass} ${seed}`, batches);
      const ranked = measured.map(({ queries: ofQueries, values: ofValues, ...block }) => ({
        ...block,
        ...(queries ? { queries: ofQueries } : {}),
        ...(values ? { values: ofValues } : {}),
      }));
      const whole = wholeBudget(config, budget.unit ?? "weights", { ...budgetDefaults, ...budget });
      const most = whole * (share ?? Math.round(12 / r) / 12);
      const chosen = shapeForBudget(config, ranked, most, {
        ...budgetDefaults,
        measure: shape,
        ...budget,
      });
      ({ kept, shapes } = chosen);
    }
    const begin = performance.now();
    const widths = shapes ? { shapes } : { keptHeads: heads, mlpWidth };
    const options = {
      ...{ ...analyticDefaults, tokensPerUnknown: tokens, ...widths, ...more },
      ...(prior ? { prior: { images: priorBatches(prior.images, seed), weight: prior.weight } } : {}),
    };
    const { student } = await analyticStart(teacher, kept, seen, options);
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const count2 = [...student.weights.values()].reduce((sum, { data }) => sum + data.length, 0);
    console.log(
      JSON.stringify({
        ...variant,
        draws: seed,
        M: (count2 / 1e6).toFixed(2),
        seconds,
        ...(await evaluate(bits === undefined ? student : await rounded(student, bits, batches), used, onVal)),
      }),
    );
    if (shapes) console.log(`  ${kept.map((b, i) => `${b}:${Object.values(shapes[i]).join("/")}`).join(" ")}`);
  }
}
process.exit(0);
