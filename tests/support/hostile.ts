// Files that lie: mutations of good ones, each of which must be read rightly or refused with one clear message.
import { readFileSync } from "node:fs";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect } from "vitest";
import { createImageSource, loadModel, nodeDirectory, openDataSet } from "wecolora/node";
import { openSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import type { FileHandle, StoredTensors } from "../../src/files/storage.ts";
import { readTensor, storedSize } from "../../src/files/storage.ts";
import { readNifti } from "../../src/data/nifti.ts";
import { PlaceReader } from "../../src/data/places.ts";
import { sliceStack } from "../../src/data/scans.ts";
import { readMat } from "../../src/files/mat.ts";
import { openTorchFile } from "../../src/checkpoints/torch.ts";
import { UserError } from "../../src/utils/errors.ts";
import { referencePath, root } from "./reference.ts";

export type Mutation =
  | { readonly kind: "bytes"; readonly at: number[]; readonly values: number[] }
  | { readonly kind: "cut"; readonly share: number }
  | { readonly kind: "integer"; readonly at: number; readonly value: bigint }
  | { readonly kind: "double"; readonly from: number; readonly length: number }
  | { readonly kind: "swap"; readonly a: number; readonly b: number; readonly length: number };

const share = fc.double({ min: 0, max: 1, noNaN: true });
const huge = fc.constantFrom(
  0n,
  1n,
  0x7fffffffn,
  0xffffffffn,
  0xffffffffffffffffn,
  1n << 40n,
  0x8000000000000000n,
  65535n,
);

/** What may happen to a file: flipped bytes, an end cut off, a number that lies, parts doubled or exchanged. */
export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({
    kind: fc.constant("bytes" as const),
    at: fc.array(share as never, { minLength: 1, maxLength: 8 }) as fc.Arbitrary<number[]>,
    values: fc.array(fc.nat(255), { minLength: 8, maxLength: 8 }),
  }),
  fc.record({ kind: fc.constant("cut" as const), share }),
  fc.record({ kind: fc.constant("integer" as const), at: share, value: huge }),
  fc.record({ kind: fc.constant("double" as const), from: share, length: fc.nat(4096) }),
  fc.record({ kind: fc.constant("swap" as const), a: share, b: share, length: fc.nat(64) }),
);

/** Places near the beginning and the end, where headers and directories lie, are chosen more often. */
function place(where: number, size: number): number {
  if (where < 0.4) return Math.floor((where / 0.4) * Math.min(size, 2048));
  if (where < 0.7) return size - 1 - Math.floor(((where - 0.4) / 0.3) * Math.min(size - 1, 4096));
  return Math.min(size - 1, Math.floor(((where - 0.7) / 0.3) * size));
}

export function mutate(good: Uint8Array, m: Mutation): Uint8Array {
  const bytes = Uint8Array.from(good);
  switch (m.kind) {
    case "bytes":
      m.at.forEach((where, i) => {
        bytes[place(where, bytes.length)] = m.values[i];
      });
      return bytes;
    case "cut":
      return bytes.subarray(0, Math.floor(m.share * bytes.length));
    case "integer": {
      const at = Math.min(place(m.at, bytes.length), Math.max(0, bytes.length - 8));
      new DataView(bytes.buffer).setBigUint64(at, m.value, true);
      return bytes;
    }
    case "double": {
      const from = place(m.from, bytes.length);
      const part = bytes.subarray(from, from + m.length);
      return Uint8Array.from([...bytes.subarray(0, from), ...part, ...bytes.subarray(from)]);
    }
    case "swap": {
      const [a, b] = [place(m.a, bytes.length), place(m.b, bytes.length)];
      const part = bytes.slice(a, a + m.length);
      bytes.copyWithin(a, b, Math.min(bytes.length, b + m.length));
      bytes.set(part.subarray(0, Math.max(0, bytes.length - b)), b);
      return bytes;
    }
  }
}

/** A file in memory that counts what is asked of it. */
export function countedFile(bytes: Uint8Array, name = "hostile.bin"): FileHandle & { readonly asked: () => number } {
  let asked = 0;
  return {
    name,
    size: bytes.byteLength,
    async readInto(offset, target) {
      asked += target.byteLength;
      if (offset + target.byteLength > bytes.byteLength) throw new UserError(`${name} ends too early`);
      target.set(bytes.subarray(offset, offset + target.byteLength));
    },
    async close() {},
    asked: () => asked,
  };
}

