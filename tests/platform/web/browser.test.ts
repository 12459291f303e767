// What only a browser has: its decoder, File and ImageBitmap, directory handles, the Cache API.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { zipSync } from "fflate";
import type { Page } from "playwright-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fromPretrained } from "wecolora/node";
import type { WebModel, Wecolora } from "wecolora/web";
import { drawStream } from "../../../src/utils/random.ts";
import { browserPath } from "../../support/browser.ts";
import { closeServer, listen, sha256 } from "../../support/hub-server.ts";
import type { BrowserApp } from "../../support/platforms.ts";
import { openBrowserApp } from "../../support/platforms.ts";
import { makeFolders } from "../../support/same-behaviour.ts";
import type { Under } from "../../support/web-app/page.ts";

declare const under: Under;

interface State {
  readonly web: Wecolora;
  readonly teacher: WebModel;
}

describe.skipIf(!browserPath)("in a browser", () => {
  let app: BrowserApp;
  let page: Page;
  let folders: Readonly<Record<string, string>>;
  let remove: () => Promise<void>;
  let mean: readonly number[];
  let std: readonly number[];
  let onNode: Awaited<ReturnType<typeof fromPretrained>>;
  beforeAll(async () => {
    ({ folders, remove } = await makeFolders());
    app = await openBrowserApp();
    page = await app.open(await app.serve({ folders }));
    await page.evaluate(async () => {
      const web = under.connect({ device: "cpu", threads: 1 });
      Object.assign(globalThis, { web, teacher: await web.fromPretrained(await under.filesAt("teacher")) });
    });
    onNode = await fromPretrained(folders.teacher);
    ({ mean, std } = onNode.preprocessing);
  });
  afterAll(async () => {
    await app?.close();
    await remove?.();
  });

  /** Pixel values as 8-bit colours. */
  const colours = (values: ArrayLike<number>) => {
    const plane = values.length / 3;
    return Array.from(values, (value, i) => {
      const c = Math.floor(i / plane);
      return 255 * (value * std[c] + mean[c]);
    });
  };
  const largest = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));

  const inPage = (bytes: Uint8Array, type: string) =>
    page.evaluate(
      async ({ bytes, type }) => {
        const { teacher } = globalThis as unknown as State;
        const blob = new Blob([Uint8Array.from(bytes)], { type });
        try {
          return { values: Array.from((await teacher.preprocess([blob])).data) };
        } catch (error) {
          return { error: (error as Error).message };
        }
      },
      { bytes: Array.from(bytes), type },
    );

  /** Noise with smooth parts, and transparent ones where there are four channels. */
  function noise(channels: 3 | 4) {
    const random = drawStream(7);
    const [width, height] = [61, 47];
    const data = Uint8Array.from({ length: width * height * channels }, (_, i) => {
      const [pixel, c] = [Math.floor(i / channels), i % channels];
      if (c === 3) return [0, 30, 128, 255][pixel % 4];
      return Math.min(255, 2 * (pixel % width) + 40 * c + random.integer(0, 60));
    });
    return sharp(data, { raw: { width, height, channels } });
  }

  test.each([
    ["PNG", () => noise(3).png().toBuffer(), 0],
    ["PNG with transparency", () => noise(4).png().toBuffer(), 0],
    ["PNG with a palette", () => noise(3).png({ palette: true }).toBuffer(), 0],
    ["grey PNG", () => noise(3).greyscale().png().toBuffer(), 0],
    ["lossless WebP with transparency", () => noise(4).webp({ lossless: true, exact: true }).toBuffer(), 0],
    ["GIF", () => noise(3).gif().toBuffer(), 0],
    // Both decode by libjpeg-turbo, the browser with other rounding where it converts colours.
    ["JPEG", () => noise(3).jpeg({ quality: 90 }).toBuffer(), 3],
    ["JPEG turned by EXIF", () => noise(3).withMetadata({ orientation: 6 }).jpeg({ quality: 90 }).toBuffer(), 3],
    ["JPEG with a colour profile", () => noise(3).withIccProfile("p3").jpeg({ quality: 90 }).toBuffer(), 3],
    // Chroma is enlarged by another filter.
    ["WebP", () => noise(3).webp({ quality: 90 }).toBuffer(), 8],
  ] as const)("%s is decoded to Node's pixels", async (_, make, most) => {
    const bytes = await make();
    const { values, error } = await inPage(bytes, "");
    expect(error).toBeUndefined();
    const wanted = colours((await onNode.preprocess(bytes)).data);
    // Normalised and back in float32.
    expect(largest(colours(values ?? []), wanted)).toBeLessThan(most + 0.01);
  });

  test.each([
    ["TIFF", () => noise(3).tiff().toBuffer(), /browsers don't read TIFF/],
    ["CMYK", () => noise(3).toColourspace("cmyk").jpeg().toBuffer(), /CMYK/],
    ["a cut-off PNG", async () => (await noise(3).png().toBuffer()).subarray(0, 900), /damaged or cut off/],
    ["a text", async () => new TextEncoder().encode("no image at all"), /is a text/],
    ["an SVG", async () => new TextEncoder().encode("<svg xmlns='http://www.w3.org/2000/svg'/>"), /SVG drawing/],
  ] as const)("%s is refused by name", async (_, make, reason) => {
    const { error } = await inPage(await make(), "image/png");
    expect(error).toMatch(reason);
  });

  test("images may be Files, URLs, ImageBitmaps and pixels, alone or as a data set", async () => {
    const actual = await page.evaluate(async () => {
      const { web, teacher } = globalThis as unknown as State;
      const { files } = await under.filesAt("images");
      const [blob] = [...files.values()];
      const url = new URL("files/images/class0/p0.jpg", location.href);
      const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
      context.drawImage(bitmap, 0, 0);
      const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
      const forms = [new File([blob], "a.jpg"), blob, url, String(url), await blob.arrayBuffer(), bitmap, pixels];
      const { data, dims } = await teacher.preprocess(forms);
      const { names, features } = await web.features({ model: teacher, images: forms });
      return { data: Array.from(data), dims, names, features: Array.from(features.data) };
    });
    const size = actual.data.length / 7;
    const first = actual.data.slice(0, size);
    for (let i = 1; i < 7; i++) expect(actual.data.slice(i * size, (i + 1) * size)).toEqual(first);
    expect(actual.names).toEqual(["1 a.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.bmp", "7.bmp"]);
    const width = actual.features.length / 7;
    const row = actual.features.slice(0, width);
    for (let i = 1; i < 7; i++)
      expect(largest(actual.features.slice(i * width, (i + 1) * width), row)).toBeLessThan(1e-5);
  });

  test("a teacher may be a zip, a URL, a directory handle; a run may write to the origin's files", async () => {
    const zip = zipSync(
      Object.fromEntries(
        await Promise.all(
          ["config.json", "model.safetensors"].map(
            async (name) => [`folder/${name}`, await readFile(join(folders.teacher, name))] as const,
          ),
        ),
      ),
    );
    const actual = await page.evaluate(async (zip) => {
      const { web, teacher } = globalThis as unknown as State;
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle("teacher", { create: true });
      const { files } = await under.filesAt("teacher");
      for (const [name, blob] of files) {
        const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
        await stream.write(blob);
        await stream.close();
      }
      const loaded = [
        await web.fromPretrained(new File([Uint8Array.from(zip)], "teacher.zip")),
        await web.fromPretrained(new URL("files/teacher/", location.href)),
        await web.fromPretrained(new URL("files/teacher/model.safetensors", location.href), { numHeads: 2 }),
        await web.fromPretrained(folder),
        await web.fromPretrained(files.get("model.safetensors") as File).catch((error: Error) => error.message),
      ];
      const out = await root.getDirectoryHandle("run", { create: true });
      const images = await under.filesAt("images");
      const run = await web.distill({ teacher, images, method: "refit", report: false, out });
      const student = await (await out.getDirectoryHandle("student")).getFileHandle("model.safetensors");
      const again = await web.distill({ teacher, images, method: "refit", out }).catch((error: Error) => error.message);
      const target = await root.getDirectoryHandle("copy", { create: true });
      await run.output.writeTo(target);
      const copied: string[] = [];
      for await (const name of (target as unknown as { keys(): AsyncIterable<string> }).keys()) copied.push(name);
      return {
        parameters: loaded.map((model) => (typeof model === "string" ? model : model.parameters)),
        bytes: (await student.getFile()).size,
        listed: await run.output.list(),
        copied,
        again,
      };
    }, Array.from(zip));
    const { parameters } = onNode;
    expect(actual.parameters.slice(0, 4)).toEqual([parameters, parameters, parameters, parameters]);
    expect(actual.bytes).toBeGreaterThan(100_000);
    expect(actual.listed).toContain("student/model.safetensors");
    expect(actual.copied).toEqual(expect.arrayContaining(["student", "config.json", "result.json"]));
    expect(actual.again).toMatch(/already holds|finished/);
  });

  test("a model of the hub is downloaded once, checked, and found under transformers.js's keys", async () => {
    const asked: string[] = [];
    const files = new Map<string, Uint8Array>();
    for (const name of ["config.json", "model.safetensors"])
      files.set(name, await readFile(join(folders.teacher, name)));
    let isDamaged = false;
    const server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? "/", "http://localhost");
      asked.push(pathname);
      response.setHeader("access-control-allow-origin", "*");
      if (pathname.startsWith("/api/models/")) {
        const siblings = [...files].map(([rfilename, bytes]) => ({
          rfilename,
          size: bytes.byteLength,
          ...(rfilename.endsWith("safetensors") ? { lfs: { sha256: sha256(bytes) } } : {}),
        }));
        response.end(JSON.stringify({ sha: "0".repeat(40), siblings }));
        return;
      }
      const bytes = files.get(pathname.replace(/^.*\/resolve\/main\//, ""));
      if (!bytes) return response.writeHead(404).end();
      response.end(isDamaged ? Buffer.from(bytes).fill(0, 100, 200) : bytes);
    });
    const endpoint = await listen(server);
    const load = (name: string) =>
      page.evaluate(
        async ({ name, endpoint }) => {
          const web = under.connect({ device: "cpu", threads: 1, hub: { endpoint } });
          const events: string[] = [];
          try {
            const model = await web.fromPretrained(name, {
              onProgress: (event) => "file" in event && events.push(`${event.status} ${event.file}`),
            });
            return { parameters: model.parameters, source: model.source, events };
          } catch (error) {
            return { message: (error as Error).message, events };
          } finally {
            await web.dispose();
          }
        },
        { name, endpoint },
      );
    try {
      const first = await load("someone/tiny-vit");
      expect(first).toMatchObject({ parameters: onNode.parameters, source: "someone/tiny-vit" });
      expect(first.events).toContain("download model.safetensors");
      const keys = await page.evaluate(async () =>
        (await (await caches.open("transformers-cache")).keys()).map(({ url }) => url),
      );
      expect(keys).toContain(`${endpoint}/someone/tiny-vit/resolve/main/model.safetensors`);
      const before = asked.length;
      const second = await load("someone/tiny-vit");
      expect(second).toMatchObject({ parameters: onNode.parameters });
      expect(asked.slice(before)).toEqual([]);
      isDamaged = true;
      expect((await load("someone/damaged")).message).toMatch(/SHA-256 differs/);
      isDamaged = false;
      files.delete("model.safetensors");
      expect((await load("someone/without-weights")).message).toMatch(/no weights/);
      expect((await load("../etc/passwd")).message).toMatch(/neither a name on the hub/);
    } finally {
      await closeServer(server);
    }
    expect((await load("someone/tiny-vit")).parameters).toBe(onNode.parameters);
    expect((await load("someone/unknown")).message).toMatch(/can't be reached/);
  });
});
