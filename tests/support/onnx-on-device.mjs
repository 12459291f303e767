// What a device makes of an ONNX file's tokens for an image of waves, as JSON: node onnx-on-device.mjs DEVICE FILE SIZE
import { readFile } from "node:fs/promises";
import { createNodeDevice } from "wecolora/node";

const [name, file, size] = process.argv.slice(2);
const device = createNodeDevice({ device: name });
const session = await device.createSession({ model: await readFile(file), externalData: [] }, {});
const side = Number(size);
const data = Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(i / 7) + Math.cos(i / 313));
const { tensors } = await session.run({
  feeds: { pixel_values: { type: "float32", dims: [1, 3, side, side], data } },
  fetch: ["last_hidden_state"],
});
console.log(JSON.stringify([...tensors.last_hidden_state.data]));
await session.dispose();
await device.dispose();
