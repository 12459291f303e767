// The demo's teacher and 180 images in Chromium beside Node, on the same machine with the same threads: figures, pixels, times,
// memory, and whether the zip's student loads on the command line and in transformers.js (and Python's
// where WECOLORA_PYTHON names one). Prints the table of docs/reference/browser.md.
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { unzipSync } from "fflate";
import { env, pipeline } from "@huggingface/transformers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DistillRunResult, ProgressEvent } from "wecolora/node";
import { distill, fromPretrained, createNodeDevice } from "wecolora/node";
import type { ResultRow, WebDistillResult, WebModel } from "wecolora/web";
import { browserPath } from "../../support/browser.ts";
import { wecolora } from "../../support/cli.ts";
import { difference, featuresOf } from "../../support/kinds.ts";
import type { BrowserApp } from "../../support/platforms.ts";
import { filesBelow } from "../../support/web-platform.ts";
import { openBrowserApp } from "../../support/platforms.ts";
import { root } from "../../support/reference.ts";
import type { Under } from "../../support/web-app/page.ts";

declare const under: Under;

const threads = 2;
/** A Python that has transformers; what needs it is left out where none is named. */
const python = process.env.WECOLORA_PYTHON;
interface Loaded {
  readonly version: string;
  /** By folder and image. */
  readonly features: readonly (readonly (readonly number[])[])[];
}
/** Images of each of the 30 classes, to make the student with and to evaluate it on. */
const imagesPerClass = Number(process.env.WECOLORA_WEB_IMAGES_A_CLASS ?? 3);
const options = { method: "refit", shape: "balanced", reductionFactor: 2, report: false } as const;
/** Steps of the paper's recipe, which are timed but for the first. */
const stepping = {
  recipe: "paper",
  steps: 4,
  batch: 8,
  rank: 16,
  warmupEpochs: 0,
  evaluate: false,
  evaluateSteps: 0,
  report: false,
} as const;

type Times = Record<string, number>;

/** Seconds from each stage's begin to the next one's. */
function stageTimes(): { times: Times; onProgress: (event: ProgressEvent) => void; end: () => void } {
  const times: Times = {};
  let [stage, since] = ["reading", performance.now()];
  const next = (name: string) => {
    const now = performance.now();
    times[stage] = (times[stage] ?? 0) + (now - since) / 1000;
    [stage, since] = [name, now];
  };
  return { times, onProgress: (event) => event.status === "stage" && next(event.stage), end: () => next("") };
}

/** Seconds of a step, of a run with `stepping`. */
async function stepSeconds(run: (onProgress: (event: ProgressEvent) => void) => Promise<unknown>): Promise<number> {
  const ends: number[] = [];
  await run((event) => {
    if (event.status === "progress" && event.stage === "distilling") ends.push(performance.now());
  });
  return (ends[ends.length - 1] - ends[0]) / 1000 / (ends.length - 1);
}

const studentOf = (rows: readonly ResultRow[]): ResultRow => {
  const row = rows.find(({ name }) => name === "student");
  if (!row) throw new Error("there is no student");
  return row;
};

