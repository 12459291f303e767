// Decoding with augmentation, feature extraction, and what the loader costs a step: node bench/data.js
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createDistillation, createImageSource, defaultDevice, loadModel, TrainingLoader } from "wecolora/node";
import { median, noise, randomModel, steps } from "./models.js";

const root = fileURLToPath(new URL("../demo/", import.meta.url));
const train = `${root}pictures/train`;
const items = readdirSync(train).flatMap((folder) =>
  readdirSync(`${train}/${folder}`).map((file) => ({ name: `${folder}/${file}` })),
);
const model = await loadModel(`${root}teacher`);
const { preprocessing } = model;
const augmentation = { scale: [0.2, 1], flip: true };
const source = createImageSource(train);
const seconds = async (work) => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};
const round = (value, digits = 1) => Number(value.toFixed(digits));

// Decoding, cropping, resizing and normalising, first from disk, then from images kept decoded.
const crops = (epoch) =>
  Promise.all(items.map((item) => source.augmentedCrop(item, { preprocessing, augmentation, seed: 0, epoch })));
const decoding = items.length / (await seconds(() => crops(0)));
const again = items.length / (await seconds(() => crops(1)));

// Features of the demo's teacher, decoding included.
const chosen = items.slice(0, 96);
const side = 3 * 224 * 224;
const stack = async (part) => {
  const made = await Promise.all(part.map((item) => source.evaluationCrop(item, preprocessing)));
  const data = new Float32Array(made.length * side);
  made.forEach((crop, i) => {
    data.set(crop, i * side);
  });
  return { type: "float32", dims: [made.length, 3, 224, 224], data };
};
await model.outputs(await stack(chosen.slice(0, 32)), ["pooled"]);
const extraction =
  chosen.length /
  (await seconds(async () => {
    let next = stack(chosen.slice(0, 32));
    for (let i = 0; i < chosen.length; i += 32) {
      const pixels = await next;
      if (i + 32 < chosen.length) next = stack(chosen.slice(i + 32, i + 64));
      await model.outputs(pixels, ["pooled"]);
    }
  }));
await model.dispose();

// The same step with images in memory and with the loader at work, taking turns.
const { rank, batch, ...shape } = steps["vit-s"];
const distillation = await createDistillation(randomModel(shape), { reductionFactor: 2, rank });
const pixels = noise(batch);
const microBatchesPerEpoch = Math.floor(items.length / batch);
const loader = new TrainingLoader({ source, items, batch, microBatchesPerEpoch, preprocessing, augmentation, seed: 1 });
await distillation.step([pixels]);
await distillation.step([() => loader.next()]);
const times = { memory: [], loader: [] };
for (let i = 0; i < 12; i++) {
  // A loader's step pays for making the next batch; the one after it must find the workers idle again.
  times.loader.push(await seconds(() => distillation.step([() => loader.next()])));
  await new Promise((resolve) => setTimeout(resolve, 200));
  times.memory.push(await seconds(() => distillation.step([pixels])));
}
console.log(
  JSON.stringify({
    decodedImagesPerSecond: round(decoding),
    augmentedImagesPerSecond: round(again),
    featureImagesPerSecond: round(extraction),
    loaderSlowdown: round(median(times.loader) / median(times.memory), 3),
  }),
);
await source.dispose();
await defaultDevice().dispose();
process.exit(0);
