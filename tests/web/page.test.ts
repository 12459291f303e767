// The page: the whole way on a tiny teacher, by keyboard alone, with all requests recorded; cancelled; with bad files; offline; and
// what axe says of it.
import { readdir, readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { unzipSync } from "fflate";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserPath, newPage, openBrowser } from "../support/browser.ts";
import { makeFolders } from "../support/same-behaviour.ts";
import type { WebServer } from "../support/web-server.ts";
import { buildPage, removeFolder, serveFolder } from "../support/web-server.ts";
import { policy } from "../../web/policy.ts";

interface Axe {
  run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }>;
}

describe.skipIf(!browserPath)("the page in Chromium", () => {
  let app: string;
  let browser: Browser;
  let server: WebServer;
  let folders: Readonly<Record<string, string>>;
  let remove: () => Promise<void>;
  beforeAll(async () => {
    app = await buildPage();
    ({ folders, remove } = await makeFolders());
    server = await serveFolder(app, { headers: { "content-security-policy": policy } });
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await removeFolder(app);
    await remove?.();
  });

  interface Opened {
    readonly page: Page;
    readonly context: BrowserContext;
    readonly complaints: string[];
    readonly requests: string[];
  }

  async function open({ width = 1200, dark = false, address = server.address } = {}): Promise<Opened> {
    const page = await newPage(browser, {
      viewport: { width, height: 900 },
      colorScheme: dark ? "dark" : "light",
    });
    const context = page.context();
    const complaints: string[] = [];
    const requests: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    context.on("request", (request) => requests.push(request.url()));
    await page.goto(address);
    await page.waitForSelector("#teacher .drop");
    return { page, context, complaints, requests };
  }

  /** Waits until ONNX Runtime is there and nothing more is asked for. */
  async function settled({ page, requests }: Opened): Promise<void> {
    let before = -1;
    while (before !== requests.length || !requests.some((url) => url.endsWith(".wasm"))) {
      before = requests.length;
      await page.waitForTimeout(2000);
    }
  }

  const choose = (page: Page, step: string, folder: string) =>
    page.setInputFiles(`#${step} input[webkitdirectory]`, folder);

  async function chooseBoth(page: Page): Promise<void> {
    await choose(page, "teacher", folders.teacher);
    await page.waitForSelector("#teacher.done");
    await choose(page, "images", folders.images);
    await page.waitForSelector("#images.done");
    await page.waitForSelector("#run:not([aria-disabled])");
  }

  const status = (page: Page, step: string) => page.textContent(`#${step} > .status`);

  async function violations(page: Page): Promise<string[]> {
    // By the debugger's side: the page's own policy would not let it in as a script.
    await page.evaluate(await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
    return page.evaluate(async () => {
      const { axe } = globalThis as unknown as { axe: Axe };
      return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
    });
  }

  test.each([
    { name: "wide, light", width: 1200, dark: false },
    { name: "narrow, dark", width: 390, dark: true },
  ])("$name: the whole way, with nothing that complains and nothing that leaves the page", async (look) => {
    const opened = await open(look);
    const { page, context, complaints, requests } = opened;
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await settled(opened);
    const before = requests.length;
    await chooseBoth(page);
    // By itself, once there are images.
    await page.waitForFunction(() => document.querySelector("#size > .status")?.textContent?.startsWith("Predicted"));
    const cosine = Number(await page.textContent("#size .facts div:nth-child(4) dd"));
    expect(cosine).toBeGreaterThan(0.5);
    expect(cosine).toBeLessThanOrEqual(1);

    await page.click("text=Make the student");
    await page.waitForSelector("#run.done");
    expect(await page.textContent("#results .verdict")).toMatch(
      /^The student has \d+\.\d+ of the teacher's \d+\.\d+ M parameters, is .* (?:keeps|has|agrees) .*\.$/,
    );
    expect(await page.$$eval("#results table thead th", (names) => names.map((name) => name.textContent))).toEqual([
      "teacher",
      "weight copy",
      "student",
    ]);
    expect(await page.$$("#results table tbody tr")).toHaveLength(7);
    // All of it is seen without scrolling.
    const [shown, whole] = await page.$eval("#results .scroll", (table) => [table.clientWidth, table.scrollWidth]);
    expect(whole).toBe(shown);
    expect((await page.$$("#results .neighbours > li")).length).toBeGreaterThan(0);
    expect((await page.$$("#results .maps > li")).length).toBeGreaterThan(0);
    await page.click("#results summary");
    const report = page.frameLocator("#results iframe");
    await report.locator("h1").waitFor();
    expect(await report.locator("table").count()).toBeGreaterThan(0);

    await page.setInputFiles("#own input[type=file]", join(folders.images, "class0/p0.jpg"));
    await page.waitForSelector("#own .maps > li");
    expect(await status(page, "own")).toMatch(/^Cosine similarity .*: (1\.000|0\.\d{3})\.$/);

    for (const [button, file, inside] of [
      ["Student and report (zip)", "wecolora-run.zip", "wecolora-run/student/model.safetensors"],
      ["ONNX, int8", "student-onnx-int8.zip", "onnx/model"],
      ["ONNX, 4 bits", "student-onnx-q4.zip", "onnx/model"],
    ]) {
      const downloading = page.waitForEvent("download");
      await page.click(`#download >> text=${button}`);
      const download = await downloading;
      expect(download.suggestedFilename()).toBe(file);
      const names = Object.keys(unzipSync(await readFile(await download.path())));
      expect(names.some((name) => name.includes(inside))).toBe(true);
    }

    const broken = await page.$$eval("img", (images) => images.filter((image) => image.naturalWidth === 0).length);
    expect(broken).toBe(0);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(look.width);
    expect(await violations(page)).toEqual([]);
    expect(complaints).toEqual([]);
    // Nothing but what the page makes itself.
    const later = requests.slice(before).filter((url) => !url.startsWith("blob:") && !url.startsWith("data:"));
    expect(later).toEqual([]);
    await context.close();
  });

  test("goes by keyboard alone, and a run can be cancelled", async () => {
    const { page, context } = await open();
    const reach = async (wanted: string) => {
      for (let presses = 0; presses < 60; presses++) {
        await page.keyboard.press("Tab");
        const text = await page.evaluate(() => document.activeElement?.textContent || document.activeElement?.id);
        if (text === wanted) return;
      }
      throw new Error(`${wanted} can't be reached`);
    };
    // Asked for before the keys: Chromium learns only then that a chooser is not to be opened.
    const choosing = page.waitForEvent("filechooser");
    await reach("Choose a folder");
    await page.keyboard.press("Enter");
    await (await choosing).setFiles(folders.teacher);
    await page.waitForSelector("#teacher.done");
    await choose(page, "images", folders.images);
    await page.waitForSelector("#run:not([aria-disabled])");
    await reach("size-slider");
    const share = () => page.getAttribute("#size-slider", "aria-valuetext");
    const before = await share();
    await page.keyboard.press("ArrowRight");
    expect(await share()).not.toBe(before);
    await reach("Make the student");
    await page.keyboard.press("Enter");
    await reach("Cancel");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#run > .status")?.textContent);
    expect(await status(page, "run")).toBe("The run was cancelled. Nothing was kept.");
    // And again, to its end.
    await page.click("text=Make the student");
    await page.waitForSelector("#run.done");
    await context.close();
  });

  test("says what is wrong with files", async () => {
    const { page, context } = await open();
    await choose(page, "teacher", folders.images);
    await page.waitForSelector("#teacher > .status.error");
    expect(await status(page, "teacher")).toMatch(/is a folder of images/);
    expect(await page.getAttribute("#images", "aria-disabled")).toBe("true");
    await choose(page, "teacher", folders.teacher);
    await page.waitForSelector("#teacher.done");
    await choose(page, "images", folders.texts);
    await page.waitForSelector("#images > .status.error");
    expect(await status(page, "images")).toMatch(/There are no images/);
    await context.close();
  });

  test("on a plain host a service worker isolates it; then it works offline", async () => {
    const plain = await serveFolder(app, { isolated: false });
    const opened = await open({ address: plain.address });
    const { page, context } = opened;
    await page.waitForFunction(() => crossOriginIsolated);
    await page.waitForSelector("#teacher .drop");
    await settled(opened);
    await context.setOffline(true);
    await plain.close();
    await page.reload();
    await page.waitForSelector("#teacher .drop");
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await chooseBoth(page);
    await page.click("text=Make the student");
    await page.waitForSelector("#run.done");
    await context.close();
  });

  test("its script is small, and its policy names the hub alone", async () => {
    const assets = await readdir(join(app, "assets"));
    // What a run over a folder of images loads: tables and scans bring libraries of their own, procedural images their painters,
    // shapes that differ by block their costs, and budgets a search.
    const scripts = assets.filter(
      (name) =>
        name.endsWith(".js") &&
        !/^(?:ort|parquet-library|nifti|procedural-image|head-directions|cut-costs|choose-levers)/.test(name),
    );
    const bytes = await Promise.all(scripts.map(async (name) => readFile(join(app, "assets", name))));
    const packed = bytes.reduce((sum, one) => sum + gzipSync(one).byteLength, 0);
    // As it is sent.
    expect(packed).toBeLessThan(400_000);
    const page = scripts.find((name) => name.startsWith("index"));
    expect((await stat(join(app, "assets", page ?? ""))).size).toBeLessThan(100_000);
    const connect = policy.split("; ").find((directive) => directive.startsWith("connect-src"));
    expect(connect).toBe(
      "connect-src 'self' blob: data: https://huggingface.co https://*.huggingface.co https://*.hf.co",
    );
    const html = await readFile(join(app, "index.html"), "utf8");
    expect(html).not.toMatch(/%CSP%|(?:src|href)="\//);
    expect(html).toContain(policy);
  });
});
