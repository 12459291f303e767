// ONNX Runtime in the test's own thread.
import * as ort from "onnxruntime-node";
import type { CompileOptions } from "../../src/engine/compile.ts";
import { compile } from "../../src/engine/compile.ts";
import { graph } from "../../src/engine/graph/build.ts";
import type { Value } from "../../src/engine/graph/graph.ts";
import type { OnnxRuntime } from "../../src/runtime/onnx-api.ts";
import { createOnnxDevice } from "../../src/runtime/onnxruntime.ts";
import type { Device } from "../../src/runtime/device.ts";
import type { Tensor } from "../../src/utils/tensor.ts";

export function inlineDevice(): Device {
  return createOnnxDevice(ort as unknown as OnnxRuntime, { executionProviders: ["cpu"], threads: 1 });
}

/** A device that is as another but for some of its properties. */
export const changed = (device: Device, changes: Partial<Device>): Device =>
  Object.assign(Object.create(device) as Device, changes);

/** Compiles, runs once and closes. */
export async function runOnce(
  device: Device,
  inputs: readonly Value[],
  outputs: Record<string, Value>,
  feeds: Record<string, Tensor>,
  options?: CompileOptions,
): Promise<Record<string, Tensor>> {
  const session = await compile(graph(inputs, outputs), device, options);
  try {
    return (await session.run({ feeds, fetch: Object.keys(outputs) })).tensors;
  } finally {
    await session.dispose();
  }
}
