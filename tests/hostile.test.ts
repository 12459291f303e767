// Hostile files: each is read rightly or refused with one clear message; nothing in them runs, hangs or fills the memory.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createPictureSource, loadModel } from "wecolora/node";
import { openTorchFile } from "../src/checkpoints/torch.ts";
import { closeReaders, countedFile, dataReaders, mutate, mutation, readers } from "./support/hostile.ts";
import { referencePath } from "./support/reference.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-hostile-"));
});
afterAll(async () => {
  await closeReaders();
  await rm(folder, { recursive: true });
});

describe("mutated files", () => {
  // A few of each here; the slow suite has more than ten thousand.
  test.each(dataReaders.map((reader) => [reader.kind, reader] as const))("data sets: %s", async (_, reader) => {
    const good = reader.good();
    await fc.assert(
      fc.asyncProperty(mutation, (m) => reader.read(mutate(good, m), folder)),
      { numRuns: 25 },
    );
  });

  test.each(readers.map((reader) => [reader.kind, reader] as const))("%s", async (_, reader) => {
    const good = reader.good();
    await fc.assert(
      fc.asyncProperty(mutation, (m) => reader.read(mutate(good, m), folder)),
      { numRuns: 60 },
    );
  });
});

interface ZipPart {
  readonly name: string;
  readonly data: Uint8Array;
  readonly method?: number;
  readonly plain?: number;
  /** Where the directory says that it lies. */
  readonly at?: number;
}

