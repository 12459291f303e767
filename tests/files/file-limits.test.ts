// What is read and unpacked has bounds that are checked before memory or time is spent: kinds of files, their lengths, and what
// packed bytes become.
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createImageSource, loadModel, nodeDirectory, openDataSet } from "wecolora/node";
import { readNifti } from "../../src/data/nifti.ts";
import { boundedCompressors } from "../../src/data/parquet-pages.ts";
import { PlaceReader } from "../../src/data/places.ts";
import { inflateBounded, mostInflated } from "../../src/files/inflate.ts";
import { readMat } from "../../src/files/mat.ts";
import { readText } from "../../src/files/storage.ts";
import { readWhole } from "../../src/platform/node/node-files.ts";
import { wecolora } from "../support/cli.ts";
import { countedFile } from "../support/hostile.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-limits-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** How much the process grows while something is refused. */
async function growth(work: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage().rss;
  await work();
  return process.memoryUsage().rss - before;
}
const little = 300e6;

describe.skipIf(process.platform === "win32")("what is no regular file", () => {
  const kinds = ["pipe", "device", "socket", "folder"] as const;
  const messages = {
    pipe: "is a named pipe, not a regular file",
    device: "is a device, not a regular file",
    socket: "is a socket, not a regular file",
    folder: "is a folder, not a file",
  };
  let closeSocket: () => void;
  beforeAll(async () => {
    execFileSync("mkfifo", [join(folder, "pipe.png")]);
    await symlink("/dev/zero", join(folder, "device.png"));
    await mkdir(join(folder, "folder.png"));
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(folder, "socket.png"), resolve));
    closeSocket = () => server.close();
  });
  afterAll(() => closeSocket());

  test.each(kinds)("an image that is a %s", async (kind) => {
    const source = createImageSource(folder, 1);
    for (const read of [source.facts, source.fingerprint]) {
      await expect(read({ name: `${kind}.png` })).rejects.toThrow(`${join(folder, `${kind}.png`)} ${messages[kind]}`);
      await expect(read({ name: `${kind}.png` })).rejects.toMatchObject({ name: "UserError" });
    }
    await source.dispose();
  });

  test.each(kinds)("any file that is a %s", async (kind) => {
    await expect(nodeDirectory(folder).open(`${kind}.png`)).rejects.toThrow(messages[kind]);
    await expect(readWhole(join(folder, `${kind}.png`), 10)).rejects.toThrow(messages[kind]);
  });

  test("a model's configuration, a list, and the command line's options", async () => {
    const model = join(folder, "model");
    await mkdir(model);
    await symlink("/dev/zero", join(model, "config.json"));
    await writeFile(join(model, "model.safetensors"), "");
    await expect(loadModel(model)).rejects.toThrow("config.json is a device");
    execFileSync("mkfifo", [join(folder, "list.csv")]);
    await expect(openDataSet(join(folder, "list.csv"))).rejects.toThrow("list.csv is a named pipe");
    const { code, err } = await wecolora("inspect", "--config", join(folder, "list.csv"));
    expect(code).toBe(2);
    expect(err).not.toMatch(/\n\s+at /);
  });
});

describe("files that are too long to be meant", () => {
  test("are refused before they are read", async () => {
    for (const name of ["long.png", "config.json"]) {
      await writeFile(join(folder, name), "");
      await truncate(join(folder, name), 3 * 2 ** 30);
    }
    const source = createImageSource(folder, 1);
    const grown = await growth(async () => {
      await expect(source.facts({ name: "long.png" })).rejects.toThrow(
        "long.png is 3 GiB long; at most 512 MiB are read",
      );
      await expect(readText(nodeDirectory(folder), "config.json")).rejects.toThrow(
        "config.json is 3 GiB long; at most 64 MiB are read",
      );
    });
    await source.dispose();
    expect(grown).toBeLessThan(little);
  });

  test("a file of the length that is allowed is read", async () => {
    await writeFile(join(folder, "ten.txt"), "0123456789");
    expect(await readWhole(join(folder, "ten.txt"), 10)).toHaveLength(10);
    await expect(readWhole(join(folder, "ten.txt"), 9)).rejects.toThrow("10 bytes long; at most 9 bytes are read");
    expect(await readWhole(join(folder, "none.txt"), 9)).toBeUndefined();
  });
});

