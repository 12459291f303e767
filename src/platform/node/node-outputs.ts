// Where outputs go on disk: locks on folders, whether an output and an input lie in each other, room, and permissions.
import { rmSync } from "node:fs";
import { link, lstat, open, readFile, realpath, rename, rm, rmdir, stat, statfs, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { FolderLock, OutputPlatform, Relation } from "../../context/outputs.ts";
import { lockEntry } from "../../context/outputs.ts";
import { notWritable, outputError, UserError } from "../../utils/errors.ts";
import { removeAbandoned, temporaryTag } from "./node-files.ts";
import type { JobAttempt } from "./process-identity.ts";
import { attemptHasEnded, isAlive, jobAttempt, machineId, processStart } from "./process-identity.ts";
import { systemCode, systemReason } from "./system-errors.ts";
import { makeFolder } from "./make-folder.ts";

/** Makes a folder and those above it; gives those that were made, the innermost first. */
async function makeFolders(path: string): Promise<string[]> {
  const stats = await stat(path).catch(() => undefined);
  if (stats && !stats.isDirectory()) throw outputError(`${path} is a file. Give a folder for the output.`);
  if (stats) return [];
  try {
    const first = await makeFolder(path);
    if (first === undefined) return [];
    const made: string[] = [];
    for (let at = resolve(path); at.length >= resolve(first).length; at = dirname(at)) made.push(at);
    return made;
  } catch (error) {
    const dangling = await lstat(path).catch(() => undefined);
    if (dangling?.isSymbolicLink()) throw notWritable(`${path} is a link that leads nowhere. Give another folder.`);
    throw notWritable(`The folder ${path} can't be made: ${systemReason(error)}.`);
  }
}

/** Removes folders that are empty, the innermost first, up to one that is not. */
async function removeEmpty(folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    try {
      await rmdir(folder);
    } catch {
      return;
    }
  }
}

/** Who holds a lock. */
interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly machine: string;
  /** See `processStart`. */
  readonly start?: string;
  readonly since: string;
  /** The scheduler's job that it belongs to. */
  readonly job?: JobAttempt;
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const owner: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof owner !== "object" || owner === null) return undefined;
    const { pid, host, machine, start, since, job } = owner as Readonly<Record<string, unknown>>;
    if (typeof pid !== "number" || typeof host !== "string" || typeof machine !== "string") return undefined;
    return {
      ...{ pid, host, machine },
      ...(typeof start === "string" ? { start } : {}),
      since: String(since),
      ...(isAttempt(job) ? { job: { job: job.job, attempt: job.attempt } } : {}),
    };
  } catch {
    return undefined;
  }
}

const isAttempt = (value: unknown): value is JobAttempt =>
  typeof value === "object" &&
  value !== null &&
  ["job", "attempt"].every((key) => typeof (value as Readonly<Record<string, unknown>>)[key] === "string");

/**
 * Whether the owner is known to have ended: its process is gone, its number is another process's by now, or it was an earlier
 * attempt of this process's job.
 */
function hasEnded({ pid, machine, start, job }: Owner): boolean {
  if (job && attemptHasEnded(job)) return true;
  if (machine !== machineId()) return false;
  if (!isAlive(pid)) return true;
  const now = processStart(pid);
  return start !== undefined && now !== undefined && start !== now;
}

function inUse(folder: string, lock: string, owner: Owner | undefined): Error {
  if (owner === undefined)
    return outputError(`${folder} is in use: its lock can't be read. If no other process uses it, remove ${lock}.`);
  const { pid, host, machine, since } = owner;
  const who = `process ${pid} on ${host} since ${since}`;
  if (machine !== machineId())
    return outputError(
      `${folder} is in use by ${who}. That is another machine or container, so whether it still runs is not known here. ` +
        `If it does not, remove ${lock}.`,
    );
  return outputError(`${folder} is in use by ${who}. Wait until it has ended, or give another folder.`);
}

/** Puts a lock there whole and only where there is none. Says whether that was so. */
async function putLock(lock: string, owner: Owner): Promise<boolean> {
  const temporary = `${lock}.${temporaryTag()}.partial`;
  const text = `${JSON.stringify(owner)}\n`;
  try {
    await writeFile(temporary, text, { flag: "wx" });
    try {
      await link(temporary, lock);
      return true;
    } catch (error) {
      if (systemCode(error) === "EEXIST") return false;
      // Without hard links (exFAT, some network disks): made at once, filled a moment later.
      const handle = await open(lock, "wx").catch((opened: unknown) => {
        if (systemCode(opened) === "EEXIST") return undefined;
        throw opened;
      });
      if (!handle) return false;
      await handle.writeFile(text).finally(() => handle.close());
      return true;
    }
  } finally {
    await rm(temporary, { force: true });
  }
}

/** A lock that is being written by a system without hard links has no content yet. */
const writingTime = 5000;

/** Takes a dead owner's lock away. Says whether it is gone; another process may have been faster, and owns a new one. */
async function removeStale(lock: string, stale: Owner | undefined): Promise<boolean> {
  const aside = `${lock}.${temporaryTag()}.partial`;
  try {
    await rename(lock, aside);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return true;
    throw error;
  }
  const taken = await readOwner(aside);
  if (taken && JSON.stringify(taken) !== JSON.stringify(stale)) {
    // This was a new lock already: back to its place.
    await link(aside, lock).catch(() => undefined);
    await rm(aside, { force: true });
    return false;
  }
  await rm(aside, { force: true });
  return true;
}

