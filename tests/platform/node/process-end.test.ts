// Processes end by themselves: scripts that import the package and commands, after success and after errors. None of them calls
// process.exit; a process that stays alive would wait for the bound on hanging.
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noiseImage, runScript, wecolora, wecoloraProcess } from "../../support/cli.ts";
import { referencePath, root } from "../../support/reference.ts";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-end-"));
  await noiseImage(at("images", "a.jpg"), 1, 0);
  await noiseImage(at("images", "b.jpg"), 2, 1);
  await mkdir(at("onnx"));
  await copyFile(referencePath("onnx/vit.new.onnx"), at("onnx", "model.onnx"));
  await writeFile(at("broken.onnx"), "this is no protobuf");
});
afterAll(() => rm(folder, { recursive: true }));

const packageUrl = pathToFileURL(join(root, "dist/node.js")).href;

/** Runs a script that has the package as `wecolora` to its natural end. */
async function script(name: string, body: string) {
  const path = at(`${name}.mjs`);
  await writeFile(path, `import * as wecolora from ${JSON.stringify(packageUrl)};\n${body}\n`);
  return runScript(path, []);
}

const teacher = JSON.stringify(referencePath("teachers/hf-vit"));
const pixels = "{ type: 'float32', dims: [1, 3, size, size], data: new Float32Array(3 * size * size) }";

describe("a script ends by itself", () => {
  test("that only imports the package, which starts no worker", async () => {
    const outcome = await script(
      "import",
      `console.log(process.getActiveResourcesInfo().filter((name) => /Worker|MessagePort|Timeout/.test(name)).length);`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "0\n" });
  });

  test("that loads a model", async () => {
    const outcome = await script("load", `console.log((await wecolora.loadModel(${teacher})).config.depth > 0);`);
    expect(outcome).toMatchObject({ code: 0, out: "true\n" });
  });

  test("that runs a model and leaves its session open; pending calls keep it alive until they are answered", async () => {
    const outcome = await script(
      "forward",
      `const model = await wecolora.loadModel(${teacher});
       const size = model.config.imageSize;
       // Not awaited: only the pending call keeps the process alive.
       model.forward(${pixels}).then(({ pooled }) => console.log(pooled.dims[0]));`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "1\n" });
  });

  test("that disposes of its device", async () => {
    const outcome = await script(
      "dispose",
      `const device = wecolora.createNodeDevice();
       const model = await wecolora.loadModel(${teacher}, { device });
       const size = model.config.imageSize;
       await model.forward(${pixels});
       await model.dispose();
       await device.dispose();
       console.log("disposed");`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "disposed\n" });
  });

  test("that disposes of a device on which nothing ever ran", async () => {
    const outcome = await script(
      "idle",
      `const device = wecolora.createNodeDevice(); await device.dispose(); console.log("disposed");`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "disposed\n" });
  });

  test("whose loadModel throws", async () => {
    const outcome = await script(
      "throws",
      `await wecolora.loadModel("/no/such/model").catch((error) => console.log(error.name));`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "UserError\n" });
  });

  test("whose call to a worker fails", async () => {
    const outcome = await script(
      "fails",
      `const device = wecolora.defaultDevice();
       await device.createSession({ model: new Uint8Array(8) }).catch((error) => console.log(error.name));
       await device.upload({ type: "float32", dims: [1], data: new Float32Array(1), more: () => 0 }).catch(() => 0);
       await device.createSession({ model: () => 0 }).catch((error) => console.log(error.name));`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "RunError\nDataCloneError\n" });
  });

  test("that loads an ONNX file", async () => {
    const path = JSON.stringify(at("onnx", "model.onnx"));
    const outcome = await script(
      "onnx",
      `console.log((await wecolora.loadModel(${path}, { imageSize: 32 })).config.depth);`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "4\n" });
  });

  test("that decodes images and leaves the source open", async () => {
    const outcome = await script(
      "images",
      `const source = wecolora.createImageSource(${JSON.stringify(at("images"))});
       const { items } = await wecolora.listImages(${JSON.stringify(at("images"))});
       const preprocessing = { resize: { shortestEdge: 8 }, cropSize: 8, interpolation: "bicubic", mean: [0, 0, 0], std: [1, 1, 1] };
       const crops = await Promise.all(items.map((item) => source.evaluationCrop(item, preprocessing)));
       console.log(crops.map((crop) => crop.length).join());
       await source.evaluationCrop({ name: "gone.jpg" }, preprocessing).catch((error) => console.log(error.name));`,
    );
    expect(outcome).toMatchObject({ code: 0, out: "192,192\nUserError\n" });
  });

  test("in which a promise is rejected that nobody handles", async () => {
    const outcome = await script(
      "rejected",
      `await wecolora.loadModel(${teacher}); void Promise.reject(new Error("the user's own"));`,
    );
    expect(outcome.code).toBe(1);
    expect(outcome.err).toContain("the user's own");
  });
});

describe("a command ends by itself", () => {
  test("inspect, on a model and on files that are none", async () => {
    expect(await wecolora("inspect", referencePath("teachers/hf-vit"))).toMatchObject({ code: 0 });
    expect(await wecolora("inspect", at("onnx", "model.onnx"), "--image-size", "32")).toMatchObject({ code: 0 });
    expect(await wecolora("inspect", at("broken.onnx"))).toMatchObject({ code: 2 });
    expect(await wecolora("inspect", at("onnx", "model.onnx"), "--image-size", "16")).toMatchObject({ code: 2 });
  });

  test("inspect, on an ONNX file that is cut off", async () => {
    const bytes = await readFile(referencePath("onnx/vit.new.onnx"));
    await writeFile(at("cut.onnx"), bytes.subarray(0, Math.floor(bytes.byteLength / 2)));
    const outcome = await wecolora("inspect", at("cut.onnx"));
    expect(outcome).toMatchObject({ code: 2 });
    expect(outcome.err).toContain("cut off");
  });

  test("features", async () => {
    const outcome = await wecolora(
      ...["features", "--model", at("onnx", "model.onnx"), "--image-size", "32"],
      ...["--data", at("images"), "--out", at("features.safetensors")],
    );
    expect(outcome).toMatchObject({ code: 0 });
  });

  test("a command with options that are wrong", async () => {
    expect(await wecolora("features", "--model", "nowhere")).toMatchObject({ code: 2 });
    expect(await wecolora("--help")).toMatchObject({ code: 0 });
  });

  test("a task whose launcher is gone", async () => {
    const args = ["features", "--model", join(root, "demo/teacher"), "--data", join(root, "demo/pictures")];
    const child = wecoloraProcess({ WECOLORA_PARENT: "stdin" }, ...args, "--out", at("task.safetensors"));
    await child.hasPrinted(/^features/m);
    child.endInput();
    const { code, err } = await child.ended;
    expect(code, err).toBe(143);
    expect(err).toContain("Run the same command again");
  });
});
