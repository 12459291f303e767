// Evaluates whatever gives vectors and logits, on all of the demo's images at once: what was drawn for a row is known afterwards.

const batch = 16;

/** The images as models see them: those of the teacher's size, and `at(imageSize)` the same images for a model that takes smaller ones. */
export async function openImages(source, data, preprocessing, most) {
  const { openDataSet, createImageSource, evaluationBatches, resizeTo } = source;
  const { train, test } = await openDataSet(data);
  const images = createImageSource(data);
  const skip = ({ name, reason }) => {
    throw new Error(`${name} can't be read: ${reason}`);
  };
  const read = async (all) => {
    const step = Math.max(1, Math.floor(all.length / most));
    const items = all.filter((_, i) => i % step === 0);
    const batches = [];
    for await (const { pixels } of evaluationBatches(images, items, batch, preprocessing, skip)) batches.push(pixels);
    return { items, batches, labels: items.map(({ label }) => label) };
  };
  const opened = { classes: train.classes, train: await read(train.items), val: await read(test.items) };
  await images.dispose();
  const bySize = new Map([[preprocessing.cropSize, opened]]);
  const at = async (imageSize = preprocessing.cropSize) => {
    const read = bySize.get(imageSize) ?? (await openImages(source, data, resizeTo(preprocessing, imageSize), most));
    bySize.set(imageSize, read);
    return read;
  };
  return { ...opened, at };
}

/** Vectors `[n, D]` and logits `[n, K]` of all images of a part. */
async function outputsOf(model, { batches }) {
  const parts = { pooled: [], logits: [] };
  for (const pixels of batches) {
    const output = await model.outputs(pixels);
    for (const name of Object.keys(parts)) if (output[name]) parts[name].push(output[name]);
  }
  const given = Object.entries(parts).filter(([, tensors]) => tensors.length > 0);
  return Object.fromEntries(given.map(([name, tensors]) => [name, joined(tensors)]));
}

export const outputsOfAll = async (model, images) => ({
  train: await outputsOf(model, images.train),
  val: await outputsOf(model, images.val),
});

const share = (hits) => hits.reduce((sum, hit) => sum + hit, 0) / hits.length;

/**
 * k-NN, probe and classifier on the validation images, by the settings of `wecolora evaluate`, and how often the classifier answers as
 * the teacher's does: on these, and on all images that were not drawn.
 */
export async function evaluate(source, device, images, student, teacher, drawn) {
  const { nearestNeighbours, knnDefaults, votesOf, trainProbe, probeDefaults, probeLogits } = source;
  const { predictions, topAccuracy } = source;
  const targets = { kind: "class", count: images.classes.length, labels: images.train.labels };
  const [bank, queries] = [student.train.pooled, student.val.pooled];
  const { k, temperature } = knnDefaults;
  const votes = votesOf(await nearestNeighbours(device, bank, queries, k), targets, temperature);
  const probe = await trainProbe(device, bank, targets, probeDefaults);
  const probed = await probeLogits(device, probe.weights, queries);
  const figures = {
    knn: topAccuracy(votes, images.val.labels, 1),
    probe: topAccuracy(probed, images.val.labels, 1),
  };
  if (!student.val.logits) return figures;
  const same = (part) => {
    const theirs = predictions(teacher[part].logits);
    return predictions(student[part].logits).map((answer, i) => Number(answer >= 0 && answer === theirs[i]));
  };
  const unseen = same("train").filter((_, i) => !drawn.has(images.train.items[i].name));
  return {
    ...figures,
    classifier: topAccuracy(student.val.logits, images.val.labels, 1),
    agreement: share(same("val")),
    agreementUnseen: share([...same("val"), ...unseen]),
  };
}

/** One of our models as what is evaluated. */
export const asEvaluated = (model) => ({
  outputs: (pixels) => model.outputs(pixels, model.config.head ? ["pooled", "logits"] : ["pooled"]),
  once: (pixels) => model.outputs(pixels, ["pooled"]),
  dispose: () => model.dispose(),
});

/** An ONNX file as it is, in ONNX Runtime: what other runtimes would load; `single` ones take one image at a time. */
export async function openOnnxFile(device, read, path, single = false) {
  const model = await read(path);
  if (!model) throw new Error(`${path} is not there`);
  const dataFile = await read(`${path}_data`);
  const location = `${path.split("/").at(-1)}_data`;
  const externalData = dataFile ? [{ location, chunks: [dataFile] }] : [];
  const session = await device.createSession({ model, externalData }, { packWeights: true });
  const [pooled] = ["pooler_output", "last_hidden_state"].filter((name) => session.outputNames.includes(name));
  if (!pooled) throw new Error(`${path} gives neither pooler_output nor last_hidden_state: ${session.outputNames}`);
  const logits = session.outputNames.includes("logits") ? ["logits"] : [];
  const run = async (pixels, fetch) => (await session.run({ feeds: { pixel_values: pixels }, fetch })).tensors;
  const outputs = async (pixels) => {
    const tensors = await run(pixels, [pooled, ...logits]);
    return { pooled: classTokens(tensors[pooled]), logits: tensors.logits };
  };
  return {
    async outputs(pixels) {
      if (!single) return outputs(pixels);
      const batches = [];
      for (const image of imagesOf(pixels)) batches.push(await outputs(image));
      return {
        pooled: joined(batches.map((output) => output.pooled)),
        ...(logits.length > 0 ? { logits: joined(batches.map((output) => output.logits)) } : {}),
      };
    },
    once: (pixels) => run(pixels, [pooled]),
    dispose: () => session.dispose(),
  };
}

/** Each image of a batch by itself. */
function imagesOf({ dims: [count, ...rest], data, ...same }) {
  const size = data.length / count;
  return Array.from({ length: count }, (_, i) => ({
    ...same,
    dims: [1, ...rest],
    data: data.slice(i * size, (i + 1) * size),
  }));
}

/** Rows of several tensors `[n, D]`, one after the other. */
function joined(tensors) {
  const [, width] = tensors[0].dims;
  const data = new Float32Array(tensors.reduce((sum, tensor) => sum + tensor.data.length, 0));
  let at = 0;
  for (const tensor of tensors) {
    data.set(tensor.data, at);
    at += tensor.data.length;
  }
  return { type: "float32", dims: [data.length / width, width], data };
}

/** The first token of each image `[B, N, D]`; `[B, D]` as it is. */
function classTokens({ dims, data, ...rest }) {
  if (dims.length === 2) return { ...rest, dims, data };
  const [images, tokens, width] = dims;
  const out = new Float32Array(images * width);
  for (let b = 0; b < images; b++) out.set(data.subarray(b * tokens * width, b * tokens * width + width), b * width);
  return { ...rest, dims: [images, width], data: out };
}

const [leastRuns, leastSeconds] = [9, 2];

/** The time for one image, as a share of the teacher's float32: medians of turns in one run. The student may take smaller images. */
export async function relativeTime(teacher, student, pixels, studentPixels = pixels) {
  const times = { teacher: [], student: [] };
  const timed = async (model, pixels, into) => {
    const begin = performance.now();
    await model.once(pixels);
    into?.push(performance.now() - begin);
  };
  await timed(teacher, pixels);
  await timed(student, studentPixels);
  const begin = performance.now();
  for (let run = 0; run < leastRuns || performance.now() - begin < 1000 * leastSeconds; run++) {
    await timed(teacher, pixels, times.teacher);
    await timed(student, studentPixels, times.student);
  }
  const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
  const [whole, part] = [median(times.teacher), median(times.student)];
  return { teacherMilliseconds: whole, milliseconds: part, time: part / whole };
}