/** A zip archive as one likes it. */
function zip(parts: readonly ZipPart[]): Uint8Array {
  const chunks: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, data, method = 0, plain = data.byteLength, at } of parts) {
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(method, 8);
    local.writeUInt32LE(data.byteLength, 18);
    local.writeUInt32LE(plain, 22);
    local.writeUInt16LE(name.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(method, 10);
    central.writeUInt32LE(data.byteLength, 20);
    central.writeUInt32LE(plain, 24);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt32LE(at ?? offset, 42);
    directory.push(central, Buffer.from(name));
    chunks.push(local, Buffer.from(name), Buffer.from(data));
    offset += 30 + name.length + data.byteLength;
  }
  const end = Buffer.alloc(22);
  const size = directory.reduce((sum, b) => sum + b.length, 0);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(parts.length, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(offset, 16);
  return Uint8Array.from(Buffer.concat([...chunks, ...directory, end]));
}

const pickle = (...parts: (string | number[])[]) =>
  Uint8Array.from(Buffer.concat(parts.map((p) => (typeof p === "string" ? Buffer.from(p, "latin1") : Buffer.from(p)))));
const torchZip = (data: Uint8Array, more: readonly ZipPart[] = []) => zip([{ name: "m/data.pkl", data }, ...more]);
const open = (bytes: Uint8Array) => openTorchFile(countedFile(bytes, "evil.pth"));

describe("PyTorch files that would do harm", () => {
  test.each<[string, Uint8Array, string]>([
    ["os.system", torchZip(pickle([0x80, 2], "cos\nsystem\n", "(", "U\x04evil", "t", "R", ".")), "asks for os.system"],
    [
      "posix.system",
      torchZip(pickle([0x80, 4], "\x8c\x05posix\x8c\x06system\x93", "\x8c\x04evil\x85R.")),
      "asks for posix.system",
    ],
    [
      "builtins.eval by NEWOBJ",
      torchZip(pickle([0x80, 2], "cbuiltins\neval\n", "(U\x011t", "\x81.")),
      "asks for builtins.eval",
    ],
    [
      "a name that every object has",
      torchZip(pickle([0x80, 2], "cconstructor\nconstructor\n", ")R.")),
      "asks for constructor.constructor",
    ],
    ["an operation that no tensor needs", torchZip(pickle([0x80, 2], "i", "os\nsystem\n.")), "which is not known here"],
    ["an endless text", torchZip(pickle([0x80, 2], "X", [0xff, 0xff, 0xff, 0x7f], ".")), "it is cut off"],
    ["a dictionary that holds itself", torchZip(pickle([0x80, 2], "}q\x00U\x01ah\x00s.")), "holds no tensors by name"],
    ["an empty stack", torchZip(pickle([0x80, 2], "R.")), "its stack runs empty"],
    ["no end", torchZip(pickle([0x80, 2], "N")), "it is cut off"],
    [
      "a compressed bomb",
      zip([{ name: "m/data.pkl", data: deflateRawSync(Buffer.alloc(1 << 20)), method: 8, plain: 1 << 20 }]),
      "is compressed, which PyTorch never does",
    ],
    [
      "a stored size that lies",
      zip([{ name: "m/data.pkl", data: Uint8Array.of(0x2e), plain: 1 << 30 }]),
      "is compressed, which PyTorch never does",
    ],
    ["a path upward", zip([{ name: "../../data.pkl", data: Uint8Array.of(0x2e) }]), "names the path"],
    ["an absolute path", zip([{ name: "/data.pkl", data: Uint8Array.of(0x2e) }]), "names the path"],
    [
      "two entries in one place",
      zip([
        { name: "m/data.pkl", data: pickle("N.") },
        { name: "m/data/0", data: pickle("N."), at: 0 },
      ]),
      "overlaps",
    ],
    [
      "a name twice",
      zip([
        { name: "m/data.pkl", data: pickle("N.") },
        { name: "m/data.pkl", data: pickle("N.") },
      ]),
      "is there twice",
    ],
    ["nothing of PyTorch", zip([{ name: "hello.txt", data: Buffer.from("hello") }]), "without data.pkl"],
    ["a zip that is cut", torchZip(pickle("N.")).subarray(0, 40), "it has no directory at its end"],
    ["a pickle that torch.save did not write", pickle([0x80, 2], "K\x01."), "not one that torch.save wrote"],
  ])("%s", async (_, bytes, message) => {
    await expect(open(bytes)).rejects.toThrow(message);
    await expect(open(bytes)).rejects.toMatchObject({ name: "UserError" });
    await expect(open(bytes)).rejects.toThrow("evil.pth");
  });

  /** `{"w": a tensor over storage 0 of `count` floats}`. */
  const tensorPickle = (count: number, size: number, stride: number, names = ["w"]) =>
    pickle(
      [0x80, 2],
      "}(",
      ...names.flatMap((name) => [
        "X",
        [name.length, 0, 0, 0],
        name,
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu",
        "J",
        [count & 255, (count >> 8) & 255, (count >> 16) & 255, (count >> 24) & 255],
        "tQ",
        "K\x00J",
        [size & 255, (size >> 8) & 255, (size >> 16) & 255, (size >> 24) & 255],
        "\x85K",
        [stride],
        "\x85\x89}tR",
      ]),
      "u.",
    );
  const storage = (bytes: number) => [{ name: "m/data/0", data: new Uint8Array(bytes) }];

  test("a good one of this make is read", async () => {
    const tensors = await open(torchZip(tensorPickle(4, 4, 1), storage(16)));
    expect(tensors.get("w")?.dims).toEqual([4]);
  });
  test.each<[string, Uint8Array, string]>([
    ["more elements than the storage has", torchZip(tensorPickle(4, 5, 1), storage(16)), "does not fit its storage"],
    [
      "one element repeated without end",
      torchZip(tensorPickle(4, 1 << 30, 0), storage(16)),
      "does not fit its storage",
    ],
    [
      "a storage that is too short",
      torchZip(tensorPickle(400, 4, 1), storage(16)),
      "16 bytes where 1600 were expected",
    ],
    ["a storage that is not there", torchZip(tensorPickle(4, 4, 1)), "lacks the data of storage 0"],
    [
      "one storage for a hundred weights",
      torchZip(
        tensorPickle(
          4096,
          4096,
          1,
          Array.from({ length: 100 }, (_, i) => `weight${i}`),
        ),
        storage(16384),
      ),
      "its tensors would take",
    ],
  ])("%s", async (_, bytes, message) => {
    await expect(open(bytes)).rejects.toThrow(message);
  });
});

describe("pictures that would fill the memory", () => {
  /** A PNG whose header claims a size. */
  async function claiming(name: string, width: number, height: number): Promise<void> {
    const png = await sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    png.writeUInt32BE(width, 16);
    png.writeUInt32BE(height, 20);
    await writeFile(join(folder, name), png);
  }
  test.each([
    ["gigapixel.png", 100_000, 100_000],
    ["negative.png", 0xffffffff, 0xffffffff],
    ["empty.png", 0, 0],
  ])("%s", async (name, width, height) => {
    await claiming(name, width, height);
    const source = createPictureSource(folder, 1);
    await expect(source.facts({ name })).rejects.toThrow(name);
    await expect(source.facts({ name })).rejects.toMatchObject({ name: "UserError" });
    await source.dispose();
  });
});

describe("directories that lie", () => {
  const index = async (map: unknown) => {
    const directory = await mkdtemp(join(folder, "index-"));
    await writeFile(join(directory, "config.json"), '{"model_type":"vit"}');
    await writeFile(join(directory, "model.safetensors.index.json"), JSON.stringify(map));
    return directory;
  };
  test.each<[string, unknown, string]>([
    ["a shard outside of the folder", { weight_map: { a: "../../secret.safetensors" } }, "no plain file name"],
    ["a shard that is not there", { weight_map: { a: "model-00001.safetensors" } }, "there is no"],
    ["no map", { weights: {} }, "has no weight_map"],
    ["a map of numbers", { weight_map: { a: 3 } }, "has no weight_map"],
  ])("%s", async (_, map, message) => {
    await expect(loadModel(await index(map))).rejects.toThrow(message);
  });

  test("sizes beyond all measure", async () => {
    const directory = await mkdtemp(join(folder, "huge-"));
    const good = referencePath("teachers/hf-vit/model.safetensors");
    await writeFile(join(directory, "model.safetensors"), await (await import("node:fs/promises")).readFile(good));
    for (const [config, message] of [
      [{ num_hidden_layers: 1e6 }, "says that there are 1000000 blocks"],
      [{ num_hidden_layers: 7 }, "missing"],
      [{ hidden_size: 1e9 }, "hidden_size"],
      [{ image_size: 1e6 }, "of another shape"],
      [{ num_attention_heads: 5 }, "5 heads don't divide"],
      [{ patch_size: 64 }, "don't fit pictures"],
    ] as const) {
      await writeFile(
        join(directory, "config.json"),
        JSON.stringify({ model_type: "vit", image_size: 32, num_attention_heads: 4, ...config }),
      );
      await expect(loadModel(directory)).rejects.toThrow(message);
    }
  });
});
