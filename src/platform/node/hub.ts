// Models by their hub names (`facebook/dinov2-small`), kept in the cache that huggingface_hub keeps them in, so that
// what Python has downloaded is found here and the other way round. The protocol is small, and downloads here go on
// where they broke off, which @huggingface/hub's don't.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, open, readFile, readlink, rename, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { RunError, UserError } from "../../utils/errors.ts";
import { userCacheFolder } from "./user-folders.ts";

/** Environment variables as huggingface_hub's users know them. */
type Variables = Readonly<Record<string, string | undefined>>;

export interface DownloadProgress {
  readonly file: string;
  /** Bytes. */
  readonly done: number;
  readonly total: number;
}

export interface HubOptions {
  /** A branch, tag or commit; main where left out. */
  readonly revision?: string;
  readonly progress?: (progress: DownloadProgress) => void;
  readonly warn?: (message: string) => void;
  readonly variables?: Variables;
}

const namePattern = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
const commitPattern = /^[0-9a-f]{40}$/;
/** Times that a broken download is gone on with before it is given up. */
const mostTries = 5;
/** Milliseconds until a server must have answered. */
const answerTime = 30_000;

/** Whether a word may be a hub name: two parts, which no path that exists has to be. */
export function isHubName(name: string): boolean {
  return namePattern.test(name) && !name.includes("..");
}

const isOn = (value: string | undefined) => ["1", "ON", "YES", "TRUE"].includes((value ?? "").toUpperCase());

function homeOf(variables: Variables): string {
  return variables.HF_HOME ?? join(userCacheFolder(variables), "huggingface");
}

/** Where models by their hub names are kept. */
export function hubCacheFolder(variables: Variables = process.env): string {
  return variables.HF_HUB_CACHE ?? variables.HUGGINGFACE_HUB_CACHE ?? join(homeOf(variables), "hub");
}

async function tokenOf(variables: Variables): Promise<string | undefined> {
  const said = variables.HF_TOKEN ?? variables.HUGGING_FACE_HUB_TOKEN;
  if (said) return said.trim();
  const stored = await readFile(variables.HF_TOKEN_PATH ?? join(homeOf(variables), "token"), "utf8").catch(() => "");
  return stored.trim() || undefined;
}

/** Files of weights in the order of preference; the first kind that a model has is taken. */
const weightFiles = [
  /^model\.safetensors$/,
  /^model\.safetensors\.index\.json$/,
  /^pytorch_model\.bin$/,
  /^pytorch_model\.bin\.index\.json$/,
  /^[^/]+\.safetensors$/,
  /^[^/]+\.pth$/,
];
const settingFiles = ["config.json", "preprocessor_config.json"];

class Hub {
  private readonly name: string;
  private readonly revision: string;
  private readonly options: HubOptions;
  private readonly endpoint: string;
  private readonly folder: string;
  private readonly token: string | undefined;

  constructor(name: string, options: HubOptions, variables: Variables, token: string | undefined) {
    this.name = name;
    this.options = options;
    this.revision = options.revision ?? "main";
    this.endpoint = (variables.HF_ENDPOINT ?? "https://huggingface.co").replace(/\/+$/, "");
    this.folder = join(hubCacheFolder(variables), `models--${name.replace("/", "--")}`);
    this.token = token;
  }

  /** The snapshot in the cache; undefined where it has none of this revision with weights in it. */
  async cached(): Promise<string | undefined> {
    const commit = commitPattern.test(this.revision)
      ? this.revision
      : (await readFile(join(this.folder, "refs", this.revision), "utf8").catch(() => "")).trim();
    if (!commitPattern.test(commit)) return undefined;
    const snapshot = join(this.folder, "snapshots", commit);
    const marked = await stat(join(snapshot, "config.json")).catch(() => undefined);
    return marked ? snapshot : undefined;
  }

