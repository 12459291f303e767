// Exports in 4 bits in Python's onnxruntime: the tokens that the rounded numbers give. WECOLORA_PYTHON names a Python that has it.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { loadModel, Model, quantizeWeights, saveModel } from "wecolora/node";
import { noise } from "../support/noise.ts";
import { referencePath, relativeError } from "../support/reference.ts";

const python = process.env.WECOLORA_PYTHON;
const script = `
import json, sys
import numpy, onnxruntime
path, pixels, size = sys.argv[1:]
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
x = numpy.fromfile(pixels, dtype=numpy.float32).reshape(1, 3, int(size), int(size))
print(json.dumps(session.run(["last_hidden_state"], {"pixel_values": x})[0].ravel().tolist()))
`;

test.runIf(python !== undefined).each([
  // Float32 sums in another order; 11 bits at every step.
  ["onnx-q4", "model_q4.onnx", 1e-4],
  ["onnx-q4f16", "model_q4f16.onnx", 2e-2],
])("%s", async (format, file, bound) => {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-bits-python-"));
  try {
    const model = await loadModel(referencePath("teachers/hf-dinov2"));
    const size = model.config.imageSize;
    const pixels = noise([1, 3, size, size], 1, "pixels");
    await saveModel(model, folder, { format });
    await writeFile(join(folder, "pixels"), new Uint8Array(pixels.data.buffer));
    const rounded = new Model((await quantizeWeights(model, { bits: 4 })).definition, model.device);
    const { lastHiddenState } = await rounded.forward(pixels);
    const args = ["-c", script, join(folder, "onnx", file), join(folder, "pixels"), String(size)];
    const { stdout } = await promisify(execFile)(python ?? "python", args, { maxBuffer: 2 ** 26 });
    expect(relativeError(JSON.parse(stdout) as number[], lastHiddenState.data)).toBeLessThan(bound);
    await model.dispose();
  } finally {
    await rm(folder, { recursive: true });
  }
});
