// `wecolora/web` in Chromium, in a worker: on WASM with threads and without, on WebGPU; stopped, with bad files, offline.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserPath, openBrowser } from "../../support/browser.ts";
import { noisePicture } from "../../support/cli.ts";
import { referencePath } from "../../support/reference.ts";
import type { Under } from "../../support/web-app/page.ts";
import type { WebServer } from "../../support/web-server.ts";
import { buildWebApp, removeFolder, serveFolder } from "../../support/web-server.ts";

declare const under: Under;

describe.skipIf(!browserPath)("in Chromium", () => {
  let browser: Browser;
  let app: string;
  let folder: string;
  let isolated: WebServer;
  let plain: WebServer;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-web-images-"));
    for (let i = 0; i < 24; i++) await noisePicture(join(folder, String(i % 3), `p${i}.jpg`), i, i % 3);
    app = await buildWebApp();
    const folders = { teacher: referencePath("teachers/timm-vit"), images: folder };
    [isolated, plain] = await Promise.all([
      serveFolder(app, { folders }),
      serveFolder(app, { folders, isolated: false }),
    ]);
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await Promise.all([isolated?.close(), plain?.close()]);
    await removeFolder(app);
    await rm(folder, { recursive: true });
  });

  async function open(server: WebServer) {
    const page = await browser.newPage();
    page.on("console", (m) => console.log("console", m.text()));
    page.on("pageerror", (m) => console.log("pageerror", m.message));
    await page.goto(server.address);
    await page.waitForFunction(() => "under" in globalThis);
    return page;
  }

  test("try", async () => {
    const page = await open(isolated);
    const result = await page.evaluate(async () => {
      const web = under.connect({ device: "cpu", threads: 2 });
      const device = await web.device();
      const teacher = await web.fromPretrained(await under.filesAt("teacher", "^(config.json|model.safetensors)$"));
      const images = await under.filesAt("images");
      const events: unknown[] = [];
      const run = await web.distill({ teacher, images, method: "refit", onProgress: (e) => events.push(e) });
      return { device, files: await run.output.list(), results: run.results, events: events.length };
    });
    console.log(JSON.stringify(result, null, 1));
    expect(result.device).toEqual({ name: "cpu", threads: 2 });
  });
});
