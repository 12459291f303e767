// A ViT-B and 100 images in Chromium: what "Honest limits" of docs/reference/browser.md promises. Weights are random, since time and
// memory follow from shapes alone. Prints both.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Model } from "wecolora/node";
import { saveModel } from "wecolora/node";
import { browserPath } from "../../support/browser.ts";
import type { BrowserApp } from "../../support/platforms.ts";
import { openBrowserApp } from "../../support/platforms.ts";
import { root } from "../../support/reference.ts";
import type { Under } from "../../support/web-app/page.ts";

declare const under: Under;

/** What a machine of 8 GB has for a browser besides its system. */
const mostMegabytes = 7000;

/** Megabytes of all processes of a browser; shared pages count by their share. */
async function browserMegabytes(): Promise<number> {
  let kilobytes = 0;
  for (const id of (await readdir("/proc")).filter((name) => /^\d+$/.test(name)))
    try {
      if (!/chrom/.test((await readFile(`/proc/${id}/cmdline`, "utf8")).split("\0")[0])) continue;
      kilobytes += Number(/^Pss:\s+(\d+)/m.exec(await readFile(`/proc/${id}/smaps_rollup`, "utf8"))?.[1] ?? 0);
    } catch {
      // It ended meanwhile.
    }
  return kilobytes / 1000;
}

describe.skipIf(!browserPath || process.platform !== "linux")("a ViT-B in Chromium", () => {
  let app: BrowserApp;
  let work: string;
  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), "wecolora-web-vit-b-"));
    const { randomModel, steps } = (await import(join(root, "bench/models.js"))) as {
      randomModel(shape: object): Model;
      steps: Record<string, { width: number; heads: number }>;
    };
    const { width, heads } = steps["vit-b"];
    const teacher = randomModel({ width, heads });
    await saveModel(teacher, join(work, "teacher"));
    await teacher.dispose();
    app = await openBrowserApp();
  });
  afterAll(async () => {
    await app?.close();
    await rm(work, { recursive: true, force: true });
  });

  test("makes a student from 100 images in the memory of a machine with 8 GB", async () => {
    const page = await app.open(await app.serve({ folders: { teacher: join(work, "teacher") } }));
    let most = 0;
    let measuring = Promise.resolve();
    const timer = setInterval(() => {
      measuring = measuring.then(async () => void (most = Math.max(most, await browserMegabytes())));
    }, 1000);
    const begin = performance.now();
    const { share, predicted } = await page.evaluate(async () => {
      const web = under.connect({ device: "cpu", threads: 2 });
      const files = await under.filesAt("teacher");
      const teacher = await web.fromPretrained(files);
      const options = {
        method: "refit",
        shape: "balanced",
        reductionFactor: 2,
        evaluate: false,
        report: false,
      } as const;
      const { output } = await web.distill({ ...options, teacher, images: "procedural:100" });
      const written = await output.file("student/model.safetensors");
      return {
        share: (written?.size ?? 0) / (files.files.get("model.safetensors")?.size ?? 1),
        predicted: under.library.memoryNeeded(teacher, 100),
      };
    });
    clearInterval(timer);
    await measuring;
    const seconds = (performance.now() - begin) / 1000;
    const megabytes = (predicted.wasm + predicted.script) / 1e6;
    console.log(
      `ViT-B, 100 images: ${seconds.toFixed(0)} s, ${most.toFixed(0)} MB at most, ${megabytes.toFixed(0)} predicted for WASM and scripts`,
    );
    expect(share).toBeGreaterThan(0.45);
    expect(share).toBeLessThan(0.55);
    expect(most).toBeGreaterThan(500);
    expect(most).toBeLessThan(mostMegabytes);
  });
});
