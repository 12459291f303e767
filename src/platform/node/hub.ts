// Models by their hub names (`facebook/dinov2-small`), kept in the cache that huggingface_hub keeps them in, so that
// what Python has downloaded is found here and the other way round. The protocol is small, and downloads here are
// resumed where they were interrupted, which @huggingface/hub's aren't.
import { RunError, UserError } from "../../utils/errors.ts";
import { type CachedSnapshot, hubCacheFolder, isOn, readToken, RepositoryCache, shardsOf } from "./hub-cache.ts";
import { downloadFile, type DownloadOptions, type DownloadProgress, type FileStatus } from "./hub-download.ts";
import {
  cardFile,
  checkFileName,
  checkListing,
  checkRevision,
  commitPattern,
  isHubName,
  mostJsonBytes,
  settingFiles,
  weightFiles,
} from "../hub-names.ts";
import { type Answer, HubConnection, Temporary } from "./hub-request.ts";
import type { Variables } from "./user-folders.ts";

export type { DownloadProgress, FileStatus } from "./hub-download.ts";
export { isHubName } from "../hub-names.ts";

export interface HubOptions {
  /** A branch, tag or commit; main where left out. */
  readonly revision?: string;
  readonly progress?: (progress: DownloadProgress) => void;
  readonly warn?: (message: string) => void;
  /** Receives when a file is looked for, downloaded and there. */
  readonly fileStatus?: (status: FileStatus, file: string) => void;
  /** The cache folder, in place of the one that HF_HUB_CACHE and HF_HOME name. */
  readonly cacheFolder?: string;
  /** Takes the model from the cache alone, as HF_HUB_OFFLINE=1 does. */
  readonly localFilesOnly?: boolean;
  /** Environment variables as huggingface_hub's users know them. */
  readonly variables?: Variables;
  /** Stops a download at once; what was downloaded is kept and resumed the next time. */
  readonly signal?: AbortSignal;
  /** Milliseconds before the first retry; they double with each further one (default: 500). */
  readonly retryDelay?: number;
}

/** Seconds that huggingface_hub waits, too. */
const defaultSeconds = 10;

/** A time-out from a variable; 0 and empty stand for the default. */
function secondsOf(variables: Variables, name: string): number | undefined {
  const text = variables[name]?.trim();
  if (!text || Number(text) === 0) return undefined;
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 86_400))
    throw new UserError(`${name} must be a number of seconds between 0 and 86400, got ${JSON.stringify(text)}.`, {
      code: "INVALID_OPTION",
    });
  return seconds;
}

function endpointOf(variables: Variables): string {
  const endpoint = (variables.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.username || url.password)
    throw new UserError("HF_ENDPOINT must be an address such as https://huggingface.co, without a user name.", {
      code: "INVALID_OPTION",
    });
  return endpoint;
}

class Hub {
  private readonly name: string;
  private readonly revision: string;
  private readonly connection: HubConnection;
  private readonly cache: RepositoryCache;
  private readonly options: DownloadOptions;

  constructor(name: string, revision: string, connection: HubConnection, cache: RepositoryCache, options: HubOptions) {
    this.name = name;
    this.revision = revision;
    this.connection = connection;
    this.cache = cache;
    const { signal, progress, warn, fileStatus } = options;
    const refuse = (answer: Answer, what: string) => this.refuse(answer, what);
    this.options = { connection, cache, repository: name, signal, progress, warn, fileStatus, refuse };
  }

  /** Throws in plain words where the hub said no. */
  private refuse({ response }: Answer, what: string): never {
    const { endpoint, hasToken } = this.connection;
    const code = response.headers.get("x-error-code") ?? "";
    if (response.status === 401 || response.status === 403) {
      throw new UserError(
        `${endpoint} refuses access to ${what} (${response.status}): ${code === "GatedRepo" ? "its terms must be accepted on the hub first" : "it does not exist, or is private"}; ${hasToken ? "the token (HF_TOKEN) has no access to it" : "set HF_TOKEN if it needs one"}`,
        { code: "FILE_NOT_FOUND" },
      );
    }
    if (response.status === 404) {
      const reason = code === "RevisionNotFound" ? `has no revision ${this.revision}` : "does not exist";
      throw new UserError(
        `There is no such model: ${what} ${reason} on ${endpoint}, and there is no file or folder of that name.`,
        {
          code: "FILE_NOT_FOUND",
        },
      );
    }
    throw new RunError(`${endpoint} responded with ${response.status} to the request for ${what}. Try again later.`, {
      code: "DOWNLOAD_FAILED",
    });
  }

