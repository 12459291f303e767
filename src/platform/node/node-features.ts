// Features on disk, in the user's cache folder.
//
// A model has a folder, and in it packs: safetensors files of vectors and the hashes of their images. A pack is never changed,
// and is named by the hashes that it holds, so that several processes can add at the same time. Hashes of images are remembered
// in lines that are only added to.
import { appendFile, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { readSafetensors, writeSafetensors } from "../../checkpoints/safetensors-file.ts";
import type { FeatureStore, HashMemory, VectorsByHash } from "../../evaluation/feature-store.ts";
import { sha256 } from "../../utils/digest.ts";
import type { Tensor } from "../../utils/tensor.ts";
import { openFile, removeAbandoned, writeFileSafely } from "./node-files.ts";
import { checkFile } from "./node-outputs.ts";
import { userCacheFolder } from "./user-folders.ts";
import { makeFolder } from "./make-folder.ts";

const format = { format: "wecolora-feature-cache", version: "2" } as const;
/** With so many packs of a model they are joined. */
const mostPacks = 32;
const hashBytes = 32;

const toHex = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");

/** What a pack holds; nothing where it can't be read: it was cut off, removed meanwhile, or another version wrote it. */
async function readPack(path: string): Promise<Map<string, Float32Array>> {
  const vectors = new Map<string, Float32Array>();
  try {
    const file = await openFile(path);
    if (!file) return vectors;
    try {
      const { tensors, metadata } = await readSafetensors(file);
      const [hashes, features] = [tensors.get("hashes"), tensors.get("features")];
      const isReadable = metadata.format === format.format && metadata.version === format.version;
      if (!isReadable || hashes?.type !== "uint8" || features?.type !== "float32") return vectors;
      const [count, width] = features.dims;
      if (features.dims.length !== 2 || hashes.dims[0] !== count || hashes.dims[1] !== hashBytes) return vectors;
      const bytes = Uint8Array.from(hashes.data as Uint8Array);
      for (let i = 0; i < count; i++)
        vectors.set(
          toHex(bytes.subarray(i * hashBytes, (i + 1) * hashBytes)),
          (features.data as Float32Array).slice(i * width, (i + 1) * width),
        );
    } finally {
      await file.close();
    }
  } catch {
    // See above.
  }
  return vectors;
}

/** Writes vectors of one length as a pack. */
async function writePack(folder: string, vectors: VectorsByHash): Promise<string> {
  const hashes = [...vectors.keys()].sort();
  const width = vectors.get(hashes[0])?.length ?? 0;
  const data = new Float32Array(hashes.length * width);
  hashes.forEach((hash, i) => {
    data.set(vectors.get(hash) ?? [], i * width);
  });
  const tensors = new Map<string, Tensor>([
    ["features", { type: "float32", dims: [hashes.length, width], data }],
    ["hashes", { type: "uint8", dims: [hashes.length, hashBytes], data: Buffer.from(hashes.join(""), "hex") }],
  ]);
  const name = `${(await sha256(hashes.join("\n"))).slice(0, 32)}.safetensors`;
  await writeFileSafely(join(folder, name), writeSafetensors(tensors, format));
  return name;
}

const hashLine = z.tuple([z.string(), z.string().regex(/^[0-9a-f]{64}$/)]);

/** Lines of `["stamp","hash"]`; several processes may add to them, and a line that was cut off is passed over. */
async function hashMemory(path: string, warn: (message: string) => void): Promise<HashMemory> {
  const hashes = new Map<string, string>();
  const text = await readFile(path, "utf8").catch(() => "");
  for (const line of text.split("\n")) {
    if (line === "") continue;
    try {
      const [stamp, hash] = hashLine.parse(JSON.parse(line));
      hashes.set(stamp, hash);
    } catch {
      // See above.
    }
  }
  const added: string[] = [];
  return {
    get: (stamp) => hashes.get(stamp),
    set(stamp, hash) {
      hashes.set(stamp, hash);
      added.push(JSON.stringify([stamp, hash]));
    },
    async save() {
      if (added.length === 0) return;
      // A line break first: what is there may end in a line that was cut off.
      const lines = `${text === "" || text.endsWith("\n") ? "" : "\n"}${added.join("\n")}\n`;
      added.length = 0;
      try {
        await makeFolder(join(path, ".."));
        await appendFile(path, lines);
      } catch (error) {
        warn(`Hashes of images are not cached: ${(error as Error).message}`);
      }
    },
  };
}

/** Replaces packs by one that has their vectors and further ones. */
async function joinPacks(
  folder: string,
  older: readonly string[],
  vectors: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  const all = new Map<string, Float32Array>();
  for (const name of older) for (const [hash, vector] of await readPack(join(folder, name))) all.set(hash, vector);
  for (const [hash, vector] of vectors) all.set(hash, vector);
  const joined = await writePack(folder, all);
  for (const name of older) if (name !== joined) await rm(join(folder, name), { force: true });
}

/** Features below a folder; `warn` is told where they can't be kept. */
export function nodeFeatureStore(
  folder: string = join(userCacheFolder(), "wecolora", "features"),
  warn: (message: string) => void = () => undefined,
): FeatureStore {
  const folderOf = (key: string) => join(folder, key.slice(0, 32));
  const packsOf = async (key: string) =>
    (await readdir(folderOf(key)).catch((): string[] => [])).filter((name) => name.endsWith(".safetensors")).sort();
  return {
    async problem() {
      try {
        await checkFile(join(folder, "probe"));
        return undefined;
      } catch (error) {
        return (error as Error).message;
      }
    },
    async load(key, wanted) {
      await removeAbandoned(folderOf(key), () => true);
      const vectors = new Map<string, Float32Array>();
      for (const name of await packsOf(key))
        for (const [hash, vector] of await readPack(join(folderOf(key), name)))
          if (wanted.has(hash)) vectors.set(hash, vector);
      return vectors;
    },
    async save(key, vectors) {
      try {
        const older = await packsOf(key);
        if (older.length < mostPacks) await writePack(folderOf(key), vectors);
        else await joinPacks(folderOf(key), older, vectors);
      } catch (error) {
        warn(`Features are not cached: ${(error as Error).message}`);
      }
    },
    hashes: async (source) => hashMemory(join(folder, "hashes", `${(await sha256(source)).slice(0, 32)}.jsonl`), warn),
  };
}
