// Exports in 2 to 4 bits: what the files hold is what was rounded, as transformers.js, onnxruntime-web in a browser and the command
// line see it.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AutoModel, env, Tensor } from "@huggingface/transformers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { copyBlocks, exportModel, loadModel, Model, quantizeWeights, saveModel } from "wecolora/node";
import type * as Web from "onnxruntime-web";
import { required } from "../../src/utils/required.ts";
import { rows } from "../../src/utils/tensor.ts";
import { browserPath, newPage, openBrowser } from "../support/browser.ts";
import { noiseImage, wecolora } from "../support/cli.ts";
import { readTensors, referencePath, relativeError, root } from "../support/reference.ts";
import { hasSwiftShader, withSwiftShader } from "../support/webgpu.ts";

env.allowRemoteModels = false;
env.localModelPath = "/";

/** How far tokens may be from those of the float graph with the same numbers: float32, float16 at every step, int8 inputs. */
const files = [
  { format: "onnx-q4", dtype: "q4", options: {}, file: "model_q4.onnx", bound: 1e-3 },
  { format: "onnx-q4f16", dtype: "q4f16", options: {}, file: "model_q4f16.onnx", bound: 2e-2 },
  { format: "onnx-q4", dtype: "q4", options: { accuracyLevel: 4 }, file: "model_q4.onnx", bound: 0.1 },
  { format: "onnx-q4", dtype: "q4", options: { blockSize: 64 }, file: "model_q4.onnx", bound: 1e-3 },
  { format: "onnx-q4f16", dtype: "q4f16", options: { blockSize: 128 }, file: "model_q4f16.onnx", bound: 2e-2 },
  { format: "onnx-q4", dtype: "q4", options: { bits: 3, blockSize: 64 }, file: "model_q4.onnx", bound: 1e-3 },
  { format: "onnx-q4f16", dtype: "q4f16", options: { bits: 3 }, file: "model_q4f16.onnx", bound: 2e-2 },
  { format: "onnx-q4", dtype: "q4", options: { bits: 2, blockSize: 64 }, file: "model_q4.onnx", bound: 1e-3 },
] as const;
interface Stored {
  readonly bits: 2 | 3 | 4;
  readonly blockSize: 32 | 64 | 128;
}
type Options = Partial<Stored> & { readonly accuracyLevel?: 4 };
const storedOf = ({ bits = 4, blockSize = 32 }: Options): Stored => ({ bits, blockSize });
const keyOf = (options: Options): string => JSON.stringify(storedOf(options));

/** Half the teacher's: SwiftShader's products in few bits are slow. */
const side = 112;
let folder: string;
let pixels: FloatTensor;
/** What the rounded numbers give, by how they are stored. */
const expected = new Map<string, FloatTensor>();
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-bits-"));
  for (let i = 0; i < 18; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
  const teacher = await loadModel(join(root, "demo/teacher"), { imageSize: side });
  const model = new Model(copyBlocks(teacher, [0, 6]), teacher.device);
  const given = (await readTensors(join(root, "demo/expected.safetensors"))).get("pixel_values") as FloatTensor;
  const every = given.dims[3] / side;
  const at224 = rows({ ...given, data: Float32Array.from(given.data) }, 0, 1).data;
  pixels = {
    type: "float32",
    dims: [1, 3, side, side],
    data: Float32Array.from({ length: 3 * side ** 2 }, (_, i) => {
      const [row, column] = [Math.floor(i / side), i % side];
      return at224[(row * every * side + column) * every];
    }),
  };
  for (const { options } of files) {
    const { definition } = await quantizeWeights(model, storedOf(options));
    expected.set(keyOf(options), (await new Model(definition, teacher.device).forward(pixels)).lastHiddenState);
  }
  for (const [i, { format, options }] of files.entries()) await saveModel(model, at(String(i)), { format, ...options });
  await saveModel(model, at("float"), { format: "onnx" });
  await model.dispose();
});
afterAll(() => rm(folder, { recursive: true }));

describe.each(files.map((file, i) => ({ ...file, i })))("$format $options", ({ i, dtype, file, bound, options }) => {
  test(`transformers.js opens it as ${dtype}, and gives what the rounded numbers give`, async () => {
    const model = await AutoModel.from_pretrained(at(String(i)), { dtype });
    const { last_hidden_state: features } = (await model({
      pixel_values: new Tensor("float32", pixels.data, [...pixels.dims]),
    })) as { last_hidden_state: Tensor };
    const reference = required(expected, keyOf(options));
    expect(features.dims).toEqual(reference.dims);
    expect(relativeError(features.data as Float32Array, reference.data)).toBeLessThan(bound);
  });

  test("takes its bits a weight, with a scale and a zero point for each block", () => {
    expect(readdirSync(at(String(i), "onnx"))).toEqual([file]);
    const share = statSync(at(String(i), "onnx", file)).size / statSync(at("float", "onnx", "model.onnx")).size;
    // 16 + 4 bits for a block; positions have 16 bits. The patches' map, 0.06 of this small model, has 8 whatever the others have.
    const { bits, blockSize } = storedOf(options);
    const each = bits + 20 / blockSize;
    expect(share).toBeGreaterThan(each / 32);
    expect(share).toBeLessThan(each / 32 + 0.025 + (0.06 * (4 - bits)) / 32);
  });
});

