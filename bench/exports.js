// What exported files take beside float32, one image at a time on two threads, in turns in one process:
//   node bench/exports.js [model] [file.onnx ...]
// `model` is a folder of wecolora's or a teacher's (default: the demo's teacher). Further ONNX files are timed beside its exports. With
// RIVALS_PYTHON, ONNX Runtime's own dynamic quantization of the float32 file is one of them. Prints milliseconds (median and quartiles)
// and the ratio to float32, and the mean difference of the last tokens to float32's over their mean size.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { createImageSource, evaluationBatches, loadModel, openDataSet, saveModel } from "wecolora/node";

const [path = "demo/teacher", ...others] = process.argv.slice(2);
const rounds = 40;
const files = {
  onnx: "model",
  "onnx-float16": "model_fp16",
  "onnx-int8": "model_int8",
  "onnx-int8-weights": "model_quantized",
};
const folder = mkdtempSync(join(tmpdir(), "wecolora-exports-"));
const model = await loadModel(path);
const places = new Map();
for (const [format, name] of Object.entries(files)) {
  await saveModel(model, join(folder, format), { format });
  places.set(format, join(folder, format, "onnx", `${name}.onnx`));
}
const python = process.env.RIVALS_PYTHON;
if (python) {
  const out = join(folder, "dynamic.onnx");
  const script = fileURLToPath(new URL("rivals/onnxruntime_quantize.py", import.meta.url));
  // The script takes the options of all rivals; heads and channels say nothing here.
  const unused = ["--teacher", path, "--heads", "1", "--channels", "1"];
  const file = ["--onnx", places.get("onnx"), "--out", out, "--kind", "dynamic-int8"];
  execFileSync(python, [script, ...unused, ...file], { stdio: "ignore" });
  places.set("ONNX Runtime dynamic int8", out);
}
for (const other of others) places.set(basename(other), other);

const { test } = await openDataSet("demo/pictures");
const source = createImageSource("demo/pictures");
const images = [];
for await (const { pixels } of evaluationBatches(source, test.items.slice(0, 8), 1, model.preprocessing, console.error))
  images.push(new Tensor("float32", Float32Array.from(pixels.data), pixels.dims));

const opened = [];
for (const [name, file] of places) {
  // Threads of one session must not spin while another one runs.
  const extra = { session: { force_spinning_stop: "1" } };
  const session = await InferenceSession.create(file, { intraOpNumThreads: 2, logSeverityLevel: 3, extra });
  opened.push({ name, session, times: [], left: 0, size: 0 });
}
const run = async ({ session }, image) =>
  (await session.run({ [session.inputNames[0]]: image }, ["last_hidden_state"])).last_hidden_state.data;
for (const image of images) {
  const exact = Float32Array.from(await run(opened[0], image));
  for (const file of opened) {
    const data = await run(file, image);
    exact.forEach((v, i) => {
      file.left += Math.abs(data[i] - v);
      file.size += Math.abs(v);
    });
  }
}
for (let round = 0; round < rounds; round++)
  for (const file of opened) {
    const begin = performance.now();
    await run(file, images[round % images.length]);
    file.times.push(performance.now() - begin);
  }
const at = (list, share) => list.toSorted((a, b) => a - b)[Math.floor(share * list.length)];
const whole = at(opened[0].times, 0.5);
const rows = opened.map(({ name, times, left, size }) => ({
  file: name,
  ms: at(times, 0.5),
  quartiles: [at(times, 0.25), at(times, 0.75)],
  ratio: at(times, 0.5) / whole,
  difference: left / size,
}));
console.log(`${cpus()[0].model}, ${path}`);
console.table(
  rows.map(({ file, ms, quartiles, ratio, difference }) => ({
    file,
    ms: ms.toFixed(1),
    quartiles: quartiles.map((v) => v.toFixed(1)).join("-"),
    ratio: ratio.toFixed(2),
    difference: `${(100 * difference).toFixed(1)} %`,
  })),
);
// For npm run bench.
console.log(JSON.stringify(rows));
rmSync(folder, { recursive: true });
process.exit(0);
