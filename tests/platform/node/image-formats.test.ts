// Every format and kind of pixels against Pillow's convert("RGB") (tests/reference/make_images.py), and what is refused.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { mostPixels } from "../../../src/data/image-formats.ts";
import { decodeImage } from "../../../src/platform/node/decode-image.ts";
import { encodeSvg } from "../../../src/platform/node/encode-svg.ts";
import { blockOtherLoaders, checkLoader } from "../../../src/platform/node/image-loaders.ts";
import { createImageSource } from "../../../src/platform/node/node-images.ts";
import { WorkerLane } from "../../../src/platform/node/worker-lane.ts";
import { Semaphore } from "../../../src/utils/semaphore.ts";
import type { Tensor } from "../../../src/utils/tensor.ts";
import { readTensors, referencePath } from "../../support/reference.ts";

const decodeBytes = (name: string, bytes: Uint8Array) => decodeImage(name, bytes, new Semaphore(mostPixels));
const decode = (path: string) => decodeBytes(path, readFileSync(path));

let expected: Map<string, Tensor>;
beforeAll(async () => {
  expected = await readTensors(referencePath("images/formats.safetensors"));
});

describe("as Pillow, to the bit", () => {
  const folder = referencePath("images/formats");
  test.each(readdirSync(folder).sort())("%s", async (name) => {
    const { width, height, data } = await decode(join(folder, name));
    const { dims, data: values } = expected.get(name) as Tensor;
    expect([height, width, 3]).toEqual(dims);
    let largest = 0;
    for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i] - Number(values[i])));
    // Alpha that was multiplied in is divided out with other rounding.
    expect(largest).toBeLessThanOrEqual(name === "premultiplied.tif" ? 1 : 0);
  });

  test("each expected image is there", () => {
    expect(readdirSync(folder).sort()).toEqual([...expected.keys()].sort());
  });
});

describe("kinds of TIFF that have no one meaning as RGB", () => {
  test.each([
    ["five-bands.tif", "it has 5 bands; a RGB image has 3 or 4"],
    ["four-grey-bands.tif", "it has 4 bands; a grey image has 1 or 2"],
    ["lab.tif", "pixels of the kind 8"],
    ["ycbcr.tif", "YCbCr numbers outside of JPEG compression"],
    ["cmyk16.tif", "it has 16, 16, 16, 16 bits"],
    ["float.tif", "floating-point"],
    ["signed.tif", "signed"],
  ])("%s", async (name, message) => {
    const path = referencePath(`images/refused/${name}`);
    await expect(decode(path)).rejects.toThrow(message);
    await expect(decode(path)).rejects.toMatchObject({ name: "UserError" });
    await expect(decode(path)).rejects.toThrow(path);
  });
});

const text = (content: string) => Buffer.from(content, "latin1");
const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>';
const ftyp = (...brands: string[]) => {
  const box = text(`\0\0\0\0ftyp${brands[0]}\0\0\0\0${brands.slice(1).join("")}`);
  box.writeUInt32BE(box.length);
  return Buffer.concat([box, Buffer.alloc(64)]);
};

