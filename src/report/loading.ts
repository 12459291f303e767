// How a model's folder is loaded: which file each loader reads, and a snippet for each language.

/** What of a model decides who loads it. */
export interface LoadingFacts {
  readonly task: "image-classification" | "image-feature-extraction";
  /** Whether transformers has a class for it; ONNX Runtime and wecolora read it otherwise. */
  readonly inTransformers: boolean;
  /** Whether transformers before version 5 refuses it: heads were removed. */
  readonly needsTransformers5: boolean;
}

/** What snippets follow from. */
export interface LoadedModel extends LoadingFacts {
  /** The folder as it is passed to a loader. */
  readonly path: string;
  /** Whether the folder has weights for Python, not an ONNX file alone. */
  readonly hasWeights: boolean;
  /** The ONNX file within the folder, for runtimes. */
  readonly onnx: string;
  /** The dtype to ask transformers.js for, where it would take a file that isn't there by itself. */
  readonly dtype?: string;
}

export interface Snippet {
  readonly title: string;
  /** As Markdown's fences name it. */
  readonly language: "python" | "javascript";
  readonly code: string;
}

/** A file of a model's folder that holds weights. */
export interface WeightsFile {
  /** Within the folder. */
  readonly name: string;
  readonly bytes: number;
  /** Who reads it without being asked to. */
  readonly readBy: string;
}

export const fileMegabytes = ({ bytes }: Pick<WeightsFile, "bytes">): string => (bytes / 1e6).toFixed(1);

/** A path that no loader takes for a name on the hub. */
const localPath = (path: string) => (/^([./\\]|[A-Za-z]:)/.test(path) ? path : `./${path}`);

const verbs = { "image-classification": "classify", "image-feature-extraction": "extract" } as const;

/** The call that loads a model in each language, in one line. */
export function loadingCalls({ path, task, dtype }: LoadedModel) {
  const quoted = JSON.stringify(localPath(path));
  const options = dtype === undefined ? "" : `, { dtype: ${JSON.stringify(dtype)} }`;
  return {
    python: `pipeline("${task}", model=${quoted})`,
    javascript: `await pipeline("${task}", ${quoted}${options})`,
  };
}

/** Snippets that load a model and run it on `image.jpg`. */
export function loadingSnippets(model: LoadedModel): Snippet[] {
  const { path, task, inTransformers, needsTransformers5, hasWeights, onnx } = model;
  if (!inTransformers) return [pythonRuntime(path, onnx), javascriptLibrary(path)];
  const verb = verbs[task];
  const { python, javascript } = loadingCalls(model);
  const imported = `from transformers import pipeline${needsTransformers5 ? "  # version 5 or later" : ""}`;
  const pythonLines = [imported, "", `${verb} = ${python}`, `print(${verb}("image.jpg"))`];
  const javascriptLines = [
    'import { pipeline } from "@huggingface/transformers";',
    "",
    `const ${verb} = ${javascript};`,
    `console.log(await ${verb}("image.jpg"));`,
  ];
  return [
    hasWeights
      ? { title: "Python (transformers)", language: "python", code: pythonLines.join("\n") }
      : pythonRuntime(path, onnx),
    { title: "JavaScript (transformers.js)", language: "javascript", code: javascriptLines.join("\n") },
  ];
}

const pythonRuntime = (path: string, onnx: string): Snippet => ({
  title: "Python (ONNX Runtime)",
  language: "python",
  code: [
    "import onnxruntime",
    "",
    `session = onnxruntime.InferenceSession(${JSON.stringify(`${path}/${onnx}`)})`,
    "# pixels: float32 [batch, 3, height, width], resized and normalized as preprocessor_config.json says",
    'outputs = session.run(None, {"pixel_values": pixels})',
  ].join("\n"),
});

const javascriptLibrary = (path: string): Snippet => ({
  title: "JavaScript (wecolora)",
  language: "javascript",
  code: [
    'import { loadModel } from "wecolora/node";',
    "",
    `const model = await loadModel(${JSON.stringify(path)});`,
  ].join("\n"),
});
