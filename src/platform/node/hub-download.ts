// One file from the hub into the cache: resumed where a partial download exists, never longer than announced, and only
// stored once its content is verified.
import { open, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RunError } from "../../utils/errors.ts";
import { hasContent, isContentHash, type RepositoryCache } from "./hub-cache.ts";
import { cardFile, mostJsonBytes } from "../hub-names.ts";
import { withLock } from "./hub-lock.ts";
import { type Answer, type HubConnection, Temporary } from "./hub-request.ts";
import { writeChunk } from "./node-files.ts";
import { writeError } from "./system-errors.ts";
import { makeFolder } from "./make-folder.ts";

export interface DownloadProgress {
  readonly file: string;
  /** Bytes. */
  readonly done: number;
  readonly total: number;
}

/** A file of a model is looked for, begins to be downloaded, or is there. */
export type FileStatus = "initiate" | "download" | "done";

export interface DownloadOptions {
  readonly connection: HubConnection;
  readonly cache: RepositoryCache;
  /** The repository's hub name. */
  readonly repository: string;
  readonly signal?: AbortSignal;
  readonly progress?: (progress: DownloadProgress) => void;
  readonly warn?: (message: string) => void;
  readonly fileStatus?: (status: FileStatus, file: string) => void;
  /** Throws in plain words where the hub said no. */
  readonly refuse: (answer: Answer, what: string) => never;
}

/** Content that is not what the hub announced: another hash or another length. */
class Mismatch extends RunError {}

/** Where a file's content is, and what the hub announced of it. */
interface Source {
  readonly url: URL;
  /** Whether it lies on another server than the hub. */
  readonly outside: boolean;
  readonly hash: string;
  readonly size?: number;
}

const byteCount = (text: string | null | undefined): number | undefined =>
  text && /^\d{1,15}$/.test(text) ? Number(text) : undefined;

