// How far exported files are from what the machine can do, one image at a time on two threads:
//   node bench/roofline.js [model]
// `model` is a folder of wecolora's or a teacher's (default: the demo's teacher). The machine's rates of float32 products, of 8-bit
// products and of memory are measured first. Beside the time of each file stand the time that its products would take at that rate, and
// the time that what its nodes read and write would take to cross memory, by the sizes in ONNX Runtime's own profile.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { loadSource } from "./leaderboard/load-source.js";
import { blockOperations, median, noise, patchOperations } from "./models.js";

const [path = "demo/teacher"] = process.argv.slice(2);
const source = await loadSource();
const { blockShape, compile, createNodeDevice, graphs, headWidthOf, loadModel, saveModel } = source;
const rounds = 30;
const folder = mkdtempSync(join(tmpdir(), "wecolora-roofline-"));

/** Median milliseconds of a run of the graph with one output. */
async function timeOf(inputs, output) {
  const device = createNodeDevice({ threads: 2 });
  const graph = { inputs: inputs.map(({ value }) => value), outputs: new Map([["out", output]]) };
  const session = await compile(graph, device);
  const feeds = {};
  for (const { value, tensor } of inputs) feeds[value.source.name] = await device.upload(tensor);
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const begin = performance.now();
    const { kept } = await session.run({ feeds, keep: ["out"] });
    times.push(performance.now() - begin);
    await device.release(Object.values(kept));
  }
  await session.dispose();
  await device.dispose();
  return median(times);
}

const floats = (...dims) => ({ type: "float32", dims, data: new Float32Array(dims.reduce((a, b) => a * b)).fill(0.5) });
const asInput = (name, tensor) => ({ tensor, value: graphs.input(name, tensor.type, tensor.dims) });

/** Operations and bytes a millisecond. */
async function ratesOfMachine() {
  const side = 1536;
  const x = asInput("x", floats(side, side));
  const q = asInput("q", { type: "uint8", dims: [side, side], data: new Uint8Array(side * side).fill(3) });
  const weight = graphs.constant({ type: "int8", dims: [side, side], data: new Int8Array(side * side).fill(2) });
  const zero = graphs.constant({ type: "uint8", dims: [], data: Uint8Array.of(1) });
  // Passes over what a map of a ViT-S gives for one image: as for the file's own nodes, most of it lies in caches.
  const [passes, size] = [64, [257, 1536]];
  const a = asInput("a", floats(...size));
  let sum = a.value;
  for (let i = 0; i < passes; i++) sum = graphs.add(sum, graphs.constant(floats(...size)));
  const operations = 2 * side ** 3;
  return {
    float32: operations / (await timeOf([x], graphs.matmul(x.value, graphs.constant(floats(side, side))))),
    int8: operations / (await timeOf([q], graphs.matmulInteger(q.value, weight, zero))),
    // Two tensors are read and one is written.
    memory: (passes * 3 * 4 * size[0] * size[1]) / (await timeOf([a], sum)),
  };
}

/** Operations of the products for one image: of linear maps of the blocks, which an 8-bit file has in 8 bits, and of all else. */
function productsOf(config) {
  const { imageSize, patchSize, channels, depth, width } = config;
  const patches = (imageSize / patchSize) ** 2;
  let [maps, attention] = [0, 0];
  for (let index = 0; index < depth; index++) {
    const { heads, mlpWidth } = blockShape(config, index);
    const inner = heads * headWidthOf(config);
    const block = blockOperations({ tokens: patches + 1, width, inner, mlpWidth });
    maps += block.maps;
    attention += block.attention;
  }
  return { maps, other: attention + patchOperations({ patches, width, patchSize, channels }) };
}

/** What a file takes for an image, without and with a profile, and what its nodes read and write. */
async function measureFile(file, pixels) {
  const feed = new Tensor("float32", Float32Array.from(pixels.data), pixels.dims);
  const options = { intraOpNumThreads: 2, logSeverityLevel: 3 };
  const run = (session) => session.run({ [session.inputNames[0]]: feed }, ["last_hidden_state"]);
  const session = await InferenceSession.create(file, options);
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const begin = performance.now();
    await run(session);
    times.push(performance.now() - begin);
  }
  await session.release();
  const profileFilePrefix = join(folder, "profile");
  const profiled = await InferenceSession.create(file, { ...options, enableProfiling: true, profileFilePrefix });
  for (let i = 0; i < 3; i++) await run(profiled);
  profiled.endProfiling();
  await profiled.release();
  const name = readdirSync(folder).find((entry) => entry.startsWith("profile"));
  const events = JSON.parse(readFileSync(join(folder, name), "utf8"));
  rmSync(join(folder, name));
  const begin = events.filter(({ name }) => name === "model_run").map(({ ts }) => ts)[2];
  const nodes = events.filter(({ cat, args, ts }) => cat === "Node" && args?.op_name && ts >= begin);
  const size = ({ args }, name) => Number(args[name] ?? 0);
  return {
    milliseconds: median(times),
    nodes: nodes.length,
    bytes: nodes.reduce(
      (sum, node) => sum + size(node, "activation_size") + size(node, "parameter_size") + size(node, "output_size"),
      0,
    ),
  };
}

const rates = await ratesOfMachine();
const model = await loadModel(path);
const { imageSize } = model.config;
const { maps, other } = productsOf(model.config);
const files = { onnx: "model", "onnx-int8": "model_int8" };
const rows = [];
for (const [format, name] of Object.entries(files)) {
  const out = join(folder, format);
  await saveModel(model, out, { format });
  const { milliseconds, nodes, bytes } = await measureFile(join(out, "onnx", `${name}.onnx`), noise(1, 7, imageSize));
  const products = other / rates.float32 + maps / (format === "onnx-int8" ? rates.int8 : rates.float32);
  const memory = bytes / rates.memory;
  rows.push({ file: format, milliseconds, products, memory, nodes, "of the time": (products + memory) / milliseconds });
}
rmSync(folder, { recursive: true });
console.log(`${cpus()[0].model}, ${path}, ${imageSize} pixels, ${((maps + other) / 1e9).toFixed(2)} GFLOP an image`);
console.log(
  `float32 products ${(rates.float32 / 1e6).toFixed(0)} GFLOP/s, 8-bit products ${(rates.int8 / 1e6).toFixed(0)} GOP/s, ` +
    `memory ${(rates.memory / 1e6).toFixed(1)} GB/s`,
);
console.table(rows);
console.log(JSON.stringify({ path, rates, rows }));
process.exit(0);
