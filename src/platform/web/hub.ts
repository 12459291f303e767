// Models by their hub names in a browser: fetched once, then taken from the Cache API under the keys that transformers.js has
// for the same files, so that neither downloads what the other has.
import type { Directory } from "../../files/storage.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import { sha256 } from "../../utils/digest.ts";
import {
  checkFileName,
  checkListing,
  checkRevision,
  commitPattern,
  isHubName,
  mostJsonBytes,
  settingFiles,
  shardNames,
  weightFiles,
} from "../hub-names.ts";
import { blobDirectory } from "./web-files.ts";

export interface HubOptions {
  /** A branch, tag or commit; main where left out. */
  readonly revision?: string;
  /** The hub's address (default: https://huggingface.co). */
  readonly endpoint?: string;
  /** The cache's name in the Cache API (default: transformers.js's, "transformers-cache"); `false` keeps nothing. */
  readonly cacheName?: string | false;
  /** Takes the model from the cache alone. */
  readonly localFilesOnly?: boolean;
  readonly signal?: AbortSignal;
  readonly progress?: (progress: { readonly file: string; readonly done: number; readonly total: number }) => void;
  /** Receives when a file is looked for, downloaded and there, as transformers.js reports it. */
  readonly fileStatus?: (status: "initiate" | "download" | "done", file: string) => void;
  readonly warn?: (message: string) => void;
}

const defaultEndpoint = "https://huggingface.co";
const defaultCache = "transformers-cache";

const failed = (message: string, cause?: unknown) => new RunError(message, { code: "DOWNLOAD_FAILED", cause });

interface Listed {
  readonly size?: number;
  /** SHA-256 of a large file. */
  readonly sha256?: string;
}

/** A model's files, as the hub lists them. */
type Listing = ReadonlyMap<string, Listed>;

function readListing(text: string, name: string, endpoint: string): Listing {
  interface Sibling {
    readonly rfilename?: unknown;
    readonly size?: unknown;
    readonly lfs?: { readonly sha256?: unknown; readonly size?: unknown } | null;
  }
  let list: { readonly sha?: unknown; readonly siblings?: unknown } | null;
  try {
    list = JSON.parse(text) as typeof list;
  } catch {
    throw failed(`${endpoint} gave no list of files for ${name}: its answer is not JSON.`);
  }
  const { sha, siblings } = list ?? {};
  if (typeof sha !== "string" || !commitPattern.test(sha)) throw failed(`${endpoint} gave no commit for ${name}.`);
  const files = new Map<string, Listed>();
  for (const sibling of Array.isArray(siblings) ? (siblings as (Sibling | null)[]) : []) {
    if (typeof sibling?.rfilename !== "string") continue;
    const { size, lfs } = sibling;
    files.set(sibling.rfilename, {
      ...(typeof size === "number" ? { size } : {}),
      ...(typeof lfs?.sha256 === "string" && /^[0-9a-f]{64}$/.test(lfs.sha256) ? { sha256: lfs.sha256 } : {}),
    });
  }
  checkListing([...files.keys()], name);
  return files;
}

/** One model on the hub, at one revision. */
class Repository {
  private readonly name: string;
  private readonly revision: string;
  private readonly endpoint: string;
  private readonly cache: Cache | undefined;
  private readonly options: HubOptions;

  constructor(name: string, cache: Cache | undefined, options: HubOptions) {
    const { revision = "main", endpoint = defaultEndpoint } = options;
    this.name = name;
    this.revision = revision;
    this.endpoint = endpoint.replace(/\/+$/, "");
    this.cache = cache;
    this.options = options;
  }

  /** Where a file lies, which is its key in the cache too. */
  private urlOf(file: string): string {
    return `${this.endpoint}/${this.name}/resolve/${encodeURIComponent(this.revision)}/${file}`;
  }

  async cached(file: string): Promise<Blob | undefined> {
    const response = await this.cache?.match(this.urlOf(file));
    return response?.ok ? response.blob() : undefined;
  }