describe.skipIf(!browserPath)("the demo in Chromium", () => {
  let app: BrowserApp;
  let work: string;
  let node: DistillRunResult;
  let nodeTimes: Times;
  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), "wecolora-web-demo-"));
    for (const split of ["train", "val"])
      for (const group of await readdir(join(root, "demo/pictures", split))) {
        const names = (await readdir(join(root, "demo/pictures", split, group))).sort().slice(0, imagesPerClass);
        for (const name of names)
          await cp(join(root, "demo/pictures", split, group, name), join(work, "images", split, group, name));
      }
    const watch = stageTimes();
    const teacher = join(root, "demo/teacher");
    const begin = performance.now();
    const device = createNodeDevice({ threads });
    const model = await fromPretrained(teacher, { device });
    const read = (performance.now() - begin) / 1000;
    const images = (await readdir(join(work, "images/train"))).slice(0, 16).map(async (group) => {
      const [name] = await readdir(join(work, "images/train", group));
      return join(work, "images/train", group, name);
    });
    const paths = await Promise.all(images);
    const decoding = performance.now();
    const pixels = await model.preprocess(paths);
    const decoded = (performance.now() - decoding) / 1000;
    await model.forward(pixels);
    const forward = performance.now();
    await model.forward(pixels);
    const perImage = (performance.now() - forward) / 1000 / pixels.dims[0];
    await device.dispose();
    node = await distill({
      ...options,
      teacher,
      images: join(work, "images"),
      out: join(work, "node"),
      threads,
      onProgress: watch.onProgress,
    });
    watch.end();
    const step = await stepSeconds((onProgress) =>
      distill({ ...stepping, teacher, images: join(work, "images"), out: join(work, "steps"), threads, onProgress }),
    );
    nodeTimes = {
      ...watch.times,
      "reading the teacher": read,
      decoding: decoded,
      "forward pass, an image": perImage,
      step,
    };
    app = await openBrowserApp();
  });
  afterAll(async () => {
    await app?.close();
    await rm(work, { recursive: true, force: true });
  });

  test("the student has Node's figures, and its zip loads elsewhere", async () => {
    const server = await app.serve({ folders: { teacher: join(root, "demo/teacher"), images: join(work, "images") } });
    const page = await app.open(server);
    const got = await page.evaluate(
      async ({ options, stepping, threads }) => {
        const times: Record<string, number> = {};
        let [stage, since] = ["reading", performance.now()];
        const next = (name: string) => {
          const now = performance.now();
          times[stage] = (times[stage] ?? 0) + (now - since) / 1000;
          [stage, since] = [name, now];
        };
        const web = under.connect({ device: "cpu", threads });
        const files = await under.filesAt("teacher");
        const images = await under.filesAt("images");
        await web.device();
        next("reading the teacher");
        const teacher = await web.fromPretrained(files);
        next("decoding");
        const chosen = [...new Map([...images.files].map(([path, blob]) => [path.split("/")[1], blob])).values()];
        const pixels = await teacher.preprocess(chosen.slice(0, 16));
        next("warming up");
        await teacher.forward(pixels);
        next("forward pass");
        await teacher.forward(pixels);
        next("reading");
        const run = await web.distill({
          ...options,
          teacher,
          images,
          onProgress: (event) => event.status === "stage" && next(event.stage),
        });
        next("");
        const ends: number[] = [];
        await web.distill({
          ...stepping,
          teacher,
          images,
          onProgress(event) {
            if (event.status === "progress" && event.stage === "distilling") ends.push(performance.now());
          },
        });
        times.step = (ends[ends.length - 1] - ends[0]) / 1000 / (ends.length - 1);
        const state = globalThis as Record<string, unknown>;
        Object.assign(state, { web, run, teacher, images });
        return { times, results: run.results };
      },
      { options, stepping, threads },
    );
    const times: Times = { ...got.times, "forward pass, an image": got.times["forward pass"] / 16 };

    const [mine, nodes] = [studentOf(got.results), studentOf(node.results)];
    console.log(JSON.stringify({ mine, nodes }, null, 1));
    for (const [stage, seconds] of Object.entries(times))
      if (nodeTimes[stage] !== undefined)
        console.log(
          `| ${stage} | ${nodeTimes[stage].toFixed(2)} s | ${seconds.toFixed(2)} s | ${(seconds / nodeTimes[stage]).toFixed(1)} |`,
        );
    // Of the same weights from nearly the same pixels.
    const [a, b] = [mine.fidelity?.meanAbsoluteDifference ?? 0, nodes.fidelity?.meanAbsoluteDifference ?? 1];
    expect(Math.abs(a / b - 1)).toBeLessThan(0.02);
    expect(Math.abs((mine.knn?.top1 ?? 0) - (nodes.knn?.top1 ?? 1))).toBeLessThan(0.05);

    // Pixel values as models take them, in steps of 8-bit colours.
    const paths = (await filesBelow(join(work, "images")))
      .map((file) => file.webkitRelativePath.split("/").slice(1).join("/"))
      .filter((_, i) => i % 7 === 0);
    const seenInPage = (path: string) =>
      page.evaluate(async (path) => {
        const { teacher, images } = globalThis as unknown as {
          teacher: WebModel;
          images: { files: Map<string, Blob> };
        };
        return Array.from((await teacher.preprocess([images.files.get(path) as Blob])).data);
      }, path);
    const model = await fromPretrained(join(root, "demo/teacher"));
    const { std } = model.preprocessing;
    let [largest, sum, count] = [0, 0, 0];
    for (const path of paths) {
      const seen = await seenInPage(path);
      const { data } = await model.preprocess(join(work, "images", path));
      const plane = data.length / 3;
      data.forEach((value, k) => {
        const off = Math.abs(value - seen[k]) * 255 * std[Math.floor(k / plane)];
        largest = Math.max(largest, off);
        sum += off;
        count++;
      });
    }
    console.log(
      `pixels of ${paths.length} images, of 255: mean ${(sum / count).toFixed(4)}, largest ${largest.toFixed(1)}`,
    );
    expect(sum / count).toBeLessThan(0.5);

    const folder = join(work, "unzipped");
    const downloading = page.waitForEvent("download");
    await page.evaluate(async () => {
      const { run } = globalThis as unknown as { run: WebDistillResult };
      const href = URL.createObjectURL(await new Response(run.output.zip("run")).blob());
      Object.assign(document.createElement("a"), { href, download: "run.zip" }).click();
    });
    const archive = await readFile(await (await downloading).path());
    for (const [path, bytes] of Object.entries(unzipSync(archive))) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), bytes);
    }
    const inspected = await wecolora("inspect", join(folder, "run/student"));
    expect(inspected.code, inspected.err).toBe(0);
    env.allowRemoteModels = false;
    env.localModelPath = `${join(folder, "run")}/`;
    const embed = await pipeline("image-feature-extraction", "student", { dtype: "fp32" });
    const image = join(work, "images", paths[0]);
    const tensor = await embed(image);
    const student = await fromPretrained(join(folder, "run/student"));
    const { tokens } = await featuresOf(student, image, "down");
    await student.dispose();
    // transformers.js resizes with sharp, Python's transformers with torch: pixels differ by a level or two of 255.
    expect(tensor.dims).toEqual(tokens.dims);
    const inJavaScript = difference(Array.from(tensor.data as Float32Array), tokens.data);
    console.log(`transformers.js: off by ${inJavaScript.toExponential(1)}`);
    expect(inJavaScript).toBeLessThan(5e-2);
    if (python) {
      const out = join(work, "out.json");
      const script = join(root, "tests/support/run_loaders.py");
      await promisify(execFile)(python, [script, "transformers", out, image, "--", join(folder, "run/student")], {
        env: { ...process.env, HF_HUB_OFFLINE: "1" },
      });
      const { version, features } = JSON.parse(await readFile(out, "utf8")) as Loaded;
      const inPython = difference(features[0][0], tokens.data);
      console.log(`transformers ${version}: off by ${inPython.toExponential(1)}`);
      expect(inPython).toBeLessThan(1e-2);
    }
    await page.close();
  });
});
