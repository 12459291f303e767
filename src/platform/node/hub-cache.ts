// huggingface_hub's cache: `blobs/` by their hash, `snapshots/<commit>/` of links to them, `refs/` from branches and tags
// to commits, `.no_exist/` for files that a commit is known not to have. What Python has downloaded is found here and the
// other way round.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { UserError } from "../../utils/errors.ts";
import {
  commitPattern,
  configFile,
  mostJsonBytes,
  preprocessingFiles,
  settingFiles,
  shardNames,
  weightFiles,
} from "../hub-names.ts";

import { writeFileSafely } from "./node-files.ts";
import { writeError } from "./system-errors.ts";
import { homeFolder, userCacheFolder, type Variables } from "./user-folders.ts";
import { makeFolder } from "./make-folder.ts";

/** A path as huggingface_hub reads it from a variable: `~` and `$NAME` stand for what they do in a shell. */
function expand(path: string, variables: Variables): string {
  const named = path.replace(/\$(?:(\w+)|\{([^}]*)\})/g, (whole, plain?: string, braced?: string) => {
    return variables[plain ?? braced ?? ""] ?? whole;
  });
  return resolve(named.replace(/^~(?=$|[\\/])/, () => homeFolder()));
}

// Empty variables count as not set. Relative paths in HF_* are taken from the working folder, as huggingface_hub does.
function homeOf(variables: Variables): string {
  return variables.HF_HOME ? expand(variables.HF_HOME, variables) : join(userCacheFolder(variables), "huggingface");
}

/** The folder of all cached repositories. */
export function hubCacheFolder(variables: Variables): string {
  const folder = variables.HF_HUB_CACHE || variables.HUGGINGFACE_HUB_CACHE;
  return folder ? expand(folder, variables) : join(homeOf(variables), "hub");
}

export const isOn = (value: string | undefined): boolean =>
  ["1", "ON", "YES", "TRUE"].includes((value ?? "").toUpperCase());