async function readAll(
  file: ReturnType<typeof countedFile>,
  open: (file: FileHandle) => Promise<StoredTensors>,
): Promise<void> {
  const tensors = await open(file);
  let bytes = 0;
  const readable = [...tensors.values()].filter((tensor) => tensor.type !== undefined);
  for (const tensor of readable) bytes += storedSize(tensor);
  expect(bytes).toBeLessThanOrEqual(4 * file.size);
  for (const tensor of readable) await readTensor(tensor);
  for (const { problem } of [...tensors.values()].filter((tensor) => tensor.type === undefined))
    expect(problem.length).toBeLessThan(300);
  // Headers, directories and data, each at most a few times.
  expect(file.asked()).toBeLessThanOrEqual(8 * file.size + 200_000);
}

/** A file that takes longer than this hangs; a loaded machine takes seconds. */
const patience = 1_800_000;

async function refusesOrReads(name: string, read: () => Promise<unknown>): Promise<void> {
  const begin = performance.now();
  try {
    await read();
  } catch (error) {
    expect(error, String((error as Error).stack)).toMatchObject({ name: "UserError" });
    const { message } = error as Error;
    expect(message).toContain(name);
    expect(message.length).toBeLessThan(3000);
  }
  expect(performance.now() - begin).toBeLessThan(patience);
}

export interface Reader {
  readonly kind: string;
  readonly good: () => Uint8Array;
  /** Reads mutated bytes; `folder` is there for readers that take a path. */
  read(bytes: Uint8Array, folder: string): Promise<void>;
}

const file = (path: string) => () => readFileSync(path);

async function atPath(
  folder: string,
  name: string,
  bytes: Uint8Array,
  read: (path: string) => Promise<unknown>,
): Promise<void> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  await refusesOrReads(name, () => read(path));
}

/** Every kind of file that comes from outside. */
export const readers: readonly Reader[] = [
  {
    kind: "safetensors",
    good: file(referencePath("teachers/timm-vit/model.safetensors")),
    read: (bytes) =>
      refusesOrReads("hostile.bin", () => readAll(countedFile(bytes), async (f) => (await openSafetensors(f)).tensors)),
  },
  {
    kind: "pth",
    good: file(referencePath("teachers/mae-pth/mae_pretrain_fp16.pth")),
    read: (bytes) => refusesOrReads("hostile.bin", () => readAll(countedFile(bytes), openTorchFile)),
  },
  // Formats before 1.6, other protocols, objects of unknown classes, training loops: whatever torch.save writes.
  ...["old-lists.pth", "old-protocol-4.pth", "beside-classes.pth", "beside-tensors.pth", "lightning.ckpt"].map(
    (name): Reader => ({
      kind: name,
      good: file(referencePath(`checkpoints/${name}`)),
      read: (bytes) => refusesOrReads("hostile.bin", () => readAll(countedFile(bytes), openTorchFile)),
    }),
  ),
  {
    kind: "model.ckpt",
    good: file(referencePath("checkpoints/lightning.ckpt")),
    read: (bytes, folder) => atPath(folder, "hostile.ckpt", bytes, async (path) => (await loadModel(path)).dispose()),
  },
  {
    kind: "onnx",
    good: file(referencePath("onnx/vit.old.onnx")),
    read: (bytes, folder) =>
      atPath(folder, "hostile.onnx", bytes, async (path) => (await loadModel(path, { imageSize: 32 })).dispose()),
  },
  {
    kind: "config.json",
    good: file(referencePath("teachers/hf-dinov2/config.json")),
    read: async (bytes, folder) => {
      await writeFile(
        join(folder, "model.safetensors"),
        readFileSync(referencePath("teachers/hf-dinov2/model.safetensors")),
      );
      await writeFile(join(folder, "config.json"), bytes);
      // Messages name the configuration or the weights that don't fit it.
      await refusesOrReads(folder, async () => (await loadModel(folder)).dispose());
    },
  },
  ...["png", "jpg"].map((ending): Reader => ({
    kind: ending,
    good: file(
      ending === "png" ? referencePath("images/source.png") : join(root, "demo/pictures/val/arrow/arrow07_2.jpg"),
    ),
    read: (bytes, folder) =>
      atPath(folder, `hostile.${ending}`, bytes, async () => {
        images ??= createImageSource(folder, 1);
        await images.facts({ name: `hostile.${ending}` });
      }),
  })),
];