/** A NIfTI-1 file of bytes: a header, and what is behind it. */
function nifti(dims: readonly number[], data: Uint8Array): Uint8Array {
  const head = Buffer.alloc(352);
  head.writeInt32LE(348, 0);
  [dims.length, ...dims].forEach((value, i) => head.writeInt16LE(value, 40 + 2 * i));
  head.writeInt16LE(2, 70);
  head.writeInt16LE(8, 72);
  [1, 1, 1, 1].forEach((value, i) => head.writeFloatLE(value, 76 + 4 * i));
  head.writeFloatLE(352, 108);
  head.write("n+1\0", 344, "latin1");
  return Buffer.concat([head, data]);
}

describe("packed scans", () => {
  test("as many numbers as the header states are read", () => {
    const data = Uint8Array.from({ length: 60 }, (_, i) => i);
    const volume = readNifti(gzipSync(nifti([3, 4, 5], data)), "a.nii.gz");
    expect(volume.dims).toEqual([3, 4, 5]);
    expect(volume.at(2, 3, 4)).toBe(59);
    // Some writers leave something behind the numbers.
    expect(
      readNifti(gzipSync(nifti([3, 4, 5], Buffer.concat([data, Buffer.alloc(512)]))), "b.nii.gz").at(2, 3, 4),
    ).toBe(59);
  });

  test("more than the header states is refused, without keeping it", async () => {
    const bomb = gzipSync(nifti([8, 8, 8], Buffer.alloc(400e6)));
    expect(bomb.length).toBeLessThan(1e6);
    const grown = await growth(async () => {
      expect(() => readNifti(bomb, "bomb.nii.gz")).toThrow(
        "bomb.nii.gz unpacks to more than the 864 bytes that its header states",
      );
    });
    expect(grown).toBeLessThan(little);
  });

  test.each<[string, number[], string]>([
    ["more than is read at all", [2000, 2000, 2000], "more than the 1073741824 bytes that are read"],
    ["more than packed bytes can become", [1000, 1000, 1000], "don't fit into"],
  ])("a header that states %s", async (_, dims, message) => {
    const packed = gzipSync(nifti(dims, Buffer.alloc(1000)));
    const grown = await growth(async () => expect(() => readNifti(packed, "c.nii.gz")).toThrow(message));
    expect(grown).toBeLessThan(little);
  });

  test("a volume takes its own memory once, not as floats", async () => {
    const packed = gzipSync(nifti([512, 512, 400], Buffer.alloc(512 * 512 * 400)));
    const memory = process.memoryUsage().arrayBuffers;
    const volume = readNifti(packed, "d.nii.gz");
    expect(volume.at(511, 511, 399)).toBe(0);
    expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(2.5 * 512 * 512 * 400);
  });
});