describe("what is no image to be read here, whatever its name", () => {
  test.each<[string, Buffer, string]>([
    ["an SVG", text(svg), "an SVG drawing"],
    ["an SVG behind a prologue", text(`<?xml version="1.0"?><!-- x -->\n${svg}`), "an SVG drawing"],
    ["an SVG in UTF-16", Buffer.from(`\ufeff${svg}`, "utf16le"), "an SVG drawing"],
    ["a web page", text("<!DOCTYPE html><html>404</html>"), "an HTML page"],
    ["a PDF", text("%PDF-1.7\n"), "a PDF document"],
    ["HEIC", ftyp("heic", "mif1", "heic"), "a HEIC or HEIF image"],
    ["HEIF of no AV1", ftyp("mif1", "mif1", "heic"), "a HEIC or HEIF image"],
    ["a film", ftyp("isom", "isom", "mp42"), "a video"],
    ["JPEG XL", Buffer.from([0xff, 0x0a, 0, 0]), "a JPEG XL image"],
    ["JPEG 2000", text("\0\0\0\x0cjP  \r\n\x87\n"), "a JPEG 2000 image"],
    ["OpenEXR", Buffer.from([0x76, 0x2f, 0x31, 0x01, 2, 0, 0, 0]), "an OpenEXR image"],
    ["PNM", text("P6\n8 8\n255\n"), "a PNM image"],
    ["DICOM", Buffer.concat([Buffer.alloc(128), text("DICM")]), "a DICOM file"],
    ["a zip archive", text("PK\x03\x04"), "a zip archive"],
    ["a pointer of Git LFS", text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "a text"],
    ["noise", Buffer.from([1, 2, 3, 4]), "of an unknown format"],
  ])("%s", async (_, bytes, what) => {
    await expect(decodeBytes("x.png", bytes)).rejects.toThrow(`x.png is ${what}; images are JPEG, PNG, WebP, AVIF`);
    await expect(decodeBytes("x.png", bytes)).rejects.toMatchObject({ name: "UserError" });
  });

  test.each([
    ["GIF", `GIF89a${svg}`],
    ["WebP", `RIFF<svgWEBP${svg}`],
    ["TIFF", `II*\0\x08\0\0\0${svg}`],
    ["BMP", `BM${svg}`],
  ])("a drawing that begins like %s is not drawn", async (format, content) => {
    await expect(decodeBytes("x.png", text(content))).rejects.toThrow(`can't be decoded as ${format}`);
  });

  test("a drawing that libvips takes for one is refused before it is rendered", async () => {
    await expect(checkLoader(sharp(text(svg)), "GIF")).rejects.toThrow("libvips takes it for svg");
  });

  test("an application's own sharp still opens drawings beside a source of images", async () => {
    const source = createImageSource(referencePath("images/formats"));
    try {
      await source.facts({ name: "rgb.png" });
      expect(await sharp(text(svg)).metadata()).toMatchObject({ format: "svg" });
    } finally {
      await source.dispose();
    }
  });

  test("the command line blocks other loaders, but not for its own charts", async () => {
    blockOtherLoaders();
    await expect(sharp(text(svg)).metadata()).rejects.toThrow("unsupported image format");
    const chart = await encodeSvg(svg);
    expect(await sharp(chart).metadata()).toMatchObject({ format: "png", width: 16 });
    await expect(sharp(text(svg)).metadata()).rejects.toThrow("unsupported image format");
    await decode(referencePath("images/formats/rgb.png"));
  });
});

