// A checkpoint in a directory, whatever its format: which file it is, and its tensors by name.
import { nearestName, UserError } from "../utils/errors.ts";
import { listSome, quote, shorten } from "../utils/quote.ts";
import { openSafetensors } from "./safetensors-file.ts";
import type { Directory, FileHandle, StoredTensor, StoredTensors, UnreadableTensor } from "../files/storage.ts";
import { readBytes, readText } from "../files/storage.ts";
import { openTorchFile } from "./torch.ts";

export interface Checkpoint {
  /** The file that messages name. */
  readonly name: string;
  readonly tensors: StoredTensors;
  /** Bytes of all its files. */
  readonly bytes: number;
  close(): Promise<void>;
}

/** Files that hold a model's weights, the best first. */
const weightFiles = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];
const endings = [
  /\.safetensors$/,
  /\.safetensors\.index\.json$/,
  /\.(pth|pt|bin|ckpt|tar|pkl)$/,
  /\.bin\.index\.json$/,
];
/** Other things that lie beside models and are no weights of one. */
const notWeights =
  /^(optimizer|optim|scheduler|sampler|scaler|dl_state_dict|training_args|rng_state|random_states|custom_checkpoint|adapter_model)(_[\w-]*)?\.|optim_states\.pt$/;
/** DeepSpeed keeps a model's weights in a folder that the file `latest` names. */
const deepSpeedWeights = "mp_rank_00_model_states.pt";

/** The file in a directory that holds its weights. Throws a UserError where there is none, or no one can tell which. */
export async function findWeights(directory: Directory): Promise<string> {
  const names = await directory.list();
  const file = [...weightFiles, deepSpeedWeights].find((name) => names.includes(name));
  if (file) return file;
  for (const ending of endings) {
    const candidates = names.filter((name) => ending.test(name) && !notWeights.test(name));
    if (candidates.length === 1) return candidates[0];
    if (candidates.length > 1) {
      throw new UserError(
        `${directory.describe("")} holds several files of weights (${listSome(candidates)}); name the one to read`,
        { code: "NOT_A_MODEL" },
      );
    }
  }
  const newest = names.includes("latest") ? await newestOfDeepSpeed(directory) : undefined;
  if (newest) return newest;
  const near = names.map((name) => nearestName(name, weightFiles)).find((name) => name !== undefined);
  throw new UserError(
    `There are no weights in ${directory.describe("")}: no model.safetensors, pytorch_model.bin, .pth, .pt or .ckpt${near ? ` (is one of its files meant to be ${near}?)` : ""}`,
    { code: "NOT_A_MODEL" },
  );
}

async function newestOfDeepSpeed(directory: Directory): Promise<string | undefined> {
  const folder = (await readText(directory, "latest"))?.trim() ?? "";
  if (!/^\w[\w.-]*$/.test(folder)) return undefined;
  return (await directory.list(folder)).includes(deepSpeedWeights) ? `${folder}/${deepSpeedWeights}` : undefined;
}

/** Opens a checkpoint; its tensors can be read until it is closed. Throws a UserError that names the file. */
export async function openCheckpoint(directory: Directory, entry: string): Promise<Checkpoint> {
  if (entry.endsWith(".index.json")) return openShards(directory, entry);
  const file = await directory.open(entry);
  if (!file) throw new UserError(`There is no ${directory.describe(entry)}`, { code: "FILE_NOT_FOUND" });
  try {
    return { name: file.name, tensors: await openTensors(file), bytes: file.size, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The format is told by the content: names lie now and then. */
async function openTensors(file: FileHandle): Promise<StoredTensors> {
  const [first, second] = file.size >= 2 ? await readBytes(file, 0, 2) : [];
  const isZip = first === 0x50 && second === 0x4b;
  const isPickle = first === 0x80 && second >= 2 && second <= 5;
  // A safetensors file whose header is 640 to 1,407 bytes long may begin like a pickle.
  const isTorch = isZip || (isPickle && !file.name.endsWith(".safetensors"));
  return isTorch ? openTorchFile(file) : (await openSafetensors(file)).tensors;
}

/** Shards that an index lists: `{"weight_map": {name: file}}`. */
async function openShards(directory: Directory, entry: string): Promise<Checkpoint> {
  const name = directory.describe(entry);
  const map = await readWeightMap(directory, entry);
  const opened = new Map<string, Checkpoint>();
  const close = async () => {
    for (const shard of opened.values()) await shard.close();
  };
  try {
    const tensors = new Map<string, StoredTensor | UnreadableTensor>();
    for (const [weight, shardName] of map) {
      if (!/^[\w.-]+$/.test(shardName) || shardName === "..") {
        throw new UserError(`${name} names the shard ${quote(shardName)}, which is not a plain file name`, {
          code: "NOT_A_MODEL",
        });
      }
      const shard = opened.get(shardName) ?? (await openCheckpoint(directory, shardName));
      opened.set(shardName, shard);
      const tensor = shard.tensors.get(weight);
      if (!tensor)
        throw new UserError(`${name} says that ${shorten(weight)} is in ${shorten(shardName)}, but it is not there`, {
          code: "NOT_A_MODEL",
        });
      tensors.set(weight, tensor);
    }
    const bytes = [...opened.values()].reduce((sum, shard) => sum + shard.bytes, 0);
    return { name, tensors, bytes, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readWeightMap(directory: Directory, entry: string): Promise<[string, string][]> {
  const name = directory.describe(entry);
  const text = await readText(directory, entry);
  if (text === undefined) throw new UserError(`There is no ${name}`, { code: "FILE_NOT_FOUND" });
  let map: unknown;
  try {
    map = (JSON.parse(text) as { weight_map?: unknown }).weight_map;
  } catch (error) {
    throw new UserError(`${name} is not valid JSON: ${(error as Error).message}`, { code: "NOT_A_MODEL" });
  }
  const entries = typeof map === "object" && map !== null ? Object.entries(map) : [];
  if (entries.length === 0 || !entries.every((pair): pair is [string, string] => typeof pair[1] === "string")) {
    throw new UserError(`${name} has no weight_map from weights to files`, { code: "NOT_A_MODEL" });
  }
  return entries;
}