describe("packed members", () => {
  const plain = Buffer.from("an image ".repeat(1000));

  test("are as long as is stated", () => {
    const packed = deflateRawSync(plain);
    const size = plain.length;
    expect(Buffer.from(inflateBounded("deflate", packed, { size, isExact: true }))).toEqual(plain);
    expect(Buffer.from(inflateBounded("zlib", deflateSync(plain), { size: 1e6, isExact: false }))).toEqual(plain);
    for (const wrong of [size - 1, size + 1])
      expect(() => inflateBounded("deflate", packed, { size: wrong, isExact: true })).toThrow(RangeError);
    expect(() => inflateBounded("zlib", deflateSync(plain), { size: 100, isExact: false })).toThrow(RangeError);
    expect(() => inflateBounded("deflate", packed, { size: 1e9, isExact: true })).toThrow("can't become");
  });

  test("the bound on what deflate becomes holds", () => {
    for (const length of [0, 1, 100, 1e5, 5e7])
      expect(mostInflated(deflateRawSync(Buffer.alloc(length), { level: 9 }).length)).toBeGreaterThanOrEqual(length);
  });

  test("in a zip archive", async () => {
    const packed = deflateRawSync(Buffer.alloc(300e6));
    const reader = new PlaceReader(async () => countedFile(packed, "bomb.zip"));
    const place = (size: number) =>
      ({ kind: "range", file: "bomb.zip", offset: 0, length: packed.length, size }) as const;
    const grown = await growth(async () => {
      await expect(reader.read(place(1000))).rejects.toThrow(
        "bomb.zip can't be unpacked at 0 (it becomes longer than 1000 bytes)",
      );
      await expect(reader.read(place(2 ** 30))).rejects.toThrow("holds an image of more than");
    });
    expect(grown).toBeLessThan(little);
  });

  test("in a MATLAB file", async () => {
    const packed = deflateSync(Buffer.alloc(150e6));
    const file = Buffer.alloc(128 + 8 + packed.length);
    file.write("MATLAB 5.0 MAT-file");
    file.writeUInt32LE(15, 128);
    file.writeUInt32LE(packed.length, 132);
    packed.copy(file, 136);
    const grown = await growth(async () => expect(() => readMat(file, "bomb.mat")).toThrow("longer than 67108864"));
    expect(grown).toBeLessThan(little);
  });
});

describe("parquet's pages", () => {
  const page = Buffer.from("a page of some text ".repeat(50));
  const unpack = (codec: "GZIP" | "ZSTD" | "BROTLI", input: Uint8Array, length: number) =>
    boundedCompressors()[codec]?.(input, length);
  /** A frame of Zstandard with blocks of one repeated byte; `stated` is its length as the header says it. */
  function zstd(blocks: readonly number[], stated?: number): Buffer {
    const head = Buffer.alloc(stated === undefined ? 6 : 14);
    head.writeUInt32LE(0xfd2fb528, 0);
    head[4] = stated === undefined ? 0 : 0xc0;
    // A window of 128 KiB.
    head[5] = 7 << 3;
    if (stated !== undefined) head.writeBigUInt64LE(BigInt(stated), 6);
    const body = blocks.map((size, i) => {
      const block = Buffer.alloc(4);
      block.writeUIntLE((size << 3) | 2 | (i === blocks.length - 1 ? 1 : 0), 0, 3);
      block[3] = 65;
      return block;
    });
    return Buffer.concat([head, ...body]);
  }

  test("good ones are unpacked", () => {
    expect(Buffer.from(unpack("GZIP", gzipSync(page), page.length) ?? [])).toEqual(page);
    expect(Buffer.from(unpack("BROTLI", brotliCompressSync(page), page.length) ?? [])).toEqual(page);
    expect(Buffer.from(unpack("ZSTD", zstd([3, 5]), 8) ?? []).toString()).toBe("A".repeat(8));
    expect(Buffer.from(unpack("ZSTD", zstd([3, 5], 8), 8) ?? []).toString()).toBe("A".repeat(8));
  });

  test.each<["GZIP" | "ZSTD", () => Buffer, number]>([
    ["GZIP", () => gzipSync(Buffer.alloc(300e6)), 1000],
    ["GZIP", () => gzipSync(page), 2 ** 29],
    ["ZSTD", () => zstd(Array.from({ length: 40_000 }, () => 2 ** 17)), 1000],
    ["ZSTD", () => zstd([8], 2 ** 40), 8],
  ])("%s that becomes more than is stated", async (codec, make, length) => {
    const input = make();
    const grown = await growth(async () => expect(() => unpack(codec, input, length)).toThrow(RangeError));
    expect(grown).toBeLessThan(little);
  });

  test("all together are bounded", () => {
    const { GZIP } = boundedCompressors();
    expect(() => GZIP?.(gzipSync(page), 2 ** 30)).toThrow("more than is unpacked");
    const one = boundedCompressors();
    expect(() => {
      for (let i = 0; i < 6; i++) {
        try {
          one.GZIP?.(Buffer.alloc(10), 2 ** 29);
        } catch (error) {
          if (i === 5) throw error;
        }
      }
    }).toThrow("more than is unpacked");
  });
});
