// Hostile files: each is read rightly or refused with one clear message; nothing in them runs, hangs or fills the memory.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createImageSource, loadModel } from "wecolora/node";
import { writeSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import { openTorchFile } from "../../src/checkpoints/torch.ts";
import { operations } from "../../src/files/pickle-operations.ts";
import { unpickle } from "../../src/files/pickle.ts";
import { UserError } from "../../src/utils/errors.ts";
import { closeReaders, countedFile, dataReaders, mutate, mutation, readers } from "../support/hostile.ts";
import { referencePath } from "../support/reference.ts";

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
    ["os.system by INST", torchZip(pickle([0x80, 2], "(U\x04evilios\nsystem\n.")), "asks for os.system"],
    ["os.system by OBJ", torchZip(pickle([0x80, 2], "(cos\nsystem\nU\x04evilo.")), "asks for os.system"],
    ["os.system by NEWOBJ_EX", torchZip(pickle([0x80, 4], "cos\nsystem\n)}\x92.")), "asks for os.system"],
    ["Python 2's eval", torchZip(pickle([0x80, 2], "c__builtin__\neval\n(U\x011tR.")), "asks for builtins.eval"],
    [
      "a function through getattr",
      torchZip(pickle([0x80, 2], "cbuiltins\ngetattr\n(NNtR(U\x04eviltR.")),
      "asks for builtins.getattr",
    ],
    ["data outside of the file", torchZip(pickle([0x80, 5], "\x97.")), "outside of the file"],
    ["an operation that there is not", torchZip(pickle([0x80, 2], [0xff], ".")), "which is not known here"],
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
      "TorchScript",
      zip([
        { name: "m/code/a.py", data: deflateRawSync(Buffer.alloc(99)), method: 8, plain: 99 },
        { name: "m/data.pkl", data: pickle("N.") },
      ]),
      "is a TorchScript model",
    ],
    [
      "a stored size that lies",
      zip([{ name: "m/data.pkl", data: Uint8Array.of(0x2e), plain: 1 << 30 }]),
      "is not compressed, but has sizes of 1 and 1073741824 bytes",
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
    // What a tensor says of itself is wrong only where the tensor is needed.
    const reading = open(bytes).then((tensors) => {
      for (const tensor of tensors.values()) if (tensor.type === undefined) throw new UserError(tensor.problem);
    });
    await expect(reading).rejects.toThrow(message);
  });
});

/** A number as pickle's LONG_BINGET has it. */
const int32 = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];
const repeat = (count: number, part: string) => part.repeat(count);