/** A page over HTTP, for WebAssembly: onnxruntime-web and the exports. */
async function servePage(): Promise<{ url: string; close: () => void }> {
  const web = join(root, "node_modules/onnxruntime-web/dist");
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    const [, kind, ...rest] = path.split("/");
    const types: Readonly<Record<string, string>> = {
      mjs: "text/javascript",
      js: "text/javascript",
      wasm: "application/wasm",
    };
    const base = kind === "ort" ? web : folder;
    void (path === "/" ? Promise.resolve("<!doctype html><title>bits</title>") : readFile(join(base, ...rest))).then(
      (body) => {
        const type = types[path.split(".").at(-1) ?? ""] ?? (path === "/" ? "text/html" : "application/octet-stream");
        response.writeHead(200, { "content-type": type }).end(body);
      },
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}

describe.runIf(browserPath !== undefined)("in Chromium, onnxruntime-web", () => {
  test("runs the files by WebAssembly", async () => {
    const { url, close } = await servePage();
    const browser = await openBrowser();
    try {
      const page = await newPage(browser);
      await page.goto(url);
      await page.addScriptTag({ url: `${url}ort/ort.all.min.js` });
      for (const [i, { file, bound, options }] of files.entries()) {
        const actual = await page.evaluate(
          async ({ model, data, dims }) => {
            const { ort } = globalThis as typeof globalThis & { ort: typeof Web };
            ort.env.wasm.wasmPaths = `${location.origin}/ort/`;
            ort.env.wasm.numThreads = 1;
            const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
            const pixel_values = new ort.Tensor("float32", Float32Array.from(data), dims);
            return [...((await session.run({ pixel_values })).last_hidden_state.data as Float32Array)];
          },
          { model: `${url}files/${i}/onnx/${file}`, data: [...pixels.data], dims: [...pixels.dims] },
        );
        const reference = required(expected, keyOf(options));
        expect(relativeError(Float32Array.from(actual), reference.data), file).toBeLessThan(bound);
      }
    } finally {
      await browser.close();
      close();
    }
  });
});

describe.runIf(hasSwiftShader)("on WebGPU", () => {
  // float16 is no certain feature of a device.
  test.each([0, 3, 5])("file %i gives what it gives on the CPU", async (i) => {
    const work = join(root, "tests/support/onnx-on-device.mjs");
    const file = at(String(i), "onnx", files[i].file);
    const outcomes = await Promise.all(
      ["cpu", "webgpu"].map((device) => withSwiftShader(work, device, file, String(side))),
    );
    for (const { code, err } of outcomes) expect(code, err).toBe(0);
    const [cpu, gpu] = outcomes.map(({ out }) => Float32Array.from(JSON.parse(out) as number[]));
    expect(relativeError(gpu, cpu)).toBeLessThan(files[i].bound);
  });
});

describe("wecolora export --to onnx-q4", () => {
  const teacher = referencePath("teachers/hf-vit");
  const shared = ["--model", teacher, "--data"];

  test("rounds for the images that are named, and says so", async () => {
    const plain = await wecolora("export", ...shared, at("data"), "--to", "onnx-q4", "--out", at("plain"), "--json");
    expect(plain).toMatchObject({ code: 0 });
    const images = ["--images", at("data")];
    const rounded = await wecolora(
      "export",
      ...shared,
      at("data"),
      "--to",
      "onnx-q4,onnx-q4f16",
      ...images,
      "--out",
      at("rounded"),
      "--json",
    );
    expect(rounded).toMatchObject({ code: 0 });
    expect(rounded.err).toContain("weights are rounded for 18 images");
    const figures = [plain, rounded].map(
      ({ out }) => JSON.parse(out.trimEnd().split("\n").at(-1) as string).exports as { relativeDifference: number }[],
    );
    expect(figures[1][0].relativeDifference).toBeLessThan(figures[0][0].relativeDifference);
    const bytes = (path: string) => readFileSync(at(path, "onnx", "model_q4.onnx"));
    const again = await wecolora(
      "export",
      ...shared,
      at("data"),
      "--to",
      "onnx-q4",
      ...images,
      "--out",
      at("again"),
      "--json",
    );
    expect(again).toMatchObject({ code: 0 });
    expect(bytes("again").equals(readFileSync(at("rounded", "onnx-q4", "onnx", "model_q4.onnx")))).toBe(true);
    expect(bytes("again").equals(bytes("plain"))).toBe(false);
    // `images` is this command's own option, beside `data`, for callers of the library too.
    const called = { model: teacher, data: at("data"), images: at("data"), out: at("called") };
    await exportModel({ ...called, to: "onnx-q4" });
    expect(bytes("called").equals(bytes("again"))).toBe(true);
  });

  test("--images is refused for exports that make no use of it", async () => {
    const outcome = await wecolora(
      "export",
      ...shared,
      at("data"),
      "--to",
      "onnx",
      "--images",
      at("data"),
      "--out",
      at("none"),
    );
    expect(outcome.code).toBe(2);
    expect(outcome.err).toContain("--images is for exports that round weights for images (onnx-q4, onnx-q4f16)");
  });

  test("an option that none of the named exports has is refused", async () => {
    const given = ["export", ...shared, at("data"), "--out", at("refused"), "--bits", "3"];
    const outcome = await wecolora(...given, "--to", "onnx,onnx-int8");
    expect(outcome.code).toBe(2);
    expect(outcome.err).toContain("--bits is for onnx-q4, onnx-q4f16, and --to is onnx, onnx-int8. Leave it out.");
    const bad = await wecolora(...given.slice(0, -1), "5", "--to", "onnx-q4");
    expect(bad).toMatchObject({ code: 2 });
    expect(bad.err).toContain("--bits must be 2, 3, or 4, got 5.");
  });
});