const cleanTag = (tag: string | null) => tag?.replace(/^W\//, "").replaceAll('"', "");

/** The first byte and the length of the whole that a partial answer names. */
function contentRange(headers: Headers): { begin: number; total?: number } | undefined {
  const [, begin, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "") ?? [];
  return begin === undefined ? undefined : { begin: Number(begin), total: byteCount(total) };
}

/** The length of the body as it will be read; undefined where the answer doesn't name it. */
function contentLength(headers: Headers): number | undefined {
  const encoding = headers.get("content-encoding");
  // The length is that of the compressed bytes.
  return encoding && encoding !== "identity" ? undefined : byteCount(headers.get("content-length"));
}

/** Brings a file into a snapshot, if it is not there yet. */
export async function downloadFile(options: DownloadOptions, commit: string, name: string): Promise<void> {
  const { connection, cache, repository } = options;
  const pointer = join(cache.snapshot(commit), name);
  options.fileStatus?.("initiate", name);
  if (await stat(pointer).catch(() => undefined)) return options.fileStatus?.("done", name);
  const path = name.split("/").map(encodeURIComponent).join("/");
  const url = `${connection.endpoint}/${repository}/resolve/${commit}/${path}`;
  let mismatches = 0;
  const hash = await connection.retry(name, async () => {
    try {
      return await fetchBlob(options, commit, url, name);
    } catch (error) {
      // Once more from the first byte: a partial download may have been spoilt.
      if (error instanceof Mismatch && ++mismatches < 2) throw new Temporary(error.message, { delay: 0 });
      throw error;
    }
  });
  await cache.link(hash, pointer);
  options.fileStatus?.("done", name);
}

async function fetchBlob(options: DownloadOptions, commit: string, url: string, name: string): Promise<string> {
  const { cache, signal, warn } = options;
  const source = await locate(options, commit, url, name);
  const blob = cache.blob(source.hash);
  // One of another size was left by a program that broke; it is replaced.
  const isThere = async () => {
    const stats = await stat(blob).catch(() => undefined);
    return stats !== undefined && stats.size === (source.size ?? stats.size);
  };
  if (await isThere()) return source.hash;
  const waiting = (pid: number) =>
    warn?.(`${name}: waiting for ${pid ? `process ${pid}` : "another process"}, which is downloading it`);
  await withLock(cache.lock(source.hash), { signal, waiting }, async () => {
    if (await isThere()) return;
    const partial = `${blob}.wecolora.incomplete`;
    try {
      await makeFolder(dirname(blob));
    } catch (error) {
      throw writeError(blob, error);
    }
    await complete(options, source, partial, name);
    try {
      if (await hasContent(partial, source.hash, signal)) return await rename(partial, blob);
    } catch (error) {
      // A process that took this one's lock for stale has finished first, or begun anew.
      if ((error as { code?: string }).code !== "ENOENT") throw writeError(blob, error);
      if (await isThere()) return;
      throw new Temporary("The partial download was removed by another process");
    }
    await rm(partial, { force: true });
    throw new Mismatch(`The download of ${name} does not match the hash that the hub announced (${source.hash})`);
  });
  return source.hash;
}

/** Asks the hub where a file's content is, and for its hash and size. */
async function locate(options: DownloadOptions, commit: string, url: string, name: string): Promise<Source> {
  const { connection, repository, refuse } = options;
  // A range of one byte, since not all servers answer HEAD. An empty file has no such range.
  let answer = await connection.askHub(url, { Range: "bytes=0-0" });
  answer.close();
  if (answer.response.status === 416) {
    answer = await connection.askHub(url);
    answer.close();
  }
  const { response, hubHeaders, outside } = answer;
  const busy = connection.busy(answer);
  if (busy) throw busy;
  if (!response.ok && !outside) return refuse(answer, `${repository}/${name}`);
  // Redirects on the hub may have lost what the first answer announced.
  const linked = (header: string) => hubHeaders.map((headers) => headers.get(header)).find((value) => value !== null);
  const tag = cleanTag(linked("x-linked-etag") ?? response.headers.get("etag")) ?? "";
  const ofAnswer = response.status === 206 ? contentRange(response.headers)?.total : contentLength(response.headers);
  const announced = byteCount(linked("x-linked-size")) ?? (outside ? undefined : ofAnswer);
  const source = { url: outside ?? answer.url, outside: outside !== undefined };
  if (isContentHash(tag)) return { ...source, hash: tag, size: announced };
  // Mirrors and proxies may put other tags in place of the hashes.
  const entry = await treeEntry(options, commit, name);
  if (entry) return { ...source, hash: entry.hash, size: announced ?? entry.size };
  const elsewhere = outside && ` It redirects to ${outside.origin}: if that is the hub, set HF_ENDPOINT to it.`;
  throw new RunError(
    `${connection.endpoint} returned no hash (SHA-1 or SHA-256) to verify ${repository}/${name} with.${elsewhere ?? ""}`,
    { code: "DOWNLOAD_FAILED" },
  );
}

/** A file's hash and size from the hub's tree of a commit, where it has one. */
async function treeEntry(
  { connection, repository }: DownloadOptions,
  commit: string,
  name: string,
): Promise<{ hash: string; size?: number } | undefined> {
  const answer = await connection.askHub(`${connection.endpoint}/api/models/${repository}/tree/${commit}`);
  try {
    const busy = connection.busy(answer);
    if (busy) throw busy;
    if (answer.response.status !== 200 || answer.outside) return undefined;
    const text = await connection.text(answer, mostJsonBytes, `the tree of ${repository}`);
    interface Content {
      readonly oid?: unknown;
      readonly size?: unknown;
    }
    const tree = JSON.parse(text) as ((Content & { path?: unknown; lfs?: Content | null }) | null)[];
    const entry = Array.isArray(tree) ? tree.find((one) => one?.path === name) : undefined;
    const { oid, size } = entry?.lfs ?? entry ?? {};
    if (typeof oid !== "string" || !isContentHash(oid)) return undefined;
    return { hash: oid, size: byteCount(String(size)) };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  } finally {
    answer.close();
  }
}

/** Downloads what a partial file still lacks. */
async function complete(options: DownloadOptions, source: Source, partial: string, name: string): Promise<void> {
  const { connection, repository, refuse, progress } = options;
  let had = (await stat(partial).catch(() => undefined))?.size ?? 0;
  if (had > 0 && had === source.size) return;
  if (source.size !== undefined && had > source.size) {
    await rm(partial, { force: true });
    had = 0;
  }
  options.fileStatus?.("download", name);
  const answer = await connection.ask(source.url, had > 0 ? { Range: `bytes=${had}-` } : {});
  const { status, headers } = answer.response;
  try {
    const busy = connection.busy(answer);
    if (busy) throw busy;
    const range = status === 206 ? contentRange(headers) : undefined;
    if (status === 416 || (range && range.begin !== had)) {
      await rm(partial, { force: true });
      // Another partial file can't be the reason where there was none.
      if (had === 0)
        throw new Temporary(`${answer.url.origin} responded with ${status} and another range than was requested`);
      throw new Temporary("The partial download does not fit and starts over", { delay: 0 });
    }
    if (status !== 200 && status !== 206) {
      // Addresses on other servers expire.
      if (source.outside) throw new Temporary(`${answer.url.origin} responded with ${status}`);
      return refuse(answer, `${repository}/${name}`);
    }
    const begin = status === 206 ? had : 0;
    const length = contentLength(headers);
    const sent = range?.total ?? (length === undefined ? undefined : begin + length);
    if (sent !== undefined && source.size !== undefined && sent > source.size) {
      await rm(partial, { force: true });
      throw new Mismatch(`${name} has ${source.size} bytes as announced, but ${answer.url.origin} sends ${sent}`);
    }
    const total = source.size ?? sent;
    const most = boundOf(name, total, `${repository}/${name}`, answer.url.origin);
    await checkSpace(partial, (total ?? 0) - begin);
    const done = await receive(options, answer, partial, begin, most, name, (bytes) =>
      progress?.({ file: name, done: bytes, total: total ?? bytes }),
    );
    if (total !== undefined && done < total)
      throw new Temporary(`The connection was interrupted after ${done} of ${total} bytes`);
  } finally {
    answer.close();
  }
}

/** Bytes that a file may have: as announced, or the limit of settings where nothing is. */
function boundOf(name: string, total: number | undefined, what: string, origin: string): number {
  // Files of text, which mirrors may send without saying how long they are.
  if (name.endsWith(".json") || name === cardFile) {
    if ((total ?? 0) > mostJsonBytes)
      throw new RunError(`${what} has ${total} bytes; at most ${mostJsonBytes} are read.`, {
        code: "DOWNLOAD_FAILED",
      });
    return total ?? mostJsonBytes;
  }
  if (total === undefined)
    throw new RunError(`${origin} did not announce the size of ${what}.`, { code: "DOWNLOAD_FAILED" });
  return total;
}

async function checkSpace(path: string, needed: number): Promise<void> {
  const space = await statfs(dirname(path)).catch(() => undefined);
  const free = space && space.bavail * space.bsize;
  if (free === undefined || needed <= free) return;
  const inMegabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  throw new RunError(
    `${path} can't be written: it needs ${inMegabytes(needed)}, and the disk has ${inMegabytes(free)} free.`,
    { code: "DOWNLOAD_FAILED" },
  );
}

/** Writes a body into a file from `begin` on, and gives the length that the file then has. */
async function receive(
  { connection }: DownloadOptions,
  answer: Answer,
  path: string,
  begin: number,
  most: number,
  name: string,
  onProgress: (done: number) => void,
): Promise<number> {
  const writing = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw writeError(path, error);
    }
  };
  const handle = await writing(() => open(path, begin > 0 ? "r+" : "w"));
  let done = begin;
  try {
    for await (const chunk of connection.body(answer)) {
      if (done + chunk.byteLength > most) {
        await rm(path, { force: true });
        throw new Mismatch(`${answer.url.origin} sends more than the ${most} bytes that ${name} may have`);
      }
      await writing(() => writeChunk(handle, chunk, done));
      done += chunk.byteLength;
      onProgress(done);
    }
    await writing(() => handle.sync());
  } catch (error) {
    // How far it came, beside what happened.
    if (error instanceof Temporary)
      throw new Temporary(`${error.message.replace(/\.$/, "")} after ${done} of ${most} bytes`);
    throw error;
  } finally {
    await handle.close();
  }
  return done;
}
