// How a step's cost grows with what it is made of, beside the count of its products: node bench/growth.js [rounds]
// One thing is changed at a time; each setting runs by itself, with random weights and images of noise.
import { createDistillation } from "wecolora/node";
import { blockOperations, noise, patchOperations, randomModel, steps } from "./models.js";

const rounds = Number(process.argv[2] ?? 3);
const { width, heads, rank } = steps["vit-s"];
const base = { width, heads, depth: 12, imageSize: 224, rank, batch: 8, reductionFactor: 2 };
const changes = [
  {},
  { batch: 1 },
  { batch: 2 },
  { batch: 16 },
  { rank: 16 },
  { rank: 256 },
  { reductionFactor: 3 },
  { reductionFactor: 4 },
  { depth: 6 },
  { depth: 24 },
  { imageSize: 112 },
  { imageSize: 336 },
  { width: 192, heads: 3 },
  { width: 768, heads: 12 },
];

/** Operations of a step's products for one image, in units of 10^9 (a multiplication and an addition are two). */
function products({ width: D, depth, imageSize, rank: r, reductionFactor }) {
  const N = (imageSize / 16) ** 2 + 1;
  const kept = Math.ceil(depth / reductionFactor);
  const { maps, attention } = blockOperations({ tokens: N, width: D });
  const patches = patchOperations({ patches: N - 1, width: D });
  // The gradient goes through the frozen maps but the first block's q, k and v, and twice through attention.
  const backward = kept * maps - 6 * N * D * D + 2 * kept * attention;
  // Four thin products for each map's adapter; the maps' inputs and outputs add up to 18 D.
  const adapters = kept * 2 * N * r * 2 * 18 * D;
  return (patches + (depth + kept) * (maps + attention) + backward + adapters) / 1e9;
}

const rows = [];
for (const change of changes) {
  const setting = { ...base, ...change };
  const { batch, rank, reductionFactor, ...shape } = setting;
  const distillation = await createDistillation(randomModel(shape), { rank, reductionFactor });
  const pixels = noise(batch, 7, shape.imageSize);
  await distillation.step([pixels]);
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const begin = performance.now();
    await distillation.step([pixels]);
    times.push((performance.now() - begin) / 1000 / batch);
  }
  await distillation.dispose();
  const seconds = times.sort((a, b) => a - b)[rounds >> 1];
  const count = products(setting);
  rows.push({ changed: JSON.stringify(change), seconds, count, rate: count / seconds });
}
for (const { changed, seconds, count, rate } of rows)
  console.log(
    `${changed.padEnd(30)} ${seconds.toFixed(3)} s an image, ${count.toFixed(1)} GFLOP, ${rate.toFixed(0)} GFLOP a second, ` +
      `${(rate / rows[0].rate).toFixed(2)} of the first`,
  );
process.exit(0);
