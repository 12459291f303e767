// Names of files in a run folder.
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import { configFormat } from "./run-schemas.ts";

/** Where cached teacher features lie while a run trains. */
export const cachedFeaturesEntry = "cached-features.bin";
/** What files were called in runs of earlier versions. */
export const earlierEntries = { predictions: "judged.jsonl", cachedFeatures: "kept-views.bin" } as const;
export const eventsEntry = "tensorboard/events.out.tfevents.wecolora";

/** What a saved state is named by: the steps done, so that names sort as numbers. */
export const stateName = (steps: number): string => `step-${String(steps).padStart(8, "0")}.safetensors`;
export const statePattern: RegExp = /^step-(\d{8})\.safetensors$/;

const fixedEntries = [
  "config.json",
  "manifest.jsonl",
  "log.jsonl",
  "predictions.jsonl",
  ...Object.values(earlierEntries),
  "report.md",
  "report.html",
  "result.json",
  "exports.json",
  cachedFeaturesEntry,
  eventsEntry,
  "checkpoints/best.safetensors",
  "checkpoints/final/adapters.safetensors",
  ...["README.md", "config.json", "preprocessor_config.json", "model.safetensors"].map((name) => `student/${name}`),
  ...["model.onnx", "model.onnx_data", "model_quantized.onnx", "model_quantized.onnx_data"].map(
    (name) => `student/onnx/${name}`,
  ),
];

function formatOf(json: string): unknown {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && "format" in value ? value.format : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The files of a run whose journal did not come along, as where a copy leaves out hidden files; undefined where config.json is
 * not a run's. Its exports are not among them.
 */
export async function filesWithoutJournal(directory: Directory): Promise<string[] | undefined> {
  const config = await readText(directory, "config.json").catch(() => undefined);
  if (config === undefined || formatOf(config) !== configFormat.format) return undefined;
  const states = (await directory.list("checkpoints")).filter((name) => statePattern.test(name));
  const files: string[] = [];
  for (const entry of [...fixedEntries, ...states.map((name) => `checkpoints/${name}`)]) {
    const file = await directory.open(entry);
    await file?.close();
    if (file) files.push(entry);
  }
  return files;
}