  /** The revision's commit and files. */
  private async list(): Promise<{ commit: string; files: string[] }> {
    const { endpoint } = this.connection;
    const first = await this.connection.askHub(
      `${endpoint}/api/models/${this.name}/revision/${encodeURIComponent(this.revision)}`,
    );
    // The list may lie on another server, which gets no token.
    const answer = first.outside ? await this.connection.ask(first.outside) : first;
    try {
      const busy = this.connection.busy(answer);
      if (busy) throw busy;
      if (answer.response.status !== 200) return this.refuse(answer, this.name);
      const text = await this.connection.text(answer, mostJsonBytes, `the list of files of ${this.name}`);
      return this.readList(text);
    } finally {
      answer.close();
    }
  }

  private readList(text: string): { commit: string; files: string[] } {
    const { endpoint } = this.connection;
    let list: { sha?: unknown; siblings?: unknown } | null;
    try {
      list = JSON.parse(text) as typeof list;
    } catch {
      throw new RunError(`${endpoint} returned no list of files for ${this.name}: the response is not JSON.`, {
        code: "DOWNLOAD_FAILED",
      });
    }
    const { sha, siblings } = list ?? {};
    if (typeof sha !== "string" || !commitPattern.test(sha))
      throw new RunError(`${endpoint} returned no commit for ${this.name}`, { code: "DOWNLOAD_FAILED" });
    if (commitPattern.test(this.revision) && sha !== this.revision)
      throw new RunError(`${endpoint} returned commit ${sha} of ${this.name}, but ${this.revision} was requested.`, {
        code: "DOWNLOAD_FAILED",
      });
    const files = (Array.isArray(siblings) ? (siblings as ({ rfilename?: unknown } | null)[]) : [])
      .map((sibling) => sibling?.rfilename)
      .filter((file) => typeof file === "string");
    checkListing(files, this.name);
    return { commit: sha, files };
  }

  /**
   * Brings a model's settings and weights into the cache and gives the snapshot's folder.
   * @param tries how often the list of files is asked for
   */
  async download(tries?: number): Promise<string> {
    // Without a network there is nothing to wait for.
    const { commit, files } = await this.connection.retry(this.name, () => this.list(), tries, false);
    const pattern = weightFiles.find((candidate) => files.some((name) => candidate.test(name)));
    const weights = pattern && files.find((name) => pattern.test(name));
    if (!weights)
      throw new UserError(`${this.name} has no weights that can be read (no safetensors, .bin or .pth file)`, {
        code: "NOT_A_MODEL",
      });
    checkFileName(weights, this.name);
    const settings = settingFiles.filter((name) => files.includes(name));
    for (const name of [...settings, weights]) await downloadFile(this.options, commit, name);
    if (weights.endsWith(".index.json")) {
      const shards = await shardsOf(`${this.cache.snapshot(commit)}/${weights}`);
      for (const shard of shards) await downloadFile(this.options, commit, shard);
    }
    if (files.includes(cardFile)) await this.downloadCard(commit);
    await this.cache.finish(this.revision, commit, files);
    return this.cache.snapshot(commit);
  }

  /** The model card, which states the licence; a model is read without it where it can't be had. */
  private async downloadCard(commit: string): Promise<void> {
    try {
      await downloadFile(this.options, commit, cardFile);
    } catch (error) {
      this.options.signal?.throwIfAborted();
      if (!(error instanceof UserError || error instanceof RunError)) throw error;
    }
  }
}

