// Models by their hub names, against a server on loopback that answers as the hub does.
import { existsSync, lstatSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { loadModel } from "wecolora/node";
import { hubSnapshot } from "../../../src/platform/node/hub.ts";
import { wecolora } from "../../support/cli.ts";
import { gitHash, sha256 as sha } from "../../support/hub-server.ts";
import { referencePath } from "../../support/reference.ts";

const commit = "0123456789abcdef0123456789abcdef01234567";
const source = referencePath("teachers/hf-dinov2");
const files = ["config.json", "model.safetensors"];

interface Asked {
  readonly url: string;
  readonly range?: string;
  readonly token?: string;
}

let server: Server;
let elsewhere: Server;
let endpoint: string;
let content: string;
/** A port on which nobody listens. */
let closed: string;
let cache: string;
let asked: Asked[] = [];
/** Bytes after which the server for large files hangs up, once for each entry. */
let breaks: number[] = [];
/** Milliseconds before it does: a client that has not read all until then loses what it has not. */
const hangUp = 300;
let wrongBytes = false;

const listen = (made: Server) =>
  new Promise<string>((resolve) => {
    made.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(made.address() as AddressInfo).port}`));
  });

beforeAll(async () => {
  // Where large files come from: another server, which must never see the token.
  elsewhere = createServer((request, response) => {
    asked.push({ url: `large ${request.url}`, range: request.headers.range, token: request.headers.authorization });
    const bytes = Buffer.from(readFileSync(join(source, "model.safetensors")));
    if (wrongBytes) bytes[bytes.length - 1] ^= 1;
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(request.headers.range ? 206 : 200, { "content-length": bytes.length - from });
    const end = breaks.shift();
    if (end === undefined) return response.end(bytes.subarray(from));
    response.write(bytes.subarray(from, from + end), () => setTimeout(() => response.destroy(), hangUp));
  });
  content = await listen(elsewhere);
  server = createServer((request, response) => {
    const url = request.url ?? "";
    asked.push({ url, range: request.headers.range, token: request.headers.authorization });
    const [, api] = /^\/api\/models\/(.*)$/.exec(url) ?? [];
    if (api?.startsWith("me/secret")) {
      if (request.headers.authorization !== "Bearer hf_right")
        return response.writeHead(401, { "x-error-code": "GatedRepo" }).end();
    } else if (api && !api.startsWith("me/small"))
      return response.writeHead(404, { "x-error-code": "RepoNotFound" }).end();
    if (api) {
      const revision = api.split("/revision/")[1];
      if (!["main", "v1", commit].includes(revision))
        return response.writeHead(404, { "x-error-code": "RevisionNotFound" }).end();
      const siblings = [...files, "README.md", "onnx/model.onnx"].map((rfilename) => ({ rfilename }));
      return response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify({ sha: commit, siblings }));
    }
    const name = url.split("/").at(-1) as string;
    const bytes =
      name === "README.md" ? Buffer.from("---\nlicense: apache-2.0\n---\n") : readFileSync(join(source, name));
    if (name === "model.safetensors") {
      return response
        .writeHead(302, { location: `${content}/blob`, "x-linked-etag": `"${sha(bytes)}"`, "x-repo-commit": commit })
        .end();
    }
    const small = request.headers.range === "bytes=0-0";
    response.writeHead(small ? 206 : 200, { etag: `"${gitHash(bytes)}"` }).end(small ? bytes.subarray(0, 1) : bytes);
  });
  endpoint = await listen(server);
  const gone = createServer();
  closed = await listen(gone);
  await new Promise((resolve) => gone.close(resolve));
});
afterAll(() => {
  server.close();
  elsewhere.close();
});
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "wecolora-hub-"));
  [asked, breaks, wrongBytes] = [[], [], false];
  return () => rm(cache, { recursive: true });
});

const variables = (more: Record<string, string> = {}) => ({
  HF_ENDPOINT: endpoint,
  HF_HOME: cache,
  HF_TOKEN: "hf_right",
  ...more,
});

test("downloads, shows progress, caches as huggingface_hub does, and finds it again", async () => {
  const progress: string[] = [];
  const snapshot = await hubSnapshot("me/small", {
    variables: variables(),
    progress: ({ file, done, total }) => progress.push(`${file} ${done}/${total}`),
  });
  const folder = join(cache, "hub", "models--me--small");
  expect(snapshot).toBe(join(folder, "snapshots", commit));
  expect(readFileSync(join(folder, "refs", "main"), "utf8")).toBe(commit);
  const weights = join(snapshot, "model.safetensors");
  expect(lstatSync(weights).isSymbolicLink()).toBe(true);
  expect(readlinkSync(weights)).toBe(join("..", "..", "blobs", sha(readFileSync(join(source, "model.safetensors")))));
  expect(readFileSync(weights).equals(readFileSync(join(source, "model.safetensors")))).toBe(true);
  const size = statSync(join(source, "model.safetensors")).size;
  expect(progress).toContain(`model.safetensors ${size}/${size}`);
  // Only what a model needs, and the token for the hub alone.
  expect(existsSync(join(snapshot, "onnx"))).toBe(false);
  expect(asked.filter(({ url }) => url.startsWith("/")).every(({ token }) => token === "Bearer hf_right")).toBe(true);
  expect(asked.filter(({ url }) => url.startsWith("large")).map(({ token }) => token)).toEqual([undefined]);
  const model = await loadModel(snapshot);
  expect(model.config.depth).toBe(6);
  expect(model.origin.license).toEqual({ id: "apache-2.0" });

  asked = [];
  expect(await hubSnapshot("me/small", { variables: variables() })).toBe(snapshot);
  expect(asked.map(({ url }) => url)).toEqual(["/api/models/me/small/revision/main"]);
  asked = [];
  expect(await hubSnapshot("me/small", { variables: variables({ HF_HUB_OFFLINE: "1" }) })).toBe(snapshot);
  expect(asked).toEqual([]);
});

test("resumes where a download was interrupted", async () => {
  breaks = [3000, 5000];
  const warnings: string[] = [];
  const snapshot = await hubSnapshot("me/small", {
    variables: variables(),
    retryDelay: 1,
    warn: (message) => warnings.push(message),
  });
  expect(warnings).toHaveLength(2);
  expect(asked.filter(({ url }) => url.startsWith("large")).map(({ range }) => range)).toEqual([
    undefined,
    "bytes=3000-",
    "bytes=8000-",
  ]);
  expect(
    readFileSync(join(snapshot, "model.safetensors")).equals(readFileSync(join(source, "model.safetensors"))),
  ).toBe(true);
});

test("gives up after some tries, and resumes the next time", async () => {
  breaks = [1000, 1000, 1000, 1000, 1000];
  await expect(hubSnapshot("me/small", { variables: variables(), retryDelay: 1 })).rejects.toThrow(
    "The connection was interrupted after 5000 of",
  );
  asked = [];
  await hubSnapshot("me/small", { variables: variables() });
  expect(asked.filter(({ url }) => url.startsWith("large")).map(({ range }) => range)).toEqual(["bytes=5000-"]);
});

test("content that is not what was announced is not taken", async () => {
  wrongBytes = true;
  await expect(hubSnapshot("me/small", { variables: variables() })).rejects.toThrow("does not match the hash");
  expect(existsSync(join(cache, "hub/models--me--small/snapshots", commit, "model.safetensors"))).toBe(false);
});

test("a pinned commit is not asked for again", async () => {
  await hubSnapshot("me/small", { variables: variables(), revision: commit });
  asked = [];
  await hubSnapshot("me/small", { variables: variables(), revision: commit });
  expect(asked).toEqual([]);
  await hubSnapshot("me/small", { variables: variables(), revision: "v1" });
  expect(asked.map(({ url }) => url)).toEqual(["/api/models/me/small/revision/v1"]);
});

test("the token may lie in huggingface_hub's file", async () => {
  await writeFile(join(cache, "token"), "hf_right\n");
  await expect(hubSnapshot("me/secret", { variables: variables({ HF_TOKEN: "" }) })).resolves.toContain(
    "models--me--secret",
  );
});

describe("says in plain words", () => {
  test.each<[string, string, object, Record<string, string>, string]>([
    ["no such model", "me/nothing", {}, {}, "There is no such model: me/nothing does not exist"],
    ["no such revision", "me/small", { revision: "v9" }, {}, "has no revision v9"],
    ["gated", "me/secret", {}, { HF_TOKEN: "hf_wrong" }, "its terms must be accepted on the hub first"],
    ["offline", "me/small", {}, { HF_HUB_OFFLINE: "1" }, "HF_HUB_OFFLINE is set"],
    ["no network", "me/small", {}, { HF_ENDPOINT: "closed" }, "can't be reached (ECONNREFUSED)"],
  ])("%s", async (_, name, options, more, message) => {
    const set = more.HF_ENDPOINT ? { ...more, HF_ENDPOINT: closed } : more;
    const asking = hubSnapshot(name, { ...options, variables: variables(set) });
    await expect(asking).rejects.toThrow(message);
    await expect(asking).rejects.toMatchObject({ name: "UserError" });
  });

  test("and takes the cache where the network is gone", async () => {
    const snapshot = await hubSnapshot("me/small", { variables: variables() });
    const warnings: string[] = [];
    const again = await hubSnapshot("me/small", {
      variables: variables({ HF_ENDPOINT: closed }),
      warn: (message) => warnings.push(message),
    });
    expect(again).toBe(snapshot);
    expect(warnings[0]).toContain("Using the copy of me/small in the cache");
  });
});

test("from the command line", async () => {
  const saved = { HF_ENDPOINT: process.env.HF_ENDPOINT, HF_HOME: process.env.HF_HOME };
  Object.assign(process.env, { HF_ENDPOINT: endpoint, HF_HOME: cache });
  try {
    const outcome = await wecolora("inspect", "me/small");
    expect(outcome).toMatchObject({ code: 0 });
    expect(outcome.out).toContain("Hugging Face DINOv2");
    const missing = await wecolora("inspect", "me/nothing");
    expect(missing).toMatchObject({ code: 2 });
    const traversal = await wecolora("inspect", "me/small", "--revision", "../../x");
    expect(traversal).toMatchObject({ code: 2 });
    expect(traversal.err).toContain('got "../../x"');
    const reason = new Error("stopped");
    await expect(loadModel("me/small", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  } finally {
    for (const [key, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
  }
});
