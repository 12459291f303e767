// Requests to a hub: redirects, time-outs before and behind the headers, and retries. The token goes to the hub alone.
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { RunError } from "../../utils/errors.ts";

/** A failure that may be over at the next try. */
export class Temporary extends RunError {
  /** Milliseconds that the server asks to wait. */
  readonly delay?: number;
  /** Nobody answers at this address: no network, or no such server. */
  readonly absent: boolean;

  constructor(message: string, { delay, absent = false }: { delay?: number; absent?: boolean } = {}) {
    super(message, { code: "DOWNLOAD_FAILED" });
    this.delay = delay;
    this.absent = absent;
  }
}

export interface ConnectionOptions {
  /** The hub's address, without a slash at its end. */
  readonly endpoint: string;
  readonly token?: string;
  /** Seconds until a server must have answered with its headers. */
  readonly answerSeconds: number;
  /** Seconds in each of which spans a body must bring `minimumRate` bytes a second. */
  readonly bodySeconds: number;
  /** Milliseconds before the first retry; they double with each further one. */
  readonly retryDelay: number;
  readonly signal?: AbortSignal;
  readonly warn?: (message: string) => void;
}

/** Tries of a request or a file before it is given up. */
export const mostTries = 5;
const longestDelay = 8_000;
/** Longest time that a server may ask to wait; beyond it, the user decides. */
const longestRetryAfter = 300_000;
const mostRedirects = 10;
/** Bytes a second below which a download counts as stalled. */
const minimumRate = 1024;

const redirects = new Set([301, 302, 303, 307, 308]);
const absentCodes = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "EHOSTUNREACH", "ENETDOWN"]);

/** An answer whose body may be read once; `close` must be called, and stops a body at once. */
export interface Answer {
  readonly url: URL;
  readonly response: Response;
  close(): void;
}

/** What a chain of redirects led to. */
export interface Resolved extends Answer {
  /** The headers of hub answers on the way, the last first. */
  readonly hubHeaders: readonly Headers[];
  /** Where a redirect leads away from the hub, which was not followed. */
  readonly outside?: URL;
}