/** What an incomplete snapshot lacks. */
const lack = (name: string, { missing, folder }: CachedSnapshot) =>
  `The cache (${folder}) holds only a part of ${name}. Missing: ${missing.join(", ")}.`;

/**
 * The folder of a model by its hub name: from the cache where the environment says offline (`HF_HUB_OFFLINE`) or the hub
 * can't be reached, else brought up to date.
 * @param name such as `facebook/dinov2-small`
 * @throws a UserError where it is not to be had, a RunError where a download fails, the signal's reason once it is aborted
 */
export async function hubSnapshot(name: string, options: HubOptions = {}): Promise<string> {
  const { variables = process.env, revision = "main", signal, warn } = options;
  signal?.throwIfAborted();
  if (!isHubName(name))
    throw new UserError(`${JSON.stringify(name)} is not a model name of the hub such as facebook/dinov2-small.`, {
      code: "INVALID_INPUT",
    });
  checkRevision(revision);
  const root = options.cacheFolder ?? hubCacheFolder(variables);
  const cache = new RepositoryCache(root, name);
  const cached = await cache.find(revision);
  const whole = cached?.missing.length === 0 ? cached : undefined;
  const offline = offlineBy(options, variables);
  if (offline !== undefined) {
    if (whole) return folderOf(whole, name, warn);
    throw notCached(name, offline, cached, root);
  }
  // A commit never changes.
  if (whole?.preprocessingKnown && commitPattern.test(revision)) return whole.folder;
  const connection = await connect(options, variables);
  try {
    // Where the cache serves as well, a busy hub is not waited for.
    return await new Hub(name, revision, connection, cache, options).download(whole ? 1 : undefined);
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof Temporary)) throw error;
    if (!whole) throw notDownloaded(name, error, cached, root);
    warn?.(`${error.message} Using the copy of ${name} in the cache.`);
    return folderOf(whole, name, warn);
  }
}

/** The folder of a whole snapshot, with a warning where it may lack how images are prepared. */
function folderOf({ folder, preprocessingKnown }: CachedSnapshot, name: string, warn: HubOptions["warn"]): string {
  if (!preprocessingKnown)
    warn?.(`The cache has no preprocessor_config.json of ${name}; if the model has one, it is not applied.`);
  return folder;
}

/** What forbids downloads, if anything does. */
function offlineBy({ localFilesOnly }: HubOptions, variables: Variables): string | undefined {
  if (localFilesOnly) return "localFilesOnly";
  return isOn(variables.HF_HUB_OFFLINE) || isOn(variables.TRANSFORMERS_OFFLINE) ? "HF_HUB_OFFLINE" : undefined;
}

async function connect({ retryDelay = 500, signal, warn }: HubOptions, variables: Variables): Promise<HubConnection> {
  const seconds = secondsOf(variables, "HF_HUB_DOWNLOAD_TIMEOUT") ?? defaultSeconds;
  return new HubConnection({
    endpoint: endpointOf(variables),
    token: await readToken(variables),
    answerSeconds: secondsOf(variables, "HF_HUB_ETAG_TIMEOUT") ?? seconds,
    bodySeconds: seconds,
    retryDelay,
    signal,
    warn,
  });
}

function notCached(name: string, offline: string, cached: CachedSnapshot | undefined, root: string): UserError {
  const problem = cached ? lack(name, cached) : `${name} is not in the cache (${root}).`;
  return new UserError(`${problem} It is not downloaded, since ${offline} is set.`, { code: "FILE_NOT_FOUND" });
}

/** Why a model is not to be had, where the hub can't be reached and the cache has not all of it. */
function notDownloaded(name: string, error: Temporary, cached: CachedSnapshot | undefined, root: string): Error {
  if (cached) return new UserError(`${error.message} ${lack(name, cached)}`, { code: "DOWNLOAD_FAILED" });
  if (!error.absent) return error;
  return new UserError(
    `There is no file or folder ${name}, and it can't be downloaded as a model of the hub: ${error.message} It is not in the cache (${root}) either.`,
    { code: "FILE_NOT_FOUND" },
  );
}
