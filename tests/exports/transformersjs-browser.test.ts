// A student's folder in transformers.js in Chromium, without options: on WebAssembly it takes the int8 weights, on WebGPU the
// float32 file. int8 files on WebGPU are held against the same files on the processor.
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type * as Transformers from "@huggingface/transformers";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDistillation, loadModel, saveModel } from "wecolora/node";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { browserPath, newPage, openBrowser } from "../support/browser.ts";
import { readReference, referencePath, relativeError } from "../support/reference.ts";
import type { WebServer } from "../support/web-server.ts";
import { serveFolder } from "../support/web-server.ts";
import { hasSwiftShader } from "../support/webgpu.ts";

/** transformers.js in the page. */
declare const transformers: typeof Transformers;

const require = createRequire(import.meta.url);
const libraryFolder = dirname(require.resolve("@huggingface/transformers"));
const runtimeFolder = dirname(createRequire(require.resolve("@huggingface/transformers")).resolve("onnxruntime-web"));

let folder: string;
let input: FloatTensor;
/** What wecolora gives for the input. */
let expected: Float32Array;
let browser: Browser;
let server: WebServer;
let page: Page;

beforeAll(async () => {
  if (!browserPath) return;
  folder = await mkdtemp(join(tmpdir(), "wecolora-tjs-web-"));
  const teacher = await loadModel(referencePath("teachers/hf-dinov2"));
  input = (await readReference("teachers/hf-dinov2/expected.safetensors")).get("input") as FloatTensor;
  const distillation = await createDistillation(teacher, { reductionFactor: 2, rank: 2 });
  const student = await distillation.student();
  await saveModel(student, join(folder, "student"));
  await saveModel(student, join(folder, "student"), { format: "onnx-int8" });
  expected = (await student.forward(input)).lastHiddenState.data;
  await distillation.dispose();
  await student.dispose();

  browser = await openBrowser(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);
  server = await serveFolder(folder, {
    folders: { models: folder, library: libraryFolder, runtime: runtimeFolder },
  });
  page = await newPage(browser);
  const imports = {
    "onnxruntime-web/webgpu": "/files/runtime/ort.webgpu.bundle.min.mjs",
    "onnxruntime-common": "/files/runtime/ort.webgpu.bundle.min.mjs",
  };
  await page.route(`${server.address}page`, (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<script type="importmap">${JSON.stringify({ imports })}</script>
        <script type="module">
          import * as library from "/files/library/transformers.web.js";
          const { env } = library;
          Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/files/models/" });
          env.useBrowserCache = false;
          env.backends.onnx.wasm.wasmPaths = "/files/runtime/";
          globalThis.transformers = library;
        </script>`,
    }),
  );
  await page.goto(`${server.address}page`);
  await page.waitForFunction(() => "transformers" in globalThis);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  if (folder) await rm(folder, { recursive: true });
});

interface Loaded {
  readonly features: number[];
  /** The ONNX files that were asked for. */
  readonly files: string[];
}

/** Features of the input from the student's folder. */
async function features(options: { device?: "webgpu"; dtype?: "q8" | "int8" }): Promise<Loaded> {
  const from = server.asked.length;
  const result = await page.evaluate(
    async ({ options, data, dims }) => {
      const model = await transformers.AutoModel.from_pretrained("student", options);
      const pixels = new transformers.Tensor("float32", Float32Array.from(data), dims);
      const { last_hidden_state } = (await model({ pixel_values: pixels })) as { last_hidden_state: { data: unknown } };
      const actual = Array.from(last_hidden_state.data as Float32Array);
      await model.dispose();
      return actual;
    },
    { options, data: Array.from(input.data), dims: [...input.dims] },
  );
  const files = server.asked.slice(from).filter((path) => path.endsWith(".onnx"));
  return { features: result, files: files.map((path) => path.replace(/.*\//, "")) };
}

const far = (loaded: Loaded, from: ArrayLike<number>) => relativeError(Float32Array.from(loaded.features), from);

/** The same file through other kernels, whose sums have another order; WebGPU's exp and erf are approximations. */
const kernels = 1e-4;
/** int8 weights round to a part in 250 of the largest of a channel; int8 products round the inputs too. */
const [weightRounding, productRounding] = [0.03, 0.08];

describe.skipIf(!browserPath)("in Chromium, without options", () => {
  test("WebAssembly takes the int8 weights", async () => {
    const loaded = await features({});
    expect(loaded.files).toEqual(["model_quantized.onnx"]);
    expect(far(loaded, expected)).toBeLessThan(weightRounding);
  });

  test.runIf(hasSwiftShader)("WebGPU takes the float32 file", async () => {
    const loaded = await features({ device: "webgpu" });
    expect(loaded.files).toEqual(["model.onnx"]);
    expect(far(loaded, expected)).toBeLessThan(kernels);
  });
});

describe.skipIf(!browserPath || !hasSwiftShader)(
  "int8 files on WebGPU (SwiftShader) give what WebAssembly gives",
  () => {
    test.each([
      { dtype: "q8", rounding: weightRounding },
      { dtype: "int8", rounding: productRounding },
    ] as const)("dtype $dtype", async ({ dtype, rounding }) => {
      const [gpu, cpu] = [await features({ device: "webgpu", dtype }), await features({ dtype })];
      expect(far(gpu, cpu.features)).toBeLessThan(kernels);
      expect(far(gpu, expected)).toBeLessThan(rounding);
    });
  },
);
