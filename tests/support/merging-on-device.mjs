// What a device makes of a small teacher that merges tokens, as JSON: node merging-on-device.mjs DEVICE TEACHER.
import { createNodeDevice, loadModel, mergingOf, Model } from "wecolora/node";

const [name, directory] = process.argv.slice(2);
const device = createNodeDevice({ device: name });
const { config, weights, preprocessing, origin } = await loadModel(directory, { device });
const { imageSize, channels, depth } = config;
const merging = mergingOf(config, Array(depth).fill(3));
const model = new Model({ config: { ...config, merging }, weights, preprocessing, origin }, device);
let state = 1;
const data = Float32Array.from({ length: 3 * channels * imageSize ** 2 }, () => {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return state / 2 ** 31;
});
const pixels = { type: "float32", dims: [3, channels, imageSize, imageSize], data };
const { lastHiddenState, pooled } = await model.outputs(pixels, ["lastHiddenState", "pooled"]);
console.log(JSON.stringify({ tokens: [...lastHiddenState.data], pooled: [...pooled.data] }));
await device.dispose();
