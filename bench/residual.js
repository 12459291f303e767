// A narrower residual stream, tried on the demo: what the teacher gives where its tokens keep so many directions between blocks.
//   node bench/residual.js [directions,...] [images]
// One basis for all blocks: the leading directions of the tokens behind the embedding and each block, each place's covariance divided
// by its trace, from 30 training images. All that writes to the stream writes its projection; nothing is refitted. `energy` is the share
// of squared size that is kept, the last two columns the pooled vectors' cosine and the agreement with the teacher on other images.
import { createImageSource, defaultDevice, evaluationBatches, loadModel, Model, openDataSet } from "wecolora/node";

const [directions = "384,352,320,288,256,192", count = "200"] = process.argv.slice(2);
const device = defaultDevice();
const teacher = await loadModel("demo/teacher", { device });
const { config } = teacher;
const { width, depth } = config;
const { train } = await openDataSet("demo/pictures");
const source = createImageSource("demo/pictures");

const every = (list, step, from) => list.filter((_, i) => i % step === from);
const calibration = every(train.items, 6, 0).slice(0, 30);
const evaluationItems = [...every(train.items, 6, 1), ...every(train.items, 6, 3)].slice(0, Number(count));
async function batchesOf(items) {
  const batches = [];
  for await (const { pixels } of evaluationBatches(source, items, 15, teacher.preprocessing, (s) => console.error(s)))
    batches.push(pixels);
  return batches;
}
const [fitted, evaluated] = [await batchesOf(calibration), await batchesOf(evaluationItems)];

/** The mean of tokens' products behind the embedding and each block, each place's of trace 1. */
async function products() {
  const total = new Float64Array(width * width);
  for (const pixels of fitted) {
    const { hiddenStates } = await teacher.forward(pixels, { hiddenStates: true });
    for (const { data } of hiddenStates) {
      const product = new Float64Array(width * width);
      for (let row = 0; row < data.length; row += width * 4)
        for (let i = 0; i < width; i++) {
          const v = data[row + i];
          for (let j = 0; j < width; j++) product[i * width + j] += v * data[row + j];
        }
      let trace = 0;
      for (let i = 0; i < width; i++) trace += product[i * (width + 1)];
      for (let i = 0; i < product.length; i++) total[i] += product[i] / trace / hiddenStates.length / fitted.length;
    }
  }
  return total;
}

/** The leading directions `[k][width]` of a symmetric matrix, by orthogonal iteration. */
function leading(matrix, k, rounds = 60) {
  let basis = Array.from({ length: k }, (_, i) =>
    Float64Array.from({ length: width }, (_, j) => Math.sin(1 + i * 7.3 + j * (i + 1.7))),
  );
  for (let round = 0; round < rounds; round++) {
    basis = basis.map((v) =>
      Float64Array.from({ length: width }, (_, i) => {
        let sum = 0;
        for (let j = 0; j < width; j++) sum += matrix[i * width + j] * v[j];
        return sum;
      }),
    );
    for (const [i, v] of basis.entries())
      for (let twice = 0; twice < 2; twice++) {
        for (let o = 0; o < i; o++) {
          const along = dot(v, basis[o]);
          for (let j = 0; j < width; j++) v[j] -= along * basis[o][j];
        }
        const size = Math.sqrt(dot(v, v));
        for (let j = 0; j < width; j++) v[j] /= size;
      }
  }
  return basis;
}
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The teacher with all that it writes to its stream projected on a basis. */
function projected(basis) {
  const onto = (rows, count, stride) => {
    // Columns of a map `[width, inputs]`, or rows of vectors `[count, width]`.
    const out = Float32Array.from(rows);
    for (let c = 0; c < count; c++) {
      const vector = Float64Array.from(
        { length: width },
        (_, i) => rows[stride === 1 ? c * width + i : i * stride + c],
      );
      const kept = new Float64Array(width);
      for (const direction of basis) {
        const along = dot(vector, direction);
        for (let i = 0; i < width; i++) kept[i] += along * direction[i];
      }
      for (let i = 0; i < width; i++) out[stride === 1 ? c * width + i : i * stride + c] = kept[i];
    }
    return out;
  };
  const weights = new Map(teacher.weights);
  const change = (name, data) => weights.set(name, { ...weights.get(name), data });
  const writesMap = (name, scale) => {
    const { data, dims } = weights.get(`${name}.weight`);
    const inputs = data.length / width;
    const scaled = scale ? data.map((v, i) => v * scale[Math.floor(i / inputs)]) : data;
    change(`${name}.weight`, onto(scaled, inputs, inputs));
    const bias = weights.get(`${name}.bias`).data;
    change(`${name}.bias`, onto(scale ? bias.map((v, i) => v * scale[i]) : bias, 1, 1));
    return dims;
  };
  for (let block = 0; block < depth; block++)
    for (const [map, scale] of [
      ["attn.proj", "ls1.gamma"],
      ["mlp.fc2", "ls2.gamma"],
    ]) {
      const gamma = weights.get(`blocks.${block}.${scale}`)?.data;
      writesMap(`blocks.${block}.${map}`, gamma);
      if (gamma)
        change(
          `blocks.${block}.${scale}`,
          gamma.map(() => 1),
        );
    }
  writesMap("patch_embed.proj");
  for (const name of ["pos_embed", "cls_token", "reg_token"]) {
    const tensor = weights.get(name);
    if (tensor) change(name, onto(tensor.data, tensor.data.length / width, 1));
  }
  return new Model({ ...teacher, config, weights }, device);
}

const givenBy = async (model) => {
  const all = [];
  for (const pixels of evaluated) {
    const { pooled, logits } = await model.outputs(pixels, ["pooled", "logits"]);
    const [count] = pooled.dims;
    const classes = logits.data.length / count;
    for (let i = 0; i < count; i++) {
      const probabilities = Array.from(logits.data.subarray(i * classes, (i + 1) * classes));
      all.push({
        pooled: pooled.data.slice(i * width, (i + 1) * width),
        predicted: probabilities.indexOf(Math.max(...probabilities)),
      });
    }
  }
  return all;
};
const target = await givenBy(teacher);
const matrix = await products();
let trace = 0;
for (let i = 0; i < width; i++) trace += matrix[i * (width + 1)];
for (const k of directions.split(",").map(Number)) {
  const basis = leading(matrix, k);
  let energy = 0;
  for (const v of basis)
    for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) energy += v[i] * matrix[i * width + j] * v[j];
  const model = projected(basis);
  const probabilities = await givenBy(model);
  await model.dispose();
  const mean = (of) => probabilities.reduce((sum, given, i) => sum + of(given, target[i]), 0) / probabilities.length;
  const cosine = mean((a, b) => dot(a.pooled, b.pooled) / Math.sqrt(dot(a.pooled, a.pooled) * dot(b.pooled, b.pooled)));
  const agreement = 100 * mean((a, b) => Number(a.predicted === b.predicted));
  console.log(
    JSON.stringify({
      k,
      energy: (energy / trace).toFixed(4),
      cosine: cosine.toFixed(4),
      agreement: agreement.toFixed(1),
      images: probabilities.length,
    }),
  );
}
process.exit(0);