/** Milliseconds of a Retry-After header: seconds or a date. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (!value) return undefined;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(milliseconds) ? Math.max(milliseconds, 0) : undefined;
}

/** Rejects where a promise takes too long; data that came in while the event loop was blocked is still taken. */
async function within<T>(promise: Promise<T>, milliseconds: number, problem: () => Error): Promise<T> {
  const timer = new AbortController();
  const late = sleep(milliseconds, undefined, { signal: timer.signal, ref: true }).then(async () => {
    await nextTurn();
    await nextTurn();
    throw problem();
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
    late.catch(() => undefined);
    // After a time-out, closing the connection rejects it.
    promise.catch(() => undefined);
  }
}

export class HubConnection {
  readonly endpoint: string;
  private readonly origin: string;
  private readonly options: ConnectionOptions;

  constructor(options: ConnectionOptions) {
    this.options = options;
    this.endpoint = options.endpoint;
    this.origin = new URL(options.endpoint).origin;
  }

  /** Whether requests carry a token. */
  get hasToken(): boolean {
    return this.options.token !== undefined;
  }

  /**
   * Asks again after temporary failures, with growing delays.
   * @param what the file or repository that is asked for
   * @param evenIfAbsent whether a server that can't be found at all is waited for
   */
  async retry<T>(what: string, attempt: () => Promise<T>, tries = mostTries, evenIfAbsent = true): Promise<T> {
    const { signal, warn, retryDelay } = this.options;
    for (let count = 1; ; count++) {
      try {
        return await attempt();
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof Temporary) || count >= tries || (error.absent && !evenIfAbsent)) throw error;
        const delay = error.delay ?? Math.min(retryDelay * 2 ** (count - 1), longestDelay);
        if (delay > longestRetryAfter) {
          throw new Temporary(`${error.message} It asks to wait ${Math.ceil(delay / 1000)} s. Try again then.`);
        }
        warn?.(`${what}: ${error.message} Retrying in ${(delay / 1000).toFixed(1)} s (${count + 1} of ${tries}).`);
        await sleep(delay, undefined, { signal }).catch(() => signal?.throwIfAborted());
      }
    }
  }

  /**
   * Requests a URL of the hub. Redirects on the hub are followed; one that leads elsewhere is given back.
   * @throws Temporary where the server can't be reached or is busy
   */
  async askHub(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Resolved> {
    const hubHeaders: Headers[] = [];
    let target = new URL(url);
    for (let hop = 0; hop <= mostRedirects; hop++) {
      const answer = await this.send(target, headers);
      hubHeaders.unshift(answer.response.headers);
      const next = this.redirectOf(answer);
      if (!next) return { ...answer, hubHeaders };
      answer.close();
      if (next.origin !== this.origin) return { ...answer, hubHeaders, outside: next };
      target = next;
    }
    throw new RunError(`${this.endpoint} redirects the request for ${url} more than ${mostRedirects} times.`, {
      code: "DOWNLOAD_FAILED",
    });
  }

  /** Requests any URL and follows all redirects. Once a redirect has led away from the hub, no token is sent any more. */
  async ask(url: URL, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    let target = url;
    let withToken = true;
    for (let hop = 0; hop <= mostRedirects; hop++) {
      withToken &&= target.origin === this.origin;
      const answer = await this.send(target, headers, withToken);
      const next = this.redirectOf(answer);
      if (!next) return answer;
      answer.close();
      target = next;
    }
    throw new RunError(`${url.origin} redirects the request for a file more than ${mostRedirects} times.`, {
      code: "DOWNLOAD_FAILED",
    });
  }

  private redirectOf({ url, response }: Answer): URL | undefined {
    const location = response.headers.get("location");
    if (!redirects.has(response.status) || location === null) return undefined;
    const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
    if (!next || !["http:", "https:"].includes(next.protocol) || next.username || next.password)
      throw new RunError(`${url.origin} redirects to an address that is not followed: only http and https are.`, {
        code: "DOWNLOAD_FAILED",
      });
    return next;
  }

  private async send(url: URL, headers: Readonly<Record<string, string>>, withToken = true): Promise<Answer> {
    const { token, signal, answerSeconds } = this.options;
    signal?.throwIfAborted();
    const sent = new Headers({ ...headers, "Accept-Encoding": "identity", "User-Agent": "wecolora" });
    if (token !== undefined && withToken && url.origin === this.origin) sent.set("Authorization", `Bearer ${token}`);
    const abort = new AbortController();
    const stop = () => abort.abort(signal?.reason);
    signal?.addEventListener("abort", stop, { once: true });
    const close = () => {
      signal?.removeEventListener("abort", stop);
      abort.abort();
    };
    try {
      const response = await within(
        fetch(url, { headers: sent, redirect: "manual", signal: abort.signal }),
        answerSeconds * 1000,
        () => new Temporary(`${url.origin} can't be reached (no response in ${answerSeconds} s)`),
      );
      return { url, response, close };
    } catch (error) {
      close();
      signal?.throwIfAborted();
      if (error instanceof Temporary) throw error;
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).message;
      throw new Temporary(`${url.origin} can't be reached (${cause})`, { absent: absentCodes.has(cause) });
    }
  }

  /** The temporary failure that a status stands for. */
  busy({ url, response }: Answer): Temporary | undefined {
    const { status, headers } = response;
    if (status !== 408 && status !== 425 && status !== 429 && status < 500) return undefined;
    return new Temporary(`${url.origin} responded with ${status}`, { delay: retryAfter(headers) });
  }

  /** An answer's body in parts. Throws a Temporary where it is cut off, stalls, or comes by the byte. */
  async *body(answer: Answer): AsyncGenerator<Uint8Array, void, undefined> {
    const { signal, bodySeconds } = this.options;
    const reader = answer.response.body?.getReader();
    if (!reader) return;
    const span = bodySeconds * 1000;
    let [waited, received] = [0, 0];
    const stalled = () =>
      new Temporary(
        `The connection stalled (${received} bytes in ${bodySeconds} s; HF_HUB_DOWNLOAD_TIMEOUT sets these)`,
      );
    try {
      for (;;) {
        // Only time that is spent on waiting counts: a slow disk makes no connection stall.
        const begin = performance.now();
        const { done, value } = await within(reader.read(), Math.max(span - waited, 1), stalled);
        if (done) return;
        waited += performance.now() - begin;
        received += value.byteLength;
        if (received >= minimumRate * bodySeconds) [waited, received] = [0, 0];
        else if (waited >= span) throw stalled();
        yield value;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof Temporary) throw error;
      throw new Temporary("The connection was interrupted");
    } finally {
      answer.close();
    }
  }

  /** An answer's body as text of at most so many bytes. */
  async text(answer: Answer, most: number, what: string): Promise<string> {
    const parts: Uint8Array[] = [];
    let length = 0;
    for await (const part of this.body(answer)) {
      length += part.byteLength;
      if (length > most)
        throw new RunError(`${answer.url.origin} sent more than ${most} bytes for ${what}.`, {
          code: "DOWNLOAD_FAILED",
        });
      parts.push(part);
    }
    return Buffer.concat(parts).toString("utf8");
  }
}
