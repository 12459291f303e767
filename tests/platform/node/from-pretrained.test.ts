// fromPretrained in transformers.js's spelling, and preprocess against what evaluation sees of the same files.
import { readFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import sharp from "sharp";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { PretrainedProgress } from "wecolora/node";
import {
  createImageSource,
  evaluationBatches,
  fromPretrained,
  loadModel,
  PretrainedModel,
  UserError,
} from "wecolora/node";
import { closeServer, commit, listen, startHub } from "../../support/hub-server.ts";
import type { HubServer } from "../../support/hub-server.ts";
import { referencePath, root } from "../../support/reference.ts";

const teacher = referencePath("teachers/hf-dinov2");
const folder = join(root, "demo/pictures/train/bird");
let names: string[];
let bytes: Buffer<ArrayBuffer>;
beforeAll(async () => {
  names = (await readdir(folder)).sort().slice(0, 3);
  bytes = await readFile(join(folder, names[0]));
});

async function evaluated(model: PretrainedModel): Promise<Float32Array> {
  const source = createImageSource(folder);
  const items = names.map((name) => ({ name }));
  const skip = vi.fn();
  try {
    for await (const { pixels } of evaluationBatches(source, items, 8, model.preprocessing, skip)) return pixels.data;
  } finally {
    await source.dispose();
  }
  throw new Error("nothing was read");
}

describe("preprocess", () => {
  test("gives what evaluation sees of the same files", async () => {
    const model = await fromPretrained(teacher);
    const size = model.config.imageSize;
    const pixels = await model.preprocess(names.map((name) => join(folder, name)));
    expect(pixels.type).toBe("float32");
    expect(pixels.dims).toEqual([3, 3, size, size]);
    expect(pixels.data).toEqual(await evaluated(model));
    expect((await model.forward(pixels)).pooled.dims).toEqual([3, model.config.width]);
  });

  test("gives the same for every form of an image", async () => {
    const model = await fromPretrained(teacher);
    const path = join(folder, names[0]);
    const server = createServer((request, response) => {
      if (request.url === "/bird.jpg") response.end(bytes);
      else response.writeHead(404).end();
    });
    const address = await listen(server);
    try {
      const { data, dims } = await model.preprocess(path);
      expect(dims[0]).toBe(1);
      // Without an orientation or a profile, sharp's pixels are the decoder's.
      const { data: raw, info } = await sharp(bytes, { ignoreIcc: true }).raw().toBuffer({ resolveWithObject: true });
      const rgba = new Uint8ClampedArray(4 * info.width * info.height).fill(7);
      for (let i = 0; i < info.width * info.height; i++)
        for (let c = 0; c < 3; c++) rgba[4 * i + c] = raw[info.channels * i + c];
      const arrayBuffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
      const forms = {
        "file URL as text": pathToFileURL(path).href,
        "file URL": pathToFileURL(path),
        "http URL": `${address}/bird.jpg`,
        "data URL": `data:image/jpeg;base64,${bytes.toString("base64")}`,
        Uint8Array: new Uint8Array(bytes),
        ArrayBuffer: arrayBuffer,
        Blob: new Blob([bytes]),
        sharp: sharp(bytes, { ignoreIcc: true }),
        RGBA: { width: info.width, height: info.height, data: rgba },
        RGB: { width: info.width, height: info.height, data: new Uint8Array(raw) },
      };
      for (const [name, form] of Object.entries(forms)) expect((await model.preprocess(form)).data, name).toEqual(data);
      // The caller's memory stays the caller's.
      expect(arrayBuffer.byteLength).toBe(bytes.byteLength);
      await expect(model.preprocess([path, `${address}/other.jpg`])).rejects.toThrow("answered 404");
    } finally {
      await closeServer(server);
    }
  });

  test("names the image that can't be read", async () => {
    const model = await fromPretrained(teacher);
    const absent = join(folder, "absent.jpg");
    await expect(model.preprocess(absent)).rejects.toMatchObject({
      name: "UserError",
      code: "FILE_NOT_FOUND",
      message: `There is no file ${absent}.`,
    });
    await expect(model.preprocess([])).rejects.toThrow("the list is empty");
    await expect(model.preprocess([join(folder, names[0]), new Uint8Array(8)])).rejects.toThrow("image 2");
    await expect(model.preprocess({ width: 4, height: 4, data: new Uint8Array(5) })).rejects.toThrow(
      "1 to 4 values of 8 bits for each of its 4 x 4 pixels, got 5",
    );
    await expect(model.preprocess("ftp://example.org/a.jpg")).rejects.toThrow("not from ftp:");
    await expect(model.preprocess({} as never)).rejects.toThrow("none of the forms");
    await expect(model.preprocess(absent, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: "AbortError",
    });
  });
});

describe("fromPretrained", () => {
  test("computes in the dtype that is asked for", async () => {
    const exact = await fromPretrained(teacher, { device: "cpu", dtype: "fp32" });
    const pixels = await exact.preprocess(join(folder, names[0]));
    const { data } = (await exact.forward(pixels)).pooled;
    const size = data.reduce((sum, v) => sum + Math.abs(v), 0);
    const differences: Record<string, number> = {};
    for (const dtype of ["fp16", "int8", "q8"] as const) {
      const model = await fromPretrained(teacher, { dtype });
      const near = (await model.forward(pixels)).pooled.data;
      differences[dtype] = data.reduce((sum, v, i) => sum + Math.abs(v - near[i]), 0) / size;
      await model.dispose();
    }
    expect(differences.fp16).toBeGreaterThan(0);
    expect(differences.fp16).toBeLessThan(0.01);
    expect(differences.q8).toBe(differences.int8);
    expect(differences.int8).toBeLessThan(0.2);
  });

  test.each([
    [
      { device: "wasm" },
      'device must be one of "auto", "cpu", "cuda", "webgpu", "coreml", "dml", "directml", got "wasm": it runs in browsers',
    ],
    [{ device: "gpu" }, "name the kind"],
    [{ device: "cda" }, 'Did you mean "cuda"?'],
    [{ dtype: "q4" }, 'dtype must be one of "fp32", "fp16", "int8", "q8", got "q4".'],
    [{ dtype: "bnb4" }, 'got "bnb4"'],
    [{ dtype: "float32" }, 'got "float32"'],
  ])("refuses %o by name", async (options, message) => {
    const loading = fromPretrained(teacher, options as never);
    await expect(loading).rejects.toThrow(message);
    await expect(loading).rejects.toMatchObject({ code: "INVALID_OPTION" });
    await expect(loading).rejects.toThrow(UserError);
  });

  test("runs on auto, and stops before anything is read", async () => {
    const model = await fromPretrained(teacher, { device: "auto" });
    expect(model).toBeInstanceOf(PretrainedModel);
    expect(model.source).toBe(teacher);
    await expect(fromPretrained(teacher, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: "AbortError",
    });
    expect((await loadModel(teacher)).config).toEqual(model.config);
  });
});

describe("from the hub", () => {
  let hub: HubServer;
  let cacheDir: string;
  beforeAll(async () => {
    const files = await readdir(teacher);
    const wanted = files.filter((name) => /^(config|preprocessor_config)\.json$|^model\.safetensors$/.test(name));
    hub = await startHub(
      new Map(await Promise.all(wanted.map(async (name) => [name, await readFile(join(teacher, name))] as const))),
    );
    vi.stubEnv("HF_ENDPOINT", hub.endpoint);
    vi.stubEnv("HF_HUB_OFFLINE", "");
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await hub.close();
  });
  beforeEach(async () => {
    hub.reset();
    cacheDir = await mkdtemp(join(tmpdir(), "wecolora-pretrained-"));
    return () => rm(cacheDir, { recursive: true });
  });

  test("reports transformers.js's events, and caches where cacheDir says", async () => {
    const events: PretrainedProgress[] = [];
    const onProgress = (event: PretrainedProgress) => events.push(event);
    const model = await fromPretrained("me/small", { cacheDir, revision: "main", onProgress });
    expect(model.config).toEqual((await fromPretrained(teacher)).config);
    expect(await readdir(join(cacheDir, "models--me--small", "snapshots"))).toEqual([commit]);
    const ofWeights = events.flatMap((event) => ("file" in event && event.file === "model.safetensors" ? [event] : []));
    const statuses = ofWeights.map(({ status }) => status);
    expect(statuses.slice(0, 3)).toEqual(["initiate", "download", "progress"]);
    expect(statuses.slice(-2)).toEqual(["progress", "done"]);
    const total = (await readFile(join(teacher, "model.safetensors"))).byteLength;
    expect(ofWeights.at(-2)).toEqual({
      status: "progress",
      name: "me/small",
      file: "model.safetensors",
      loaded: total,
      total,
      progress: 100,
    });
    expect(events.at(-1)).toEqual({ status: "ready", model: "me/small" });

    // From the cache: nothing is downloaded.
    events.length = 0;
    await fromPretrained("me/small", { cacheDir, onProgress });
    expect(new Set(events.map(({ status }) => status))).toEqual(new Set(["initiate", "done", "ready"]));
  });

  test("asks no server with localFilesOnly", async () => {
    await expect(fromPretrained("me/small", { cacheDir, localFilesOnly: true })).rejects.toThrow(
      "localFilesOnly is set",
    );
    expect(hub.asked).toEqual([]);
    await fromPretrained("me/small", { cacheDir });
    hub.reset();
    expect((await fromPretrained("me/small", { cacheDir, localFilesOnly: true })).config.depth).toBeGreaterThan(0);
    expect(hub.asked).toEqual([]);
  });
});