const mostAttempts = 4;

function thisProcess(): Owner {
  const start = processStart(process.pid);
  const job = jobAttempt();
  return {
    pid: process.pid,
    host: hostname(),
    machine: machineId(),
    ...(start === undefined ? {} : { start }),
    since: new Date().toISOString(),
    ...(job === undefined ? {} : { job }),
  };
}

async function lockFolder(folder: string): Promise<FolderLock> {
  let made = await makeFolders(folder);
  // A path that is as good when the process changes its working folder.
  const lock = join(resolve(folder), lockEntry);
  const owner = thisProcess();
  try {
    for (let attempt = 0; ; attempt++) {
      const isOurs = await putLock(lock, owner).catch((error: unknown) => {
        // Whoever had the folder before has just removed it, as it was empty.
        if (systemCode(error) === "ENOENT" && attempt < mostAttempts) return undefined;
        throw error;
      });
      if (isOurs) break;
      if (isOurs === undefined) {
        made = await makeFolders(folder);
        continue;
      }
      const holder = await readOwner(lock);
      const age = Date.now() - ((await stat(lock).catch(() => undefined))?.mtimeMs ?? 0);
      const stale = holder ? hasEnded(holder) : age > writingTime;
      if (!stale || attempt >= mostAttempts || !(await removeStale(lock, holder))) throw inUse(folder, lock, holder);
    }
  } catch (error) {
    await removeEmpty(made);
    if (error instanceof UserError) throw error;
    throw notWritable(`Nothing can be written in ${folder}: ${systemReason(error)}.`);
  }
  await removeAbandoned(dirname(lock), (file) => file === lockEntry);
  // A process that is made to exit takes its lock along; one that is killed leaves it, and it is recognised as stale.
  const atExit = () => rmSync(lock, { force: true });
  process.once("exit", atExit);
  return {
    async release() {
      process.off("exit", atExit);
      await rm(lock, { force: true });
      await removeEmpty(made);
    },
  };
}

/** A file or folder by its device and number, which links and other spellings of a name share. */
async function identity(path: string): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  return stats && `${stats.dev}:${stats.ino}`;
}

/** The identities of a path, where it exists, and of all folders above where it really lies. */
async function identities(path: string): Promise<{ readonly identity?: string; readonly above: readonly string[] }> {
  let at = resolve(path);
  let fileIdentity: string | undefined;
  const above: string[] = [];
  const real = await realpath(at).catch(() => undefined);
  if (real !== undefined) {
    at = real;
    fileIdentity = await identity(at);
    at = dirname(at);
  } else {
    // The nearest folder above that exists may itself be a link.
    for (let upper = dirname(at); upper !== at; upper = dirname(at)) {
      at = upper;
      const real = await realpath(at).catch(() => undefined);
      if (real === undefined) continue;
      at = real;
      break;
    }
  }
  for (;;) {
    const id = await identity(at);
    if (id !== undefined) above.push(id);
    const upper = dirname(at);
    if (upper === at) break;
    at = upper;
  }
  return { identity: fileIdentity, above };
}

/** How an output lies to an input. Names, links and the case of letters don't matter: files are compared themselves. */
export async function relationOf(output: string, input: string): Promise<Relation> {
  const [out, given] = [await identities(output), await identities(input)];
  if (given.identity === undefined) return "apart";
  if (out.identity === given.identity) return "same";
  if (out.above.includes(given.identity)) return "inside";
  return out.identity !== undefined && given.above.includes(out.identity) ? "around" : "apart";
}

async function freeBytes(path: string): Promise<number | undefined> {
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at);
      return bavail * bsize;
    } catch (error) {
      if (systemCode(error) !== "ENOENT" || dirname(at) === at) return undefined;
    }
  }
}

/** Sees by trying whether a file can be written. Leaves nothing behind. */
export async function checkFile(path: string): Promise<void> {
  const stats = await stat(path).catch(() => undefined);
  if (stats?.isDirectory()) throw outputError(`${path} is a folder. Give a file for the output.`);
  if (/[\\/]$/.test(path)) throw outputError(`${path} names a folder. Give a file for the output.`);
  const made = await makeFolders(dirname(resolve(path)));
  await removeAbandoned(dirname(resolve(path)), (file) => file === basename(path));
  const probe = join(dirname(resolve(path)), `${basename(path)}.${temporaryTag()}.partial`);
  try {
    await (await open(probe, "wx")).close();
  } catch (error) {
    throw notWritable(`${path} can't be written: ${systemReason(error)}.`);
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
    await removeEmpty(made);
  }
}

/** What commands ask of the disk before they write. `hubCache` says where models by a hub name are kept. */
export function nodeOutputs(inputPath: (name: string) => string): OutputPlatform {
  return {
    lock: lockFolder,
    relation: (output, input) => relationOf(output, inputPath(input)),
    freeBytes,
    checkFile,
  };
}
