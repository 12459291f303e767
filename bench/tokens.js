// Token merging on the demo: node bench/tokens.js [counts] [--choose] [--time] [--no-figures] [--images=<n>] [--threads=<n>]
// For each number of tokens merged away per block (0,13,20 where left out), for the teacher and for a student of half the
// weights, with and without maps refitted on 90 images: k-NN and classifier accuracy, agreement with the teacher and cosine
// similarity of the class tokens on the 300 validation images. --time: milliseconds of the ONNX exports, float32 and int8, for
// one image, over the teacher's float32 in the same turns. --choose: what chooseMerging finds on 60 of the training images.
// --images: so many validation images and half as many calibration images, the teacher alone and no k-NN, for a first look.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import {
  analyticDefaults,
  analyticStart,
  chooseMerging,
  createNodeDevice,
  createImageSource,
  defaultDevice,
  evaluationBatches,
  loadModel,
  mergingOf,
  Model,
  openDataSet,
  refitMerged,
  saveModel,
} from "wecolora/node";

const flags = process.argv.slice(2);
const counts = (flags.find((flag) => !flag.startsWith("-")) ?? "0,13,20").split(",").map(Number);
const perClass = 3;
const numberOf = (name) => Number(flags.find((flag) => flag.startsWith(`--${name}=`))?.split("=")[1]);
const threads = numberOf("threads");
const most = numberOf("images") || Infinity;
const device = threads ? createNodeDevice({ threads }) : defaultDevice();
/** So many of a list, evenly spread. */
const spread = (list, wanted) =>
  list.filter((_, i) => Math.floor((i * wanted) / list.length) !== Math.floor(((i - 1) * wanted) / list.length));
const some = (list, wanted) => (wanted < list.length ? spread(list, wanted) : list);
const teacher = await loadModel("demo/teacher", { device });
const { config, preprocessing } = teacher;
const { train, test: val } = await openDataSet("demo/pictures");
const source = createImageSource("demo/pictures");

async function read(items) {
  const batches = [];
  const skip = ({ name }) => console.error(`skipped ${name}`);
  for await (const { pixels, items: seen } of evaluationBatches(source, items, 15, preprocessing, skip))
    batches.push({ pixels, labels: seen.map(({ label }) => label) });
  return batches;
}
const seen = new Map();
const drawn = train.items.filter(({ label }) => {
  seen.set(label, (seen.get(label) ?? 0) + 1);
  return seen.get(label) <= perClass;
});
const calibration = (await read(some(drawn, most / 2))).map(({ pixels }) => pixels);
const merged = (model, merging) => ({ ...definitionOf(model), config: { ...model.config, merging } });
const definitionOf = ({ config, weights, preprocessing, origin }) => ({ config, weights, preprocessing, origin });
const constant = (model, count) => mergingOf(model.config, Array(model.config.depth).fill(count));
const print = (row) => console.log(JSON.stringify(row));