describe("pickles that would take for ever, or fill the memory", () => {
  /** A hundred lists, each twice in the next: 2^100 when it is written out or walked as a tree. */
  const laughs = (ending: string) => {
    const levels = Array.from({ length: 100 }, (_, i) => pickle("h", [i], "h", [i], "\x86q", [i + 1]));
    return torchZip(pickle([0x80, 2], "X", int32(3), "lolq\x00", ...levels.map((level) => [...level]), ending));
  };
  const loops = (times: number, part: string) =>
    torchZip(pickle([0x80, 2], "](", repeat(times, "K\x01"), "eq\x000", repeat(times, part), "N."));
  const long = (length: number) =>
    pickle([0x80, 2], "\x8b", int32(length), repeat(Math.max(0, Math.min(length, 5_000_000)), "\xff"), ".");
  const cases: [string, Uint8Array, string][] = [
    ["tuples that double", laughs("."), "holds no tensors by name"],
    ["as a class's name", laughs("h\x00h\x64\x93."), "the name of a class is not text"],
    ["as a module's name", laughs("h\x64h\x00\x93."), "the name of a class is not text"],
    ["as a key", laughs("}h\x64N}s."), "sets items of what is not a dictionary"],
    ["as a dictionary's key", laughs("}h\x64Ns."), "holds no tensors by name"],
    ["as arguments of an unknown class", laughs("ca\nb\nh\x64R."), "asks for a.b"],
    ["as a state", laughs("ca\nb\n)\x81h\x64b."), "asks for a.b"],
    ["as a storage", laughs("h\x64Q."), "other than a storage"],
    [
      "as a storage's key",
      laughs("(X\x07\x00\x00\x00storagectorch\nFloatStorage\nh\x64X\x03\x00\x00\x00cpuK\x01tQ."),
      "a storage's description is malformed",
    ],
    [
      "as a shape",
      laughs("ctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x64h\x64\x89NtR."),
      "a tensor's description is malformed",
    ],
    [
      "dictionaries that double",
      torchZip(
        pickle(
          [0x80, 2],
          "}q\x00",
          ...Array.from({ length: 100 }, (_, i) => [...pickle("}q", [i + 1], "(U\x01ah", [i], "U\x01bh", [i], "u")]),
          ".",
        ),
      ),
      "holds no tensors by name",
    ],
    [
      "a dictionary in itself",
      torchZip(pickle([0x80, 2], "}q\x00(U\x01ah\x00U\x01bh\x00u.")),
      "holds no tensors by name",
    ],
    [
      "a million dictionaries, each in the next",
      torchZip(pickle([0x80, 2], repeat(1_000_000, "}U\x01a"), "N", repeat(1_000_000, "s"), ".")),
      "holds no tensors by name",
    ],
    [
      "a million tuples, each in the next",
      torchZip(pickle([0x80, 2], ")", repeat(1_000_000, "\x85"), ".")),
      "holds no tensors by name",
    ],
    [
      "a million marks",
      torchZip(pickle([0x80, 2], repeat(1_000_000, "("), repeat(1_000_000, "l"), ".")),
      "holds no tensors by name",
    ],
    [
      "a list that is copied again and again",
      loops(3000, "cbuiltins\nset\nh\x00\x85R0"),
      "copies its parts over and over",
    ],
    [
      "pairs that are copied again and again",
      loops(3000, "ccollections\nOrderedDict\nh\x00\x85R0"),
      "copies its parts over and over",
    ],
    [
      "millions of dictionaries",
      torchZip(pickle([0x80, 2], repeat(3_000_000, "}0"), "N.")),
      "makes more than 2000000 objects",
    ],
    ["endless operations", torchZip(pickle([0x80, 2], repeat(11_000_000, "N0"), "N.")), "too many operations"],
    ["a negative integer's length", torchZip(long(-1)), "it is cut off"],
    [
      "an integer's length beyond the end",
      torchZip(pickle([0x80, 2], "\x8b", int32(0x7fffffff), "abc.")),
      "it is cut off",
    ],
    ["an integer of five million bytes", torchZip(long(5_000_000)), "holds no tensors by name"],
    [
      "an integer of a million digits",
      torchZip(pickle([0x80, 2], "L", repeat(1_000_000, "9"), "L\n.")),
      "holds no tensors by name",
    ],
    [
      "bytes beyond the end",
      torchZip(pickle([0x80, 4], "\x8e", [255, 255, 255, 255, 255, 255, 255, 127], ".")),
      "it is cut off",
    ],
    ["a text of 4 GB", torchZip(pickle([0x80, 4], "X", [255, 255, 255, 255], ".")), "it is cut off"],
    ["an endless class name", torchZip(pickle([0x80, 2], "c", repeat(5_000_000, "x"), "\ny\n)\x81.")), "asks for xxx"],
    [
      "an endless operation to refuse",
      torchZip(pickle([0x80, 2], "cos\n", repeat(5_000_000, "x"), "\n)R.")),
      "asks for os.xxx",
    ],
    ["an endless number", torchZip(pickle([0x80, 2], "I", repeat(2000, "x"), "\n.")), 'it holds the integer "xxx'],
  ];
  test.each(cases)("%s", async (_, bytes, message) => {
    const begin = performance.now();
    const error = await open(bytes).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toContain(message);
    expect((error as Error).message.length).toBeLessThan(700);
    // Seconds on a loaded machine; what this is about would take years.
    expect(performance.now() - begin).toBeLessThan(60_000);
  });

  test("any sequence of operations is followed or refused", () => {
    const codes = [...operations.keys()];
    // Protocols 0 to 5, as pickletools lists them.
    expect(codes).toHaveLength(68);
    const handlers = { construct: () => undefined, persistent: () => null };
    const part = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...codes).map((code) => [code]) },
      { weight: 2, arbitrary: fc.uint8Array({ maxLength: 4 }).map((bytes) => [...bytes]) },
      {
        weight: 2,
        arbitrary: fc
          .constantFrom("K\x01", "U\x01a", "cbuiltins\ndict\n", "ca\nb\n", ")", "}", "]", "(")
          .map((text) => [...pickle(text)]),
      },
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 60 }), (parts) => {
        try {
          unpickle(Uint8Array.from([...parts.flat(), 0x2e]), handlers, "evil.pkl");
        } catch (error) {
          expect(error, String((error as Error).stack)).toMatchObject({ name: "UserError" });
          expect((error as Error).message).toContain("evil.pkl");
        }
      }),
      { numRuns: 5000 },
    );
  });

  test("a tensor under a name of megabytes, a hundred thousand times, is passed over", async () => {
    const tensor =
      "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89NtRq\x01";
    const inner = Array.from({ length: 100_000 }, (_, i) =>
      [...pickle("K", [i & 255], "X", int32(6), String(i).padStart(6, "0"), "h\x01s")].slice(2),
    );
    const bytes = torchZip(
      pickle(
        [0x80, 2],
        "}X",
        int32(4_000_000),
        repeat(4_000_000, "x"),
        "}",
        tensor,
        "0",
        ...inner,
        "sX\x01\x00\x00\x00wh\x01s.",
      ),
      [{ name: "m/data/0", data: new Uint8Array(4) }],
    );
    expect([...(await open(bytes)).keys()]).toEqual(["w"]);
  });
});