  /**
   * What the cache has of the model, where its configuration and weights are there. `isWhole` says that it has no more
   * preprocessing than that, which transformers.js does not always fetch.
   */
  async fromCache(): Promise<{ readonly files: Map<string, Blob>; readonly isWhole: boolean } | undefined> {
    const listed = await this.cachedListing();
    const files = new Map<string, Blob>();
    const weightFiles = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];
    for (const name of [...settingFiles, ...weightFiles, ...[...(listed?.keys() ?? [])].filter(isWeights)]) {
      const blob = files.has(name) ? undefined : await this.cached(name);
      if (blob) files.set(name, blob);
    }
    const index = files.get("model.safetensors.index.json");
    for (const shard of index ? await shardsOf(index, this.name) : []) {
      const blob = await this.cached(shard);
      if (!blob) return undefined;
      files.set(shard, blob);
    }
    const hasWeights = [...files.keys()].some((name) => isWeights(name) && !name.endsWith(".index.json"));
    if (!files.has("config.json") || !hasWeights) return undefined;
    return { files, isWhole: listed !== undefined || settingFiles.every((name) => files.has(name)) };
  }

  private get listingUrl(): string {
    return `${this.endpoint}/api/models/${this.name}/revision/${encodeURIComponent(this.revision)}?blobs=true`;
  }

  private async cachedListing(): Promise<Listing | undefined> {
    const response = await this.cache?.match(this.listingUrl);
    return response?.ok ? readListing(await response.text(), this.name, this.endpoint) : undefined;
  }

  private async request(url: string, what: string): Promise<Response> {
    const { signal } = this.options;
    let response: Response;
    try {
      response = await fetch(url, { signal, credentials: "omit" });
    } catch (error) {
      signal?.throwIfAborted();
      throw failed(
        `${this.endpoint} can't be reached for ${what}, and it is not in this browser's cache. Check the connection.`,
        error,
      );
    }
    if (response.ok) return response;
    await response.body?.cancel();
    const { status } = response;
    if (status === 401 || status === 403)
      throw new UserError(
        `${this.endpoint} does not give out ${what} (${status}): it does not exist, is private, or its terms must be accepted there first. Download it there, and choose its folder.`,
        { code: "FILE_NOT_FOUND" },
      );
    if (status === 404)
      throw new UserError(`There is no ${what} on ${this.endpoint} (revision ${this.revision}).`, {
        code: "FILE_NOT_FOUND",
      });
    throw failed(`${this.endpoint} answered ${status} when asked for ${what}. Try again later.`);
  }

  async list(): Promise<Listing> {
    const response = await this.request(this.listingUrl, this.name);
    const text = new TextDecoder().decode(await this.bodyOf(response, "the list of files", mostJsonBytes));
    const listing = readListing(text, this.name, this.endpoint);
    await this.keep(this.listingUrl, new Blob([text], { type: "application/json" }));
    return listing;
  }

  /** A body's bytes, of at most `most`. */
  private async bodyOf(response: Response, file: string, most: number, total = most): Promise<Uint8Array<ArrayBuffer>> {
    const { signal, progress } = this.options;
    const chunks: Uint8Array[] = [];
    let done = 0;
    const reader = response.body?.getReader();
    for (;;) {
      signal?.throwIfAborted();
      const { value, done: isEnd } = (await reader?.read().catch((error: unknown) => {
        signal?.throwIfAborted();
        throw failed(`The download of ${file} was interrupted after ${done} bytes. Try again.`, error);
      })) ?? { done: true };
      if (isEnd || !value) break;
      done += value.byteLength;
      if (done > most) {
        await reader?.cancel();
        throw failed(`${this.endpoint} sends more than the ${most} bytes that ${file} may have.`);
      }
      chunks.push(value);
      if (total !== most || most !== mostJsonBytes) progress?.({ file, done, total });
    }
    const bytes = new Uint8Array(done);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.byteLength;
    }
    return bytes;
  }

  private async keep(url: string, blob: Blob): Promise<void> {
    const headers = { "content-type": blob.type || "application/octet-stream", "content-length": String(blob.size) };
    await this.cache?.put(url, new Response(blob, { headers })).catch((error: unknown) => {
      this.options.warn?.(`${url} is not kept for the next visit: ${(error as Error).message}`);
    });
  }

  /** A file: from the cache, else downloaded, compared with what the hub lists, and kept. */
  async file(name: string, { size, sha256: hash }: Listed = {}): Promise<Blob> {
    const { fileStatus } = this.options;
    fileStatus?.("initiate", name);
    const cached = await this.cached(name);
    if (cached && (size === undefined || cached.size === size)) {
      fileStatus?.("done", name);
      return cached;
    }
    checkFileName(name, this.name);
    fileStatus?.("download", name);
    const what = `${this.name}/${name}`;
    const response = await this.request(this.urlOf(name), what);
    const isSettings = name.endsWith(".json");
    if (isSettings && (size ?? 0) > mostJsonBytes)
      throw failed(`${what} has ${size} bytes; such files are read up to ${mostJsonBytes}.`);
    const announced = size ?? (isSettings ? undefined : Number(response.headers.get("content-length")) || undefined);
    const most = announced ?? (isSettings ? mostJsonBytes : Number.POSITIVE_INFINITY);
    const bytes = await this.bodyOf(response, name, most, announced ?? 0);
    if (size !== undefined && bytes.byteLength !== size)
      throw failed(`${what} has ${size} bytes as listed, but ${bytes.byteLength} came. Try again.`);
    if (hash !== undefined && (await sha256(bytes)) !== hash)
      throw failed(`${what} is not what the hub lists: its SHA-256 differs. Try again.`);
    const blob = new Blob([bytes], { type: isSettings ? "application/json" : "application/octet-stream" });
    await this.keep(this.urlOf(name), blob);
    fileStatus?.("done", name);
    return blob;
  }
}

