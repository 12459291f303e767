// The models that the benchmarks run: random weights, the shapes of the published ones.
import { createDistillation, createNodeDevice, defaultDevice, Model, plainVit } from "wecolora/node";

/** Settings of the two benchmark steps: what the paper's users run on a small machine. */
export const steps = {
  "vit-s": { name: "ViT-S/16", width: 384, heads: 6, rank: 64, batch: 16 },
  "vit-b": { name: "ViT-B/16", width: 768, heads: 12, rank: 128, batch: 8 },
};

export const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** The shared device, or with THREADS in the environment one of its own with so many. */
export function benchmarkDevice() {
  const { THREADS: threads } = process.env;
  return threads === undefined ? defaultDevice() : createNodeDevice({ threads: Number(threads) });
}

/**
 * A distillation of one of the benchmark steps and what a step of it is shown. `how`: float32 or int8, kept (the teacher saw the views
 * before), checkpointing, half (saved activations in half precision), joined by hyphens. BATCH and MICRO in the environment: images
 * of a step, and those at once, 8 (4 with checkpointing) as in a run that is left to choose.
 */
export async function benchmarkStep(model, how, device = benchmarkDevice()) {
  const { rank, batch: defaultBatch, ...shape } = steps[model];
  const batch = Number(process.env.BATCH ?? defaultBatch);
  const checkpointing = how.includes("checkpointing");
  const micro = Math.min(Number(process.env.MICRO ?? (checkpointing ? 4 : 8)), batch);
  const accumulation = batch / micro;
  const precision = how.startsWith("int8") ? "int8" : "float32";
  const activations = how.includes("half") ? "float16" : "float32";
  const settings = { reductionFactor: 2, rank, accumulation, precision, checkpointing, activations };
  const distillation = await createDistillation(await offloadedModel(shape, device), settings);
  const shown = [];
  for (let part = 0; part < accumulation; part++) {
    const pixels = noise(micro, 7 + part);
    shown.push(how.includes("kept") ? { targets: await distillation.targets(pixels) } : pixels);
  }
  return { distillation, shown, batch };
}

/** Fast uniform numbers in [-scale, scale); quality does not matter here. */
function fill(length, scale, seed) {
  // Shared between threads, as weights that are read from files are.
  const data = new Float32Array(new SharedArrayBuffer(4 * length));
  let state = seed | 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = (state / 2 ** 31) * scale;
  }
  return data;
}

/** Images of noise, `[batch, 3, size, size]`. */
export function noise(batch, seed = 7, size = 224) {
  return { type: "float32", dims: [batch, 3, size, size], data: fill(batch * 3 * size * size, 1.7, seed) };
}

/** One whose weights rest in a file, as in a run. */
export async function offloadedModel(shape, device) {
  const model = randomModel(shape, device);
  await model.offload();
  return model;
}

/** A ViT/16 with random weights. */
export function randomModel({ width, heads, depth = 12, imageSize = 224 }, device = defaultDevice()) {
  const config = {
    ...plainVit,
    imageSize,
    patchSize: 16,
    channels: 3,
    width,
    depth,
    heads,
    mlpWidth: 4 * width,
    normEpsilon: 1e-6,
  };
  const weights = new Map();
  const random = (name, dims, scale = 0.04) => {
    const count = dims.reduce((a, b) => a * b, 1);
    weights.set(name, { type: "float32", dims, data: fill(count, scale, weights.size + 1) });
  };
  const ones = (name) => {
    weights.set(`${name}.weight`, { type: "float32", dims: [width], data: new Float32Array(width).fill(1) });
    weights.set(`${name}.bias`, { type: "float32", dims: [width], data: new Float32Array(width) });
  };
  const linear = (name, outputs, inputs) => {
    random(`${name}.weight`, [outputs, inputs]);
    random(`${name}.bias`, [outputs]);
  };
  random("cls_token", [1, 1, width]);
  random("pos_embed", [1, (imageSize / 16) ** 2 + 1, width]);
  random("patch_embed.proj.weight", [width, 3, 16, 16]);
  random("patch_embed.proj.bias", [width]);
  for (let i = 0; i < depth; i++) {
    const block = `blocks.${i}`;
    ones(`${block}.norm1`);
    linear(`${block}.attn.qkv`, 3 * width, width);
    linear(`${block}.attn.proj`, width, width);
    ones(`${block}.norm2`);
    linear(`${block}.mlp.fc1`, 4 * width, width);
    linear(`${block}.mlp.fc2`, width, 4 * width);
  }
  ones("norm");
  const preprocessing = {
    resize: { shortestEdge: 256 },
    cropSize: 224,
    interpolation: "bicubic",
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
  };
  const origin = { layout: "timm", config: {}, weightType: "float32", carried: new Map() };
  return new Model({ config, weights, preprocessing, origin }, device);
}

/** Operations of a block's products for one image (a multiplication and an addition are two); `inner`: channels of its heads. */
export const blockOperations = ({ tokens, width, inner = width, mlpWidth = 4 * width }) => ({
  maps: 2 * tokens * width * (4 * inner + 2 * mlpWidth),
  attention: 4 * tokens ** 2 * inner,
});

/** Operations of the patch embedding for one image. */
export const patchOperations = ({ patches, width, patchSize = 16, channels = 3 }) =>
  2 * patches * width * channels * patchSize ** 2;