  private async request(url: string, headers: Record<string, string> = {}): Promise<Response> {
    const sent = new Headers({ ...headers, "Accept-Encoding": "identity", "User-Agent": "wecolora" });
    // The token is the hub's alone: servers that it sends on to don't get it.
    if (this.token && url.startsWith(`${this.endpoint}/`)) sent.set("Authorization", `Bearer ${this.token}`);
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(new Error(`no answer in ${answerTime / 1000} s`)), answerTime);
    try {
      return await fetch(url, { headers: sent, redirect: "manual", signal: abort.signal });
    } catch (error) {
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).message;
      throw new Unreachable(`${this.endpoint} can't be reached (${cause})`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Throws in plain words where the hub said no. */
  private async refuse(response: Response, what: string): Promise<never> {
    const code = response.headers.get("x-error-code") ?? "";
    await response.body?.cancel();
    if (response.status === 401 || response.status === 403) {
      throw new UserError(
        `${this.endpoint} does not give out ${what} (${response.status}): ${code === "GatedRepo" ? "its terms must be accepted there first" : "it does not exist, or is private"}; ${this.token ? "the token that was sent (HF_TOKEN) does not open it" : "set HF_TOKEN where it needs one"}`,
      );
    }
    if (response.status === 404) {
      const reason = code === "RevisionNotFound" ? `has no revision ${this.revision}` : "does not exist";
      throw new UserError(
        `there is no such model: ${what} ${reason} on ${this.endpoint}, and there is no such path here`,
      );
    }
    throw new RunError(`${this.endpoint} answered ${response.status} when asked for ${what}; try again later`);
  }

  /** The revision's commit and files. */
  private async list(): Promise<{ commit: string; files: string[] }> {
    const response = await this.request(
      `${this.endpoint}/api/models/${this.name}/revision/${encodeURIComponent(this.revision)}`,
    );
    if (response.status !== 200) return this.refuse(response, this.name);
    const { sha, siblings } = (await response.json()) as { sha?: unknown; siblings?: { rfilename?: unknown }[] };
    const files = (Array.isArray(siblings) ? siblings : []).map(({ rfilename }) => String(rfilename));
    if (typeof sha !== "string" || !commitPattern.test(sha))
      throw new RunError(`${this.endpoint} gave no commit for ${this.name}`);
    return { commit: sha, files };
  }

  /** Brings a model's settings and weights into the cache and gives the snapshot's folder. */
  async download(): Promise<string> {
    const { commit, files } = await this.list();
    const pattern = weightFiles.find((candidate) => files.some((name) => candidate.test(name)));
    const weights = pattern && files.find((name) => pattern.test(name));
    if (!weights)
      throw new UserError(
        `${this.name} has no weights that can be read here (no safetensors, .bin or .pth among its files)`,
      );
    const snapshot = join(this.folder, "snapshots", commit);
    const wanted = [...settingFiles.filter((name) => files.includes(name) && name !== "config.json"), weights];
    for (const name of wanted) await this.fetchFile(commit, snapshot, name);
    if (weights.endsWith(".index.json")) {
      for (const shard of await shardsOf(join(snapshot, weights))) await this.fetchFile(commit, snapshot, shard);
    }
    // The configuration last: a snapshot that has it is whole.
    if (files.includes("config.json")) await this.fetchFile(commit, snapshot, "config.json");
    if (!commitPattern.test(this.revision)) {
      const reference = join(this.folder, "refs", this.revision);
      await mkdir(dirname(reference), { recursive: true });
      await writeFile(reference, commit);
    }
    return snapshot;
  }

  /** One file: into `blobs/` by its hash, and a link to it in the snapshot. */
  private async fetchFile(commit: string, snapshot: string, name: string): Promise<void> {
    const pointer = join(snapshot, name);
    if (await stat(pointer).catch(() => undefined)) return;
    const url = `${this.endpoint}/${this.name}/resolve/${commit}/${name.split("/").map(encodeURIComponent).join("/")}`;
    const blobs = join(this.folder, "blobs");
    await mkdir(blobs, { recursive: true });
    for (let attempt = 1; ; attempt++) {
      try {
        const blob = await this.fetchBlob(url, blobs, name);
        await link(blob, pointer);
        return;
      } catch (error) {
        if (!(error instanceof Broken) || attempt === mostTries) throw error;
        this.options.warn?.(`${name}: ${error.message}; going on (${attempt + 1} of ${mostTries})`);
      }
    }
  }

  private async fetchBlob(url: string, blobs: string, name: string): Promise<string> {
    // The first answer names the content's hash, also where it sends on to another server.
    const first = await this.request(url, { Range: "bytes=0-0" });
    const tag = (first.headers.get("x-linked-etag") ?? first.headers.get("etag") ?? "")
      .replace(/^W\//, "")
      .replaceAll('"', "");
    const location = first.headers.get("location");
    await first.body?.cancel();
    if (!(first.ok || (first.status >= 300 && first.status < 400 && location)))
      return this.refuse(first, `${this.name}/${name}`);
    if (!/^[\w-]{8,128}$/.test(tag)) throw new RunError(`${this.endpoint} gave no hash for ${this.name}/${name}`);
    const blob = join(blobs, tag);
    if (await stat(blob).catch(() => undefined)) return blob;
    const incomplete = `${blob}.incomplete`;
    const had = (await stat(incomplete).catch(() => undefined))?.size ?? 0;
    const source = location ? new URL(location, url).href : url;
    const response = await this.request(source, had > 0 ? { Range: `bytes=${had}-` } : {});
    if (response.status === 416) {
      await response.body?.cancel();
      await rename(incomplete, `${incomplete}.old`);
      throw new Broken("what was downloaded before does not fit");
    }
    if (response.status !== 200 && response.status !== 206) return this.refuse(response, `${this.name}/${name}`);
    const begin = response.status === 206 ? had : 0;
    const length = Number(response.headers.get("content-length") ?? Number.NaN);
    const total = begin + length;
    await this.receive(response, incomplete, begin, total, name);
    await checkContent(incomplete, tag, name);
    await rename(incomplete, blob);
    return blob;
  }

  private async receive(response: Response, path: string, begin: number, total: number, name: string): Promise<void> {
    const handle = await open(path, begin > 0 ? "r+" : "w").catch((error: unknown) => {
      throw new RunError(`${path} could not be written: ${(error as Error).message}`, { cause: error });
    });
    let done = begin;
    try {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        await handle.write(chunk, 0, chunk.byteLength, done).catch((error: unknown) => {
          const full = (error as { code?: string }).code === "ENOSPC";
          throw new RunError(`${path} could not be written: ${full ? "the disk is full" : (error as Error).message}`, {
            cause: error,
          });
        });
        done += chunk.byteLength;
        this.options.progress?.({ file: name, done, total: Number.isFinite(total) ? total : done });
      }
    } catch (error) {
      if (error instanceof RunError) throw error;
      throw new Broken(`the connection broke off after ${done} bytes`);
    } finally {
      await handle.close();
    }
    if (Number.isFinite(total) && done !== total)
      throw new Broken(`the connection broke off after ${done} of ${total} bytes`);
  }
}

/** No answer at all. */
class Unreachable extends RunError {}
/** An answer that ended too early. */
class Broken extends RunError {}

/** Large files' tags are the SHA-256 of their content. */
async function checkContent(path: string, tag: string, name: string): Promise<void> {
  if (!/^[0-9a-f]{64}$/.test(tag)) return;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  if (hash.digest("hex") === tag) return;
  await rename(path, `${path}.wrong`);
  throw new Broken(`what was downloaded of ${name} is not what the hub announced`);
}

/** A link where the system has them, as huggingface_hub does it; else a copy. */
async function link(blob: string, pointer: string): Promise<void> {
  await mkdir(dirname(pointer), { recursive: true });
  const target = relative(dirname(pointer), blob);
  if ((await readlink(pointer).catch(() => "")) === target) return;
  await symlink(target, pointer).catch(() => copyFile(blob, pointer));
}

async function shardsOf(index: string): Promise<string[]> {
  try {
    const { weight_map: map } = JSON.parse(await readFile(index, "utf8")) as { weight_map: Record<string, string> };
    const names = [...new Set(Object.values(map))];
    if (names.every((name) => /^[\w.-]+$/.test(name) && name !== "..")) return names;
  } catch {
    // Told below.
  }
  throw new UserError(`${index} has no weight_map from weights to plain file names`);
}

/**
 * The folder of a model by its hub name: from the cache where the environment says offline (`HF_HUB_OFFLINE`) or the hub
 * can't be reached, else brought up to date. Throws a UserError where it is not to be had.
 */
export async function hubSnapshot(name: string, options: HubOptions = {}): Promise<string> {
  const variables = options.variables ?? process.env;
  const hub = new Hub(name, options, variables, await tokenOf(variables));
  const cached = await hub.cached();
  if (isOn(variables.HF_HUB_OFFLINE) || isOn(variables.TRANSFORMERS_OFFLINE)) {
    if (cached) return cached;
    throw new UserError(
      `${name} is not in the cache (${hubCacheFolder(variables)}), and HF_HUB_OFFLINE forbids to download it`,
    );
  }
  // A commit never changes.
  if (cached && options.revision && commitPattern.test(options.revision)) return cached;
  try {
    return await hub.download();
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    if (cached) {
      options.warn?.(`${error.message}; taking ${name} from the cache as it was downloaded last`);
      return cached;
    }
    throw new UserError(
      `there is no file or folder ${name} here, and as a hub name it is not to be had: ${error.message}, and it is not in the cache (${hubCacheFolder(variables)})`,
    );
  }
}
