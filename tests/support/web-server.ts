// A page with the library for browsers, bundled by Vite and served on loopback, with the headers that isolate it or without.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { build } from "vite";
import { closeServer, listen } from "./hub-server.ts";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".wasm": "application/wasm",
  ".json": "application/json",
  ".svg": "image/svg+xml",
};

export interface WebServer {
  /** Its address, with a slash at the end. */
  readonly address: string;
  /** Paths that were asked for. */
  readonly asked: string[];
  close(): Promise<unknown>;
}

export interface WebServerOptions {
  readonly isolated?: boolean;
  /** Further headers of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Folders on disk that pages may list and read, by their names. */
  readonly folders?: Readonly<Record<string, string>>;
}

async function filesBelow(folder: string, inner = ""): Promise<string[]> {
  const entries = await readdir(join(folder, inner), { withFileTypes: true });
  const nested = entries.map((entry) => {
    const path = inner === "" ? entry.name : `${inner}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(folder, path) : Promise.resolve([path]);
  });
  return (await Promise.all(nested)).flat().sort();
}

/** Serves a folder of static files. */
export async function serveFolder(
  root: string,
  { isolated = true, headers = {}, folders = {} }: WebServerOptions = {},
): Promise<WebServer> {
  const asked: string[] = [];
  const answer = async (path: string): Promise<{ type: string; body: Uint8Array | string }> => {
    const [, kind, name = "", rest = ""] = /^\/(list|files)\/([^/]+)\/?(.*)$/.exec(path) ?? [];
    const folder = folders[name];
    if (kind === "list" && folder) return { type: ".json", body: JSON.stringify(await filesBelow(folder)) };
    const page = path.endsWith("/") ? `${path}index.html` : path;
    const file = kind === "files" && folder ? join(folder, rest) : join(root, normalize(page));
    return { type: extname(file), body: await readFile(file) };
  };
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    asked.push(path);
    void answer(path).then(
      ({ type, body }) => {
        response.writeHead(200, {
          ...headers,
          "content-type": types[type] ?? "application/octet-stream",
          ...(isolated
            ? { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" }
            : {}),
        });
        response.end(body);
      },
      () => response.writeHead(404).end(),
    );
  });
  return { address: `${await listen(server)}/`, asked, close: () => closeServer(server) };
}

/** Bundles the page under test; the folder is to be removed by the caller. */
export async function buildWebApp(): Promise<string> {
  const outDir = await mkdtemp(join(tmpdir(), "wecolora-web-app-"));
  await build({
    configFile: false,
    root: join(import.meta.dirname, "web-app"),
    base: "./",
    logLevel: "error",
    build: { outDir, emptyOutDir: true, target: "esnext", minify: false, chunkSizeWarningLimit: 4096 },
    worker: { format: "es" },
  });
  return outDir;
}

/** Builds the page (`web/`) as `npm run web` does; the folder is to be removed by the caller. */
export async function buildPage(): Promise<string> {
  const outDir = await mkdtemp(join(tmpdir(), "wecolora-page-app-"));
  const root = join(import.meta.dirname, "../../web");
  await build({ root, configFile: join(root, "vite.config.ts"), logLevel: "error", build: { outDir } });
  return outDir;
}

export const removeFolder = (folder: string): Promise<void> => rm(folder, { recursive: true, force: true });
