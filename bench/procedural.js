// Closed forms from procedural images: fidelity to the teacher on folders of other images, by the kinds that they are fitted on.
//   node bench/procedural.js FOLDER,FOLDER... CONFIG...
// A configuration is a count and kinds: 300 (the mix), 300:plain, 300:lines+cells. FOLDER is a folder of images without classes.
// Figures: mean absolute difference of the last block's tokens over the teacher's mean size, and the class token's cosine.
// dev/procedural.md has what came out. Images that students are to be measured on at last don't belong here.
import {
  analyticDefaults,
  analyticStart,
  createPictureSource,
  defaultDevice,
  evaluationBatches,
  listPictures,
  loadModel,
  Model,
  paintedKind,
  proceduralImage,
  proceduralKinds,
} from "wecolora/node";

const [folders = "", ...configs] = process.argv.slice(2);
const tokensPerUnknown = Number(process.env.TOKENS ?? analyticDefaults.tokensPerUnknown);
const device = defaultDevice();
const teacher = await loadModel(process.env.TEACHER ?? "demo/teacher", { device });
const { preprocessing, config } = teacher;
const side = preprocessing.cropSize;

const scenes = ["thing-plain", "thing-gradient", "thing-textured", "things-plain", "things-textured", "focused", "balls"];
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

/** Pixels of an image of 256: the middle, normalised. */
function pixelsOf({ width, height, data }) {
  const [left, top] = [(width - side) >> 1, (height - side) >> 1];
  const out = new Float32Array(3 * side * side);
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++)
        out[(c * side + y) * side + x] =
          (data[3 * ((top + y) * width + left + x) + c] / 255 - preprocessing.mean[c]) / preprocessing.std[c];
  return out;
}

function* proceduralBatches(count, image, size = 15) {
  for (let from = 0; from < count; from += size) {
    const views = Array.from({ length: Math.min(size, count - from) }, (_, i) => pixelsOf(image(from + i)));
    const data = new Float32Array(views.length * 3 * side * side);
    views.forEach((view, i) => data.set(view, i * 3 * side * side));
    yield { type: "float32", dims: [views.length, 3, side, side], data };
  }
}

async function held(folder) {
  const { items } = await listPictures(folder);
  const source = createPictureSource(folder);
  const out = [];
  const skip = ({ name }) => console.error(`skipped ${name}`);
  for await (const { pixels } of evaluationBatches(source, items, 15, preprocessing, skip))
    out.push({ pixels, target: (await teacher.outputs(pixels, ["lastHiddenState"])).lastHiddenState });
  await source.dispose();
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
for (const folder of folders.split(",").filter(Boolean)) parts[folder.split("/").at(-1)] = await held(folder);
const widths = { mlpWidth: 0.5, keptHeads: 0.5 };
const kept = Array.from({ length: config.depth }, (_, i) => i);
for (const each of configs) {
  const [count, names, seed = 0] = each.split(":");
  const kinds = names && names.split("+").flatMap((name) => sets[name] ?? [name]);
  const image = (i) => (kinds ? paintedKind(kinds[i % kinds.length], Number(seed), i) : proceduralImage(Number(seed), i));
  const begin = performance.now();
  const images = [...proceduralBatches(Number(count), image)];
  const painted = performance.now();
  const { student } = await analyticStart(teacher, kept, images, { ...analyticDefaults, tokensPerUnknown, ...widths });
  const seconds = [painted - begin, performance.now() - painted].map((ms) => (ms / 1000).toFixed(0));
  const model = new Model(student, device);
  const row = [];
  for (const [name, batches] of Object.entries(parts)) row.push(`${name} ${await fidelity(model, batches)}`);
  await model.dispose();
  console.log([each.padEnd(24), ...row, `painted ${seconds[0]} s, refitted ${seconds[1]} s`].join("  "));
}
process.exit(0);