if (flags.includes("--time")) {
  const folder = mkdtempSync(join(tmpdir(), "wecolora-tokens-"));
  try {
    const sessions = [];
    for (const [format, file] of [
      ["onnx", "model.onnx"],
      ["onnx-int8", "model_int8.onnx"],
    ])
      for (const count of [...new Set([0, ...counts])]) {
        const out = join(folder, `${format}-${count}`);
        await saveModel(merged(teacher, constant(teacher, count)), out, { format });
        sessions.push({ format, count, session: await InferenceSession.create(join(out, "onnx", file)), times: [] });
      }
    const { data } = calibration[0];
    const pixels = new Tensor("float32", data.slice(0, data.length / 15), [1, 3, config.imageSize, config.imageSize]);
    for (let round = 0; round < 16; round++)
      for (const one of sessions) {
        const start = performance.now();
        await one.session.run({ pixel_values: pixels });
        if (round > 0) one.times.push(performance.now() - start);
      }
    const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
    const whole = median(sessions[0].times);
    for (const { format, count, times } of sessions)
      print({
        format,
        count,
        ms: median(times),
        ofTeacher: median(times) / whole,
        least: times[0] / sessions[0].times[0],
      });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (flags.includes("--choose")) {
  for (const target of [{ time: 0.7 }, { cosine: 0.98 }, { agreement: 0.97 }]) {
    const choice = await chooseMerging(teacher, calibration.slice(0, 4), { target, now: () => performance.now() });
    for (const point of choice.frontier) print({ target, chosen: point === choice.chosen, ...point });
  }
}

if (!flags.includes("--no-figures")) {
  const images = { bank: most < Infinity ? [] : await read(train.items), queries: await read(some(val.items, most)) };
  const labels = (batches) => batches.flatMap((batch) => batch.labels);
  async function features(model, batches) {
    const rows = { pooled: [], logits: [] };
    for (const { pixels } of batches) {
      const output = await model.outputs(pixels, ["pooled", "logits"]);
      for (const name of ["pooled", "logits"]) {
        const [count, width] = output[name].dims;
        for (let i = 0; i < count; i++) rows[name].push(output[name].data.slice(i * width, (i + 1) * width));
      }
    }
    return rows;
  }
  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  const unit = (a) => a.map((v) => v / Math.sqrt(dot(a, a)));
  const best = (scores) => scores.indexOf(Math.max(...scores));
  const bankLabels = labels(images.bank);
  const truth = labels(images.queries);
  const classes = Math.max(...truth) + 1;
  /** Weighted nearest neighbours, k 10, temperature 0.07, as in the evaluation. */
  function knn(bank, queries) {
    const units = bank.map(unit);
    return queries.map((query) => {
      const unitQuery = unit(query);
      const nearest = units.map((row, i) => [dot(row, unitQuery), bankLabels[i]]).sort((a, b) => b[0] - a[0]);
      const votes = Array(classes).fill(0);
      for (const [similarity, label] of nearest.slice(0, 10)) votes[label] += Math.exp(similarity / 0.07);
      return best(votes);
    });
  }
  const share = (list) => Math.round((1000 * list.filter(Boolean).length) / list.length) / 10;
  let reference;
  async function row(name, definition) {
    const model = new Model(definition, device);
    const queries = await features(model, images.queries);
    const bank = await features(model, images.bank);
    await model.dispose();
    reference ??= queries;
    const answers = queries.logits.map(best);
    const votes = knn(bank.pooled, queries.pooled);
    const cosines = queries.pooled.map((pooled, i) => dot(unit(pooled), unit(reference.pooled[i])));
    print({
      model: name,
      ...(bank.pooled.length > 0 ? { kNN: share(votes.map((v, i) => v === truth[i])) } : {}),
      classifier: share(answers.map((v, i) => v === truth[i])),
      agreement: share(answers.map((v, i) => v === best(reference.logits[i]))),
      cosine: Number((cosines.reduce((a, b) => a + b) / cosines.length).toFixed(4)),
    });
  }
  async function rows(name, model) {
    for (const count of model === teacher ? counts.filter(Boolean) : counts) {
      const definition = merged(model, constant(model, count));
      await row(`${name}, ${count}`, definition);
      if (count === 0) continue;
      const begin = performance.now();
      const { student, refits } = await refitMerged(teacher, definition, calibration);
      print({
        seconds: (performance.now() - begin) / 1000,
        refitted: refits.filter(({ ridge }) => ridge !== undefined).length,
        share: refits.reduce((sum, one) => sum + one.share, 0) / refits.length,
      });
      await row(`${name}, ${count}, refitted`, student);
    }
  }
  await row("teacher", definitionOf(teacher));
  await rows("teacher", teacher);
  if (most < Infinity) process.exit(0);
  const kept = Array.from({ length: config.depth }, (_, i) => i);
  const widths = { mlpWidth: 0.5, keptHeads: 0.5 };
  const { student } = await analyticStart(teacher, kept, calibration, { ...analyticDefaults, ...widths });
  await rows("half the weights", student);
}
process.exit(0);
