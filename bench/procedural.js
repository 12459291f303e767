// Closed forms from procedural images: fidelity to the teacher on folders of other images, by the kinds that they are fitted on.
//   node bench/procedural.js FOLDER,FOLDER... CONFIG...
// A configuration is a count, kinds and a seed: 300 (the mix), 300:plain, 300:lines+cells:1; or real:30:0:0.1, 30 images of REAL (a
// data set's training part; draw 0) with procedural ones as a prior of weight 0.1. FOLDER holds images, or is `held`: 120 of REAL
// that no draw has.
// Figures: mean absolute difference of the last block's tokens over the teacher's mean size, and the class token's cosine.
// dev/procedural.md has what came out. Images that students are to be measured on at last don't belong here.
import {
  analyticDefaults,
  analyticStart,
  createImageSource,
  defaultDevice,
  evaluationBatches,
  listImages,
  loadModel,
  Model,
  openDataSet,
  paintedKind,
  proceduralImage,
  proceduralKinds,
} from "wecolora/node";
import { paintedBatches } from "./painted.js";

const [folders = "", ...configs] = process.argv.slice(2);
const tokensPerUnknown = Number(process.env.TOKENS ?? analyticDefaults.tokensPerUnknown);
const device = defaultDevice();
const teacher = await loadModel(process.env.TEACHER ?? "demo/teacher", { device });
const { preprocessing, config } = teacher;

const scenes = [
  "thing-plain",
  "thing-gradient",
  "thing-textured",
  "things-plain",
  "things-textured",
  "focused",
  "balls",
];
const graphics = ["silhouette", "drawing", "emblem", "bands", "sprites", "writing", "lines", "overlaps"];
const leaves = ["dead-leaves", "dead-leaves-discs", "dead-leaves-boxes", "thicket"];
const sets = {
  all: proceduralKinds,
  plain: ["dead-leaves-discs", "spectral-noise", "overlaps", "lines"],
  scenes,
  graphics,
  leaves,
  textures: proceduralKinds.filter((kind) => ![...scenes, ...graphics, ...leaves].includes(kind)),
};

async function batchesOf(folder, items, size = 15) {
  const source = createImageSource(folder);
  const out = [];
  const skip = ({ name }) => console.error(`skipped ${name}`);
  for await (const { pixels } of evaluationBatches(source, items, size, preprocessing, skip)) out.push(pixels);
  await source.dispose();
  return out;
}

const real = process.env.REAL ?? "demo/pictures";
/** A list in an order that follows from a number. */
function shuffled(items, seed) {
  let state = (seed + 1) * 0x9e3779b1;
  const key = () => (state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5) >>> 0;
  return items
    .map((item) => [key(), item])
    .sort((a, b) => a[0] - b[0])
    .map(([, item]) => item);
}
const [aside, rest] = await (async () => {
  const { train } = await openDataSet(real);
  const order = shuffled(train.items, 12345);
  return [order.slice(0, 120), order.slice(120)];
})();

async function heldOut(folder) {
  const items = folder === "held" ? aside : (await listImages(folder)).items;
  const batches = await batchesOf(folder === "held" ? real : folder, items);
  const out = [];
  for (const pixels of batches)
    out.push({ pixels, target: (await teacher.outputs(pixels, ["lastHiddenState"])).lastHiddenState });
  return out;
}

async function fidelity(student, batches) {
  let [off, size, cosine, count] = [0, 0, 0, 0];
  for (const { pixels, target } of batches) {
    const { lastHiddenState: hidden } = await student.outputs(pixels, ["lastHiddenState"]);
    const [images, tokens, width] = hidden.dims;
    hidden.data.forEach((v, i) => {
      off += Math.abs(v - target.data[i]);
      size += Math.abs(target.data[i]);
    });
    for (let b = 0; b < images; b++) {
      let [ab, aa, bb] = [0, 0, 0];
      for (let i = b * tokens * width, end = i + width; i < end; i++) {
        ab += hidden.data[i] * target.data[i];
        aa += hidden.data[i] ** 2;
        bb += target.data[i] ** 2;
      }
      cosine += ab / Math.sqrt(aa * bb);
      count++;
    }
  }
  return `${(off / size).toFixed(4)} ${(cosine / count).toFixed(4)}`;
}

const parts = {};
for (const folder of folders.split(",").filter(Boolean)) parts[folder.split("/").at(-1)] = await heldOut(folder);
const widths = { mlpWidth: 0.5, keptHeads: 0.5 };
const kept = Array.from({ length: config.depth }, (_, i) => i);

/** The images of a configuration, and its prior. */
async function planOf(each) {
  const [first, ...more] = each.split(":");
  if (first !== "real") {
    const [names, seed = 0] = more;
    const kinds = names && names.split("+").flatMap((name) => sets[name] ?? [name]);
    const image = (i) =>
      kinds ? paintedKind(kinds[i % kinds.length], Number(seed), i) : proceduralImage(Number(seed), i);
    return { images: [...paintedBatches(Number(first), image, preprocessing)] };
  }
  const [count, seed, weight = 0] = more.map(Number);
  const size = Math.max(1, Math.min(15, Math.floor(count / 5)));
  const images = await batchesOf(real, shuffled(rest, seed).slice(0, count), size);
  const priorCount = Number(process.env.PRIOR ?? 150);
  const painted = paintedBatches(priorCount, (i) => proceduralImage(seed, i), preprocessing);
  return { images, prior: weight > 0 ? { images: painted, weight } : undefined };
}

for (const each of configs) {
  const begin = performance.now();
  const { images, prior } = await planOf(each);
  const painted = performance.now();
  const options = { ...analyticDefaults, tokensPerUnknown, ...widths, prior };
  const { student } = await analyticStart(teacher, kept, images, options);
  const seconds = [painted - begin, performance.now() - painted].map((ms) => (ms / 1000).toFixed(0));
  const model = new Model(student, device);
  const row = [];
  for (const [name, batches] of Object.entries(parts)) row.push(`${name} ${await fidelity(model, batches)}`);
  await model.dispose();
  console.log([each.padEnd(24), ...row, `images ${seconds[0]} s, refitted ${seconds[1]} s`].join("  "));
}
process.exit(0);