describe("images that are larger than memory allows", () => {
  const claim = (bytes: Buffer, write: (bytes: Buffer) => void) => {
    write(bytes);
    return bytes;
  };
  const small = sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } });
  /** A JPEG's frame header, wherever it is. */
  const frame = (bytes: Buffer) => bytes.findIndex((byte, i) => byte === 0xff && (bytes[i + 1] & 0xfe) === 0xc0);

  test.each<[string, () => Promise<Buffer>]>([
    [
      "GIF of 35 bytes",
      async () =>
        Buffer.from(
          "47494638396100400040800000ffffff0000002c0000000000400040000202440100 3b".replaceAll(" ", ""),
          "hex",
        ),
    ],
    [
      "GIF whose image is larger than its canvas",
      async () => Buffer.from("47494638396101000100800000ffffff0000002c00000000004000400002024401003b", "hex"),
    ],
    [
      "PNG",
      async () =>
        claim(await small.clone().png().toBuffer(), (b) => (b.writeUInt32BE(16_384, 16), b.writeUInt32BE(16_384, 20))),
    ],
    [
      "JPEG",
      async () =>
        claim(
          await small.clone().jpeg().toBuffer(),
          (b) => (b.writeUInt16BE(16_384, frame(b) + 5), b.writeUInt16BE(16_384, frame(b) + 7)),
        ),
    ],
    [
      "TIFF",
      async () => {
        const bytes = await small.clone().tiff().toBuffer();
        for (const tag of [256, 257]) {
          const at = bytes.indexOf(Buffer.from([tag & 255, tag >> 8, 3, 0, 1, 0, 0, 0]));
          bytes.writeUInt16LE(16_384, at + 8);
        }
        return bytes;
      },
    ],
    [
      "BMP",
      async () => {
        const bytes = Buffer.alloc(54);
        bytes.write("BM");
        [54, 40, 16_384, 16_384].forEach((value, i) => bytes.writeUInt32LE(value, 10 + 4 * i));
        bytes.writeUInt16LE(24, 28);
        return bytes;
      },
    ],
    [
      "WebP",
      async () => {
        const bytes = Buffer.alloc(64);
        bytes.write("RIFF\x38\0\0\0WEBPVP8L\x2c\0\0\0\x2f", "latin1");
        // 14 bits each of width and height, less one.
        bytes.writeUInt32LE(0x0fffffff, 21);
        return bytes;
      },
    ],
  ])("%s", async (name, make) => {
    const bytes = await make();
    const before = process.memoryUsage().rss;
    await expect(decodeBytes(name, bytes)).rejects.toThrow(/has 16384 x 16384 pixels, more than the 67108864/);
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });

  test("a whole PNG of the largest size is read", async () => {
    const row = Buffer.alloc(1 + 8192 / 8, 0xff);
    row[0] = 0;
    const data = deflateSync(Buffer.concat(Array.from({ length: 8192 }, () => row)));
    const plain = await sharp(Buffer.alloc(64, 255), { raw: { width: 8, height: 8, channels: 1 } })
      .png()
      .toBuffer();
    expect(plain.length).toBeGreaterThan(0);
    const chunk = (kind: string, content: Buffer) => {
      const out = Buffer.concat([Buffer.alloc(4), text(kind), content, Buffer.alloc(4)]);
      out.writeUInt32BE(content.length);
      out.writeUInt32BE(crc(out.subarray(4, -4)), out.length - 4);
      return out;
    };
    const header = Buffer.alloc(13);
    header.writeUInt32BE(8192, 0);
    header.writeUInt32BE(8192, 4);
    header[8] = 1;
    const png = Buffer.concat([
      Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]),
      chunk("IHDR", header),
      chunk("IDAT", data),
      chunk("IEND", Buffer.alloc(0)),
    ]);
    const { width, height, data: pixels } = await decodeBytes("largest.png", png);
    expect([width, height, pixels[0], pixels.at(-1)]).toEqual([8192, 8192, 255, 255]);
  });
});

function crc(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let i = 0; i < 8; i++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return (value ^ 0xffffffff) >>> 0;
}

describe("limits on what goes on at once", () => {
  test("work waits for room, in order", async () => {
    const semaphore = new Semaphore(10);
    const log: string[] = [];
    let release = () => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    const one = semaphore.take(8, () => gate);
    const two = semaphore.take(500, async () => void log.push("large"));
    const three = semaphore.take(1, async () => void log.push("small"));
    await Promise.resolve();
    expect(log).toEqual([]);
    release();
    await Promise.all([one, two, three]);
    expect(log).toEqual(["large", "small"]);
    await expect(semaphore.take(10, async () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await semaphore.take(10, async () => 3)).toBe(3);
  });

  test("a worker that hangs is replaced, and only the image to blame is given up", async () => {
    let workers = 0;
    const ended: number[] = [];
    const create = () => {
      const number = workers++;
      return {
        call: <T>(_: string, ...args: readonly unknown[]) =>
          args[0] === "bad" ? new Promise<T>(() => {}) : Promise.resolve(args[0] as T),
        // As a thread does that is inside of a library.
        end: () => (ended.push(number), new Promise<void>(() => {})),
      };
    };
    const lane = new WorkerLane(create, 0.2);
    const names = ["a", "b", "bad", "c", "d", "e", "bad", "f"];
    // Node ends where only a timer is left that does not hold it.
    const timer = setInterval(() => {}, 1000);
    const results = await Promise.allSettled(names.map((name) => lane.call(`${name}.png`, "read", name)));
    clearInterval(timer);
    expect(results.map((r) => (r.status === "fulfilled" ? r.value : (r.reason as Error).message))).toEqual(
      names.map((name) => (name === "bad" ? "bad.png can't be read: nothing came for 0.2 s." : name)),
    );
    expect(ended.length).toBeGreaterThanOrEqual(2);
    expect(workers).toBe(ended.length + 1);
  });
});