const isWeights = (name: string) => weightFiles.some((pattern) => pattern.test(name));

/** Files that an index of a checkpoint in several files names. */
async function shardsOf(index: Blob, repository: string): Promise<string[]> {
  const problem = failed(`The index of ${repository} has no weight_map from weights to plain file names.`);
  if (index.size > mostJsonBytes) throw problem;
  return shardNames(await index.text(), repository, problem);
}

/** The Cache API's cache; undefined where it is not there or may not be used. */
async function openCache(name: string | false): Promise<Cache | undefined> {
  if (name === false || typeof caches === "undefined") return undefined;
  return caches.open(name).catch(() => undefined);
}

/**
 * A model's settings and weights by its hub name: from the cache where it has them, as transformers.js does, else downloaded.
 * @param name such as `facebook/dinov2-small`
 * @throws a UserError where it is not to be had, a RunError where a download fails, the signal's reason once it has fired
 */
export async function hubDirectory(name: string, options: HubOptions = {}): Promise<Directory> {
  const { revision = "main", cacheName = defaultCache, localFilesOnly, signal } = options;
  signal?.throwIfAborted();
  if (!isHubName(name))
    throw new UserError(`${JSON.stringify(name)} is no hub name such as facebook/dinov2-small.`, {
      code: "DOWNLOAD_FAILED",
    });
  checkRevision(revision);
  const repository = new Repository(name, await openCache(cacheName), options);
  const cached = await repository.fromCache();
  const takeCached = (files: ReadonlyMap<string, Blob>) => {
    for (const file of files.keys()) options.fileStatus?.("done", file);
    return blobDirectory(files, name);
  };
  if (cached && (cached.isWhole || localFilesOnly)) return takeCached(cached.files);
  if (localFilesOnly)
    throw new UserError(`${name} is not in this browser's cache, and localFilesOnly forbids to download it.`, {
      code: "FILE_NOT_FOUND",
    });
  try {
    return blobDirectory(await download(repository, name), name);
  } catch (error) {
    signal?.throwIfAborted();
    if (!cached || !(error instanceof RunError)) throw error;
    options.warn?.(`${error.message} ${name} is taken from the cache, maybe without its preprocessing.`);
    return takeCached(cached.files);
  }
}

/** Settings and weights of a repository, each from the cache or the hub. */
async function download(repository: Repository, name: string): Promise<Map<string, Blob>> {
  const listing = await repository.list();
  const names = [...listing.keys()];
  const pattern = weightFiles.find((candidate) => names.some((file) => candidate.test(file)));
  const weights = pattern && names.find((file) => pattern.test(file));
  if (!weights)
    throw new UserError(
      `${name} has no weights that can be read here (no safetensors, .bin or .pth among its files).`,
      { code: "DOWNLOAD_FAILED" },
    );
  const files = new Map<string, Blob>();
  for (const file of [...settingFiles.filter((setting) => listing.has(setting)), weights])
    files.set(file, await repository.file(file, listing.get(file)));
  const index = weights.endsWith(".index.json") ? files.get(weights) : undefined;
  for (const shard of index ? await shardsOf(index, name) : [])
    files.set(shard, await repository.file(shard, listing.get(shard)));
  return files;
}