/** The user's token: from HF_TOKEN, or from the file that `hf auth login` writes. */
export async function readToken(variables: Variables): Promise<string | undefined> {
  if (isOn(variables.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  let token = variables.HF_TOKEN || variables.HUGGING_FACE_HUB_TOKEN;
  if (!token) {
    const file = variables.HF_TOKEN_PATH
      ? expand(variables.HF_TOKEN_PATH, variables)
      : join(homeOf(variables), "token");
    token = await readFile(file, "utf8").catch(() => "");
  }
  token = token.trim();
  // Errors of fetch would show what it holds.
  if (!/^[\x21-\x7e]*$/.test(token))
    throw new UserError("HF_TOKEN contains characters that are not allowed in a token.", { code: "INVALID_OPTION" });
  return token || undefined;
}

const exists = async (path: string) => (await stat(path).catch(() => undefined)) !== undefined;

/** A revision as far as it is cached. */
export interface CachedSnapshot {
  readonly folder: string;
  /** Files that a model needs and that are not there. */
  readonly missing: readonly string[];
  /** Whether the commit is known to have no more preprocessing than is there. */
  readonly preprocessingKnown: boolean;
}

/** Files that the index of a checkpoint in several files names. */
export async function shardsOf(index: string): Promise<string[]> {
  const problem = new UserError(`${index} has no weight_map from weights to plain file names`, {
    code: "NOT_A_MODEL",
  });
  // A file that can't be read is no index either.
  const size = await stat(index).then(
    (file) => file.size,
    () => Infinity,
  );
  const text = size > mostJsonBytes ? "" : await readFile(index, "utf8").catch(() => "");
  return shardNames(text, index, problem);
}

/** One repository in the cache. */
export class RepositoryCache {
  private readonly root: string;
  private readonly name: string;

  /**
   * @param root the folder of all repositories
   * @param repository its hub name
   */
  constructor(root: string, repository: string) {
    this.root = root;
    this.name = `models--${repository.replace("/", "--")}`;
  }

  snapshot(commit: string): string {
    return join(this.root, this.name, "snapshots", commit);
  }

  blob(hash: string): string {
    return join(this.root, this.name, "blobs", hash);
  }

  /** Where a blob's lock lies: beside huggingface_hub's own. */
  lock(hash: string): string {
    return join(this.root, ".locks", this.name, `${hash}.wecolora`);
  }

  private mark(commit: string, file: string): string {
    return join(this.root, this.name, ".no_exist", commit, file);
  }

  /** What the cache has of a revision; undefined where it has nothing. */
  async find(revision: string): Promise<CachedSnapshot | undefined> {
    const reference = join(this.root, this.name, "refs", revision);
    const commit = commitPattern.test(revision) ? revision : await readCommit(reference);
    if (commit === undefined) return undefined;
    const folder = this.snapshot(commit);
    const names = await readdir(folder).catch(() => []);
    const present = new Set<string>();
    // Links to blobs that are gone don't count.
    for (const name of names) if (await exists(join(folder, name))) present.add(name);
    if (present.size === 0) return undefined;

    const isStored = async (file: string) => present.has(file) || (await exists(this.mark(commit, file)));
    const missing = (await isStored(configFile)) ? [] : [configFile];
    const pattern = weightFiles.find((candidate) => [...present].some((name) => candidate.test(name)));
    const weights = pattern && [...present].find((name) => pattern.test(name));
    if (weights === undefined) missing.push("weights (such as model.safetensors)");
    else if (weights.endsWith(".index.json"))
      missing.push(...(await shardsOf(join(folder, weights))).filter((shard) => !present.has(shard)));
    const [first, second] = await Promise.all(preprocessingFiles.map(isStored));
    const preprocessingKnown = preprocessingFiles.some((name) => present.has(name)) || (first && second);
    return { folder, missing, preprocessingKnown };
  }

  /** Stores which commit a branch or tag stands for, and which settings that commit doesn't have. */
  async finish(revision: string, commit: string, files: readonly string[]): Promise<void> {
    for (const file of settingFiles.filter((name) => !files.includes(name))) {
      const mark = this.mark(commit, file);
      // It only spares a request: a cache that may not be written to is read all the same.
      await makeFolder(dirname(mark)).catch(() => undefined);
      await writeFile(mark, "", { flag: "a" }).catch(() => undefined);
    }
    if (commitPattern.test(revision)) return;
    const reference = join(this.root, this.name, "refs", revision);
    if ((await readCommit(reference)) !== commit) await writeFileSafely(reference, [Buffer.from(commit)]);
  }

  /** Puts a blob into a snapshot: a link where the system has them, as huggingface_hub does it; else a copy. */
  async link(hash: string, pointer: string): Promise<void> {
    const blob = this.blob(hash);
    const target = relative(dirname(pointer), blob);
    if ((await readlink(pointer).catch(() => "")) === target) return;
    // Another process may do the same: made beside it and renamed.
    const temporary = `${pointer}.${randomUUID()}`;
    try {
      await makeFolder(dirname(pointer));
      await symlink(target, temporary).catch(() => copyFile(blob, temporary));
      await rename(temporary, pointer);
    } catch (error) {
      await rm(temporary, { force: true });
      throw writeError(pointer, error);
    }
  }
}

async function readCommit(reference: string): Promise<string | undefined> {
  const text = (await readFile(reference, "utf8").catch(() => "")).trim();
  return commitPattern.test(text) ? text : undefined;
}

/** Whether a hash is one that content can be verified by: git's of a blob, or SHA-256 (LFS). */
export const isContentHash = (hash: string): boolean => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash);

/** Whether a file has the content that a hash stands for. */
export async function hasContent(path: string, hash: string, signal?: AbortSignal): Promise<boolean> {
  const digest = createHash(hash.length === 40 ? "sha1" : "sha256");
  // Git hashes a blob's length with it.
  if (hash.length === 40) digest.update(`blob ${(await stat(path)).size}\0`);
  for await (const chunk of createReadStream(path, { signal })) digest.update(chunk as Uint8Array);
  return digest.digest("hex") === hash;
}
