// The files of a saved model that hold weights, and who reads each: what a reader downloads is its size.
import type { Directory } from "../files/storage.ts";
import type { VitConfig } from "../models/config.ts";
import { isHeldBy } from "../models/conform.ts";
import type { LoadedModel, LoadingFacts, WeightsFile } from "../report/loading.ts";
import { allExports } from "./lookup.ts";

const onnxReader = (dtype: string) => `transformers.js with dtype "${dtype}", ONNX Runtime`;

/** Who reads a file; files of the same export beside it (`_data`) count with it. */
function readersOf(inTransformers: boolean): ReadonlyMap<string, string> {
  const readers = new Map([
    ["model.safetensors", inTransformers ? "Python (transformers), wecolora" : "wecolora"],
    ["onnx/model.onnx", "transformers.js in Node and on WebGPU, ONNX Runtime"],
    ["onnx/model_quantized.onnx", "transformers.js in browsers (WebAssembly)"],
  ]);
  for (const { files, dtype } of allExports())
    for (const name of files) {
      const isPart = name.endsWith("_data");
      if (name.endsWith(".onnx") && !isPart && dtype !== undefined && !readers.has(name))
        readers.set(name, onnxReader(dtype));
    }
  return readers;
}

/** The weights' files that are in a model's folder, with their sizes. */
export async function weightsFiles(directory: Directory, inTransformers = true): Promise<WeightsFile[]> {
  const sizeOf = async (name: string) => {
    const file = await directory.open(name);
    await file?.close();
    return file?.size;
  };
  const files: WeightsFile[] = [];
  for (const [name, readBy] of readersOf(inTransformers)) {
    const bytes = await sizeOf(name);
    if (bytes === undefined) continue;
    const data = name.endsWith(".onnx") ? await sizeOf(`${name}_data`) : undefined;
    files.push({ name, bytes: bytes + (data ?? 0), readBy });
  }
  return files;
}

/** What of a model's configuration decides who loads it. */
export function loadingFacts(config: VitConfig): LoadingFacts {
  const { heads, headWidth, width, head } = config;
  return {
    task: head ? "image-classification" : "image-feature-extraction",
    // Tokens are merged in ONNX files alone; their folder has the settings of the library's own class.
    inTransformers: isHeldBy({ config: { ...config, merging: undefined } }, "transformers"),
    // Version 5 reads how wide a head is where heads don't fill the width.
    needsTransformers5: headWidth !== undefined && heads * headWidth !== width,
  };
}

/** What loads a model's folder, from the files that are there. */
export function loadedModel(facts: LoadingFacts, path: string, files: readonly WeightsFile[]): LoadedModel {
  const names = files.map(({ name }) => name);
  const onnx = names.find((name) => name.endsWith(".onnx")) ?? "onnx/model.onnx";
  // Without options transformers.js takes one of two files: by default in Node and in browsers.
  const hasDefaults = names.includes("onnx/model.onnx") && names.includes("onnx/model_quantized.onnx");
  const dtype = hasDefaults
    ? undefined
    : allExports().find(({ files: exportFiles }) => exportFiles.includes(onnx))?.dtype;
  return {
    ...facts,
    path,
    hasWeights: names.includes("model.safetensors"),
    onnx,
    ...(dtype === undefined ? {} : { dtype }),
  };
}
