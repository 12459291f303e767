// A server on loopback that answers as the hub does, and as badly as a test asks for.
import { createHash } from "node:crypto";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export const commit = "0123456789abcdef0123456789abcdef01234567";

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
/** Git's hash of a file's content. */
export const gitHash = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex");

export interface Asked {
  /** The path; `large ...` on the server for large files. */
  readonly url: string;
  readonly range?: string;
  readonly token?: string;
  readonly time: number;
}

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: string;
  /** Whether it asks for one byte only, to learn the hash. */
  readonly probe: boolean;
  /** How many exchanges with the same URL and kind came before. */
  readonly count: number;
}

/** Answers an exchange in its own way; false where the server's usual answer is to be given. */
export type Misbehave = (exchange: Exchange) => boolean;

export interface HubServer {
  readonly endpoint: string;
  /** The address of the server for large files. */
  readonly outside: string;
  readonly asked: Asked[];
  files: Map<string, Buffer>;
  misbehave: Misbehave | undefined;
  /** How many ways of misbehaving were used, and how many requests came. */
  summary(): string;
  reset(): void;
  close(): Promise<void>;
}

export function listen(server: Server): Promise<string> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

export function closeServer(server: Server): Promise<unknown> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}

/** Sends a file, or the part of it that is asked for. */
export function sendFile(
  { request, response }: Exchange,
  bytes: Buffer,
  headers: Record<string, string | number> = {},
): void {
  const [, begin, end] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  if (begin === undefined) {
    response.writeHead(200, { ...headers, "content-length": bytes.length }).end(bytes);
    return;
  }
  if (Number(begin) >= bytes.length) {
    response.writeHead(416, { ...headers, "content-range": `bytes */${bytes.length}` }).end();
    return;
  }
  const part = bytes.subarray(Number(begin), end ? Number(end) + 1 : undefined);
  const range = `bytes ${begin}-${Number(begin) + part.length - 1}/${bytes.length}`;
  response.writeHead(206, { ...headers, "content-length": part.length, "content-range": range }).end(part);
}

/** Writes for as long as the connection is open, a piece each time the client has taken the last. */
export function sendForEver(response: ServerResponse, piece: Uint8Array, interval = 0): void {
  const write = () => {
    if (response.destroyed) return;
    const next = () => (interval ? setTimeout(write, interval) : setImmediate(write));
    if (response.write(piece)) next();
    else response.once("drain", next);
  };
  write();
}

/** Safetensors and bin files lie on the second server, as LFS files do. */
const isLarge = (name: string) => /\.(safetensors|bin)$/.test(name);

export async function startHub(initial: Map<string, Buffer>): Promise<HubServer> {
  const counts = new Map<string, number>();
  const misbehaved = new Set<Misbehave>();
  let requests = 0;
  /** Whether the hub misbehaves in an exchange, which is done then. */
  const misbehaves = (exchange: Exchange): boolean => {
    requests++;
    const { misbehave } = hub;
    if (!misbehave?.(exchange)) return false;
    misbehaved.add(misbehave);
    return true;
  };
  const exchangeOf = (prefix: string, request: IncomingMessage, response: ServerResponse): Exchange => {
    const url = `${prefix}${request.url}`;
    const { range, authorization: token } = request.headers;
    hub.asked.push({ url, range, token, time: performance.now() });
    const probe = range === "bytes=0-0";
    const key = `${url} ${probe}`;
    const count = counts.get(key) ?? 0;
    counts.set(key, count + 1);
    return { request, response, url, probe, count };
  };
  const outside = createServer((request, response) => {
    const exchange = exchangeOf("large ", request, response);
    if (misbehaves(exchange)) return;
    const bytes = hub.files.get(decodeURIComponent((request.url ?? "").slice(1)));
    if (bytes) sendFile(exchange, bytes);
    else response.writeHead(404).end();
  });
  const server = createServer((request, response) => {
    const exchange = exchangeOf("", request, response);
    if (misbehaves(exchange)) return;
    if (exchange.url.startsWith("/api/models/me/small/revision/")) {
      const siblings = [...hub.files.keys()].map((rfilename) => ({ rfilename }));
      const body = Buffer.from(JSON.stringify({ sha: commit, siblings }));
      response.writeHead(200, { "content-type": "application/json", "content-length": body.length }).end(body);
      return;
    }
    const [, name = ""] = new RegExp(`^/me/small/resolve/${commit}/(.*)$`).exec(exchange.url) ?? [];
    const bytes = hub.files.get(decodeURIComponent(name));
    if (!bytes) response.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
    else if (isLarge(name)) {
      const headers = { "x-linked-etag": `"${sha256(bytes)}"`, "x-linked-size": bytes.length, "x-repo-commit": commit };
      response.writeHead(302, { ...headers, location: `${hub.outside}/${name}` }).end();
    } else sendFile(exchange, bytes, { etag: `"${gitHash(bytes)}"`, "x-repo-commit": commit });
  });
  const hub: HubServer = {
    endpoint: await listen(server),
    outside: await listen(outside),
    asked: [],
    files: new Map(initial),
    misbehave: undefined,
    reset() {
      hub.asked.length = 0;
      hub.files = new Map(initial);
      hub.misbehave = undefined;
      counts.clear();
    },
    summary: () => `${misbehaved.size} servers that misbehaved, ${requests} requests`,
    async close() {
      await Promise.all([server, outside].map(closeServer));
    },
  };
  return hub;
}