describe("names without end", () => {
  /** A folder with weights under such names. */
  async function named(kind: string, names: readonly string[], config?: unknown): Promise<string> {
    const directory = await mkdtemp(join(folder, `${kind}-`));
    const one = { type: "float32" as const, dims: [1, 1], data: new Float32Array(1) };
    const chunks = writeSafetensors(new Map(names.map((name) => [name, one])));
    await writeFile(join(directory, "model.safetensors"), Buffer.concat(chunks));
    if (config) await writeFile(join(directory, "config.json"), JSON.stringify(config));
    return directory;
  }
  const endless = "x".repeat(5_000_000);
  test.each<[string, readonly string[], unknown]>([
    ["long", [endless, `${endless}.patch_embed.proj.weight`, `${endless}.blocks.0.attn.proj.weight`], undefined],
    ["long-with-config", [endless], { model_type: "vit" }],
    ["wrappers", ["module.".repeat(700_000)], undefined],
    [
      "many-towers",
      Array.from({ length: 20_000 }, (_, i) => [
        `${i}.patch_embed.proj.weight`,
        `${i}.blocks.0.attn.proj.weight`,
      ]).flat(),
      undefined,
    ],
    ["model-type", ["a"], { model_type: endless }],
    ["activation", ["a"], { model_type: "vit", hidden_act: endless }],
    ["no-activation", ["a"], { model_type: "vit", hidden_act: "constructor", hidden_size: 8 }],
    ["size", ["a"], { model_type: "vit", image_size: [endless] }],
    ["architecture", ["a"], { architecture: endless }],
  ])("%s", async (kind, names, config) => {
    const error = await loadModel(await named(kind, names, config)).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: "UserError" });
    expect((error as Error).message.length).toBeLessThan(2100);
  });
});

describe("images that would fill the memory", () => {
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
    const source = createImageSource(folder, 1);
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
    ["a shard outside of the folder", { weight_map: { a: "../../secret.safetensors" } }, "not a plain file name"],
    ["a shard that is not there", { weight_map: { a: "model-00001.safetensors" } }, "There is no"],
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
      [{ patch_size: 64 }, "don't fit images"],
    ] as const) {
      await writeFile(
        join(directory, "config.json"),
        JSON.stringify({ model_type: "vit", image_size: 32, num_attention_heads: 4, ...config }),
      );
      await expect(loadModel(directory)).rejects.toThrow(message);
    }
  });
});
