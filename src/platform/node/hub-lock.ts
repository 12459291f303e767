// A lock that processes on one cache take in turns. It only keeps them from downloading the same file twice: the cache
// stays right without it, since files are verified and renamed into place. huggingface_hub's locks (flock) are out of
// reach from Node; its files have other names until they are whole.
import { randomUUID } from "node:crypto";
import { link, open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeError } from "./system-errors.ts";
import { makeFolder } from "./make-folder.ts";
import { isAlive, machineId } from "./process-identity.ts";

interface Owner {
  readonly id: string;
  readonly pid: number;
  readonly machine: string;
}

interface LockOptions {
  readonly signal?: AbortSignal;
  /** Called once where another process holds the lock; its id is 0 where it can't be read. */
  readonly waiting?: (pid: number) => void;
}

/** Milliseconds between two touches of a lock that is held. */
const touchInterval = 5_000;
/** Milliseconds without a touch after which a lock is stale, whatever its process id says. */
const staleAfter = 60_000;
const pollInterval = 100;

/** Locks that this process holds: its own id in any other lock is a former process's. */
const ownLocks = new Set<string>();

function readOwner(text: string): Owner | undefined {
  try {
    const owner = JSON.parse(text) as Partial<Owner> | null;
    if (typeof owner?.id !== "string" || typeof owner.machine !== "string") return undefined;
    // process.kill takes 0 and negative numbers for groups of processes.
    if (!Number.isSafeInteger(owner.pid) || Number(owner.pid) <= 0) return undefined;
    return { id: owner.id, pid: Number(owner.pid), machine: owner.machine };
  } catch {
    return undefined;
  }
}

function isDead(owner: Owner | undefined): boolean {
  if (owner?.machine !== machineId()) return false;
  return owner.pid === process.pid ? !ownLocks.has(owner.id) : !isAlive(owner.pid);
}

/** Takes the lock where it is free; else gives the process that holds it (0 where that can't be read). */
async function tryLock(path: string, owner: Owner): Promise<number | undefined> {
  // Written beside it first: a lock that exists has its owner in it.
  const temporary = `${path}.${owner.id}`;
  const handle = await open(temporary, "w");
  try {
    await handle.writeFile(JSON.stringify(owner));
  } finally {
    await handle.close();
  }
  try {
    // link() fails where the name is taken, rename() would replace it.
    await link(temporary, path);
    return undefined;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EEXIST") return readOwner(await readFile(path, "utf8").catch(() => ""))?.pid ?? 0;
    // A file system without hard links.
    const exclusive = await open(path, "wx").catch((problem: { code?: string }) => {
      if (problem.code === "EEXIST") return undefined;
      throw problem;
    });
    if (!exclusive) return readOwner(await readFile(path, "utf8").catch(() => ""))?.pid ?? 0;
    await exclusive.writeFile(JSON.stringify(owner)).finally(() => exclusive.close());
    return undefined;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Removes the lock of a process that is gone. */
async function removeStale(path: string): Promise<void> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  const stats = await stat(path).catch(() => undefined);
  if (text === undefined || !stats) return;
  if (!isDead(readOwner(text)) && Date.now() - stats.mtimeMs < staleAfter) return;
  // Another process may have replaced it since it was read: only what was read is removed.
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await readFile(aside, "utf8").catch(() => "")) !== text) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

/**
 * Runs a task while no other process holds the lock at `path`. Waits as long as its holder is alive and touches it.
 * @throws the signal's reason where it is aborted meanwhile
 */
export async function withLock<T>(path: string, options: LockOptions, task: () => Promise<T>): Promise<T> {
  const { signal, waiting } = options;
  const owner: Owner = { id: randomUUID(), pid: process.pid, machine: machineId() };
  ownLocks.add(owner.id);
  try {
    for (let polls = 0; ; polls++) {
      signal?.throwIfAborted();
      let holder: number | undefined;
      try {
        await makeFolder(dirname(path));
        holder = await tryLock(path, owner);
      } catch (error) {
        throw writeError(path, error);
      }
      if (holder === undefined) break;
      await removeStale(path);
      // Not at first: a stale lock is gone at the next look.
      if (polls === 1 && holder !== process.pid) waiting?.(holder);
      await sleep(pollInterval * (0.5 + Math.random()), undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
    const touching = setInterval(() => {
      const now = new Date();
      void utimes(path, now, now).catch(() => undefined);
    }, touchInterval);
    touching.unref();
    try {
      return await task();
    } finally {
      clearInterval(touching);
      // It is another's where this process stood still for so long that the lock was taken for stale.
      const current = readOwner(await readFile(path, "utf8").catch(() => ""));
      if (current?.id === owner.id) await rm(path, { force: true }).catch(() => undefined);
    }
  } finally {
    ownLocks.delete(owner.id);
  }
}