/** The data set at a path, and its first images. */
async function openAndRead(path: string): Promise<void> {
  const data = await openDataSet(path);
  const directory = nodeDirectory(data.path);
  const places = new PlaceReader((name) => directory.open(name));
  try {
    for (const { place } of data.train.items.slice(0, 3)) if (place) await places.read(place);
  } finally {
    await places.close();
  }
}

/** An image of tests/reference/images/formats. */
function imageReader(name: string): Reader {
  return {
    kind: name,
    good: file(referencePath(`images/formats/${name}`)),
    read: (bytes, folder) =>
      atPath(folder, `hostile-${name}`, bytes, async () => {
        images ??= createImageSource(folder, 1);
        await images.facts({ name: `hostile-${name}` });
      }),
  };
}

/** Files of data sets; those that are found by their folder's names lie in one. */
export const dataReaders: readonly Reader[] = [
  ...[
    "packed.zip",
    "described.tar",
    "shards/set-val-000000.tar",
    "words.parquet",
    "tables/two-images.parquet",
    "tables/booleans.parquet",
    "listed/all.csv",
    "listed/lines.txt",
  ].map((name): Reader => ({
    kind: name,
    good: file(referencePath(`data-sets/${name}`)),
    read: (bytes, folder) => atPath(folder, `hostile${name.slice(name.lastIndexOf("."))}`, bytes, openAndRead),
  })),
  ...["train", "meta"].map((name): Reader => ({
    kind: `cifar-100-python/${name}`,
    good: file(referencePath(`data-sets/cifar-100-python/${name}`)),
    read: async (bytes, folder) => {
      const inside = join(folder, `cifar-${name}`);
      await cp(referencePath("data-sets/cifar-100-python"), inside, { recursive: true });
      await writeFile(join(inside, name), bytes);
      await refusesOrReads(inside, () => openAndRead(inside));
    },
  })),
  {
    kind: "Data_Entry_2017.csv",
    good: file(referencePath("data-sets/chestxray14/Data_Entry_2017_v2020.csv")),
    read: async (bytes, folder) => {
      const inside = join(folder, "xray");
      await cp(referencePath("data-sets/chestxray14"), inside, { recursive: true });
      await writeFile(join(inside, "Data_Entry_2017_v2020.csv"), bytes);
      await refusesOrReads(inside, () => openAndRead(inside));
    },
  },
  {
    kind: "meta.mat",
    good: file(referencePath("data-sets/imagenet/ILSVRC2012_devkit_t12/data/meta.mat")),
    read: (bytes) => refusesOrReads("hostile.mat", async () => readMat(bytes, "hostile.mat")),
  },
  ...["turned/big.nii", "turned/turned.nii", "brats/BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz"].map(
    (name): Reader => ({
      kind: name,
      good: file(referencePath(`data-sets/${name}`)),
      read: (bytes) =>
        refusesOrReads("hostile.nii", async () =>
          sliceStack("hostile", [readNifti(bytes, "hostile.nii")], undefined, "axial"),
        ),
    }),
  ),
  ...["a.bmp", "palette.bmp", "cmyk.jpg"].map((name): Reader => ({
    kind: name,
    good: file(referencePath(`data-sets/formats/${name}`)),
    read: (bytes, folder) =>
      atPath(folder, `hostile-${name}`, bytes, async () => {
        images ??= createImageSource(folder, 1);
        await images.facts({ name: `hostile-${name}` });
      }),
  })),
  ...["libheif-420-10.avif", "turned-7.avif", "animated.avif", "lossy-alpha.webp", "part-transparent.gif"].map(
    imageReader,
  ),
  ...["rgb-lzw.tif", "rgb-big.tif", "palette-4.bmp", "runs-8.bmp", "ycck.jpg", "animated.png"].map(imageReader),
];

let images: ReturnType<typeof createImageSource> | undefined;

export async function closeReaders(): Promise<void> {
  await images?.dispose();
  images = undefined;
}
