// `wecolora` alone, bundled for a browser: reads, runs and writes a model over files in memory.
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as runtime from "onnxruntime-node";
import { build } from "tsdown";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryDirectory } from "wecolora";
import type * as Library from "wecolora";
import { expectClose, readReference, referencePath, root } from "./support/reference.ts";

let folder: string;
let imports: string[];
let library: typeof Library;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-portable-"));
  const bundles = await build({
    config: false,
    cwd: root,
    entry: { wecolora: "src/index.ts" },
    format: "esm",
    platform: "browser",
    outDir: folder,
    outExtensions: () => ({ js: ".mjs" }),
    noExternal: [/./],
    dts: false,
    clean: false,
    logLevel: "error",
  });
  const parts = bundles.flatMap(({ chunks }) => chunks);
  // Its own chunks are what it may import: readers of tables and scans are loaded when they are needed.
  const chunkNames = new Set(parts.map(({ fileName }) => fileName));
  imports = parts
    .flatMap((part) => (part.type === "chunk" ? [...part.imports, ...part.dynamicImports] : []))
    .filter((name) => !chunkNames.has(name));
  library = (await import(pathToFileURL(join(folder, "wecolora.mjs")).href)) as typeof Library;
});
afterAll(() => rm(folder, { recursive: true }));

describe("the package without a platform", () => {
  test("imports nothing, of Node or else", async () => {
    expect(imports).toEqual([]);
    for (const name of await readdir(folder))
      if (name.endsWith(".mjs"))
        expect(await readFile(join(folder, name), "utf8"), name).not.toMatch(/\bfrom\s*"node:|\brequire\("/);
  });

  test("reads, runs, writes and reads again a model in memory", async () => {
    const teacher = referencePath("teachers/hf-dinov2");
    const files = new Map<string, Uint8Array>();
    for (const name of await readdir(teacher)) files.set(`teacher/${name}`, await readFile(join(teacher, name)));
    const directory = library.memoryDirectory(files);
    const device = library.createOnnxDevice(runtime, { executionProviders: ["cpu"], threads: 1 });
    const definition = await library.readModel(directory.below("teacher"));
    const model = new library.Model(definition, device);
    const expected = await readReference("teachers/hf-dinov2/expected.safetensors");
    const input = expected.get("input") as Library.FloatTensor;
    const { lastHiddenState } = await model.forward(input);
    const theirs = [...expected].find(([name]) => /last_?hidden_?state/i.test(name))?.[1] as Library.FloatTensor;
    expectClose(lastHiddenState, theirs, 1e-4, "last hidden state");

    await library.writeModel(model, directory.below("written"));
    expect(await directory.list("written")).toEqual(
      expect.arrayContaining(["config.json", "model.safetensors", "onnx", "preprocessor_config.json"]),
    );
    const again = new library.Model(await library.readModel(directory.below("written")), device);
    expect((await again.forward(input)).lastHiddenState.data).toEqual(lastHiddenState.data);
    await device.dispose();
  });
});

describe("a directory in memory", () => {
  test("does what a directory on disk does", async () => {
    const directory = memoryDirectory();
    const text = (value: string) => [new TextEncoder().encode(value)];
    await directory.write("a/b.txt", text("one"));
    await directory.append("a/b.txt", " two");
    await directory.write("c.txt", text("three"));
    expect(await directory.list()).toEqual(["a", "c.txt"]);
    expect(await directory.list("a/")).toEqual(["b.txt"]);
    expect(await directory.list("absent")).toEqual([]);
    const file = await directory.below("a").open("b.txt");
    const bytes = new Uint8Array(4);
    await file?.readInto(3, bytes);
    expect(new TextDecoder().decode(bytes)).toBe(" two");
    await expect(file?.readInto(6, bytes)).rejects.toThrow("memory/a/b.txt is shorter");
    expect(await directory.open("a")).toBeUndefined();
    await directory.remove("a");
    expect(await directory.list()).toEqual(["c.txt"]);
    await expect(directory.open("../c.txt")).rejects.toThrow("leads out");
  });
});
