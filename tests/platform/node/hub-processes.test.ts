// Several processes on one cache, and processes that are killed.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { withLock } from "../../../src/platform/node/hub-lock.ts";
import { script } from "../../support/cli.ts";
import type { Exchange, HubServer } from "../../support/hub-server.ts";
import { commit, gitHash, sha256, startHub } from "../../support/hub-server.ts";
import { referencePath } from "../../support/reference.ts";

const source = referencePath("teachers/hf-dinov2");
const files = new Map(["config.json", "model.safetensors"].map((name) => [name, readFileSync(join(source, name))]));
const weights = files.get("model.safetensors") ?? Buffer.alloc(0);
const hashes = [...files].map(([name, bytes]) => (name.endsWith(".json") ? gitHash(bytes) : sha256(bytes))).sort();

let hub: HubServer;
let cache: string;
let children: ChildProcess[];

beforeAll(async () => {
  hub = await startHub(files);
});
afterAll(() => hub.close());
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "wecolora-processes-"));
  hub.reset();
  children = [];
  return async () => {
    for (const child of children) child.kill("SIGKILL");
    await rm(cache, { recursive: true });
  };
});

const repository = () => join(cache, "models--me--small");
const partial = () => join(repository(), "blobs", `${sha256(weights)}.wecolora.incomplete`);
const requests = () => hub.asked.filter(({ url }) => url === "large /model.safetensors").map(({ range }) => range);

/** A command line that loads the model. */
function inspect() {
  const env = { ...process.env, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_TOKEN: "hf_right" };
  const child = spawn(process.execPath, [script, "inspect", "me/small"], { env });
  children.push(child);
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, text }));
  return { child, ended };
}

/** Sends what is asked for in parts, so that other processes come in meanwhile. */
function sendSlowly({ request, response }: Exchange, parts: number, interval: number, cutAfter = parts): true {
  const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const headers = {
    "content-length": weights.length - from,
    "content-range": `bytes ${from}-${weights.length - 1}/${weights.length}`,
  };
  response.writeHead(from > 0 ? 206 : 200, headers);
  const length = Math.ceil(weights.length / parts);
  let [at, sent] = [from, 0];
  const timer = setInterval(() => {
    if (response.destroyed) return clearInterval(timer);
    response.write(weights.subarray(at, at + length));
    at += length;
    if (++sent === cutAfter) setTimeout(() => response.destroy(), 20);
    if (at < weights.length && sent < cutAfter) return;
    clearInterval(timer);
    if (at >= weights.length) response.end();
  }, interval);
  return true;
}

function expectCleanCache(): void {
  expect(readdirSync(join(repository(), "blobs")).sort()).toEqual(hashes);
  const snapshot = join(repository(), "snapshots", commit);
  expect(readdirSync(snapshot).sort()).toEqual([...files.keys()].sort());
  for (const [name, bytes] of files) expect(readFileSync(join(snapshot, name)).equals(bytes)).toBe(true);
  expect(readdirSync(join(repository(), "refs"))).toEqual(["main"]);
  expect(readdirSync(join(cache, ".locks/models--me--small"))).toEqual([]);
}

describe("three processes at once", () => {
  test("all load the model, which is downloaded once", async () => {
    hub.misbehave = (exchange) => exchange.url.startsWith("large") && sendSlowly(exchange, 40, 100);
    const outcomes = await Promise.all([0, 1, 2].map(() => inspect().ended));
    for (const { code, text } of outcomes) {
      expect(text).toContain("Hugging Face DINOv2");
      expect(code).toBe(0);
    }
    expect(requests()).toEqual([undefined]);
    expectCleanCache();
  });

  test("over a connection that is cut again and again", async () => {
    hub.misbehave = (exchange) =>
      exchange.url.startsWith("large") && exchange.count < 3 && sendSlowly(exchange, 5, 50, 1);
    const outcomes = await Promise.all([0, 1, 2].map(() => inspect().ended));
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0]);
    // Each byte is asked for once, whoever asks.
    const begins = requests().map((range) => Number(/\d+/.exec(range ?? "0")?.[0]));
    expect(begins).toEqual([0, 1, 2, 3].map((part) => part * Math.ceil(weights.length / 5)));
    expectCleanCache();
  });

  test("of which one is killed in the middle of its download", async () => {
    let owner: (value: number) => void = () => undefined;
    const owned = new Promise<number>((resolve) => (owner = resolve));
    const lock = join(cache, ".locks/models--me--small", `${sha256(weights)}.wecolora`);
    hub.misbehave = (exchange) => {
      if (!exchange.url.startsWith("large") || exchange.count > 0) return false;
      sendSlowly(exchange, 1000, 100);
      setTimeout(() => owner((JSON.parse(readFileSync(lock, "utf8")) as { pid: number }).pid), 3000);
      return true;
    };
    const processes = [0, 1, 2].map(inspect);
    const pid = await owned;
    const killed = processes.find(({ child }) => child.pid === pid);
    expect(killed).toBeDefined();
    killed?.child.kill("SIGKILL");
    const outcomes = await Promise.all(processes.map(({ ended }) => ended));
    expect(outcomes.map(({ code }) => code).sort()).toEqual([0, 0, null]);
    // What the killed one had is resumed, though it could not say that it ends.
    const [first, second, ...more] = requests();
    expect([first, more]).toEqual([undefined, []]);
    expect(second).toMatch(/^bytes=[1-9]\d*-$/);
    expectCleanCache();
  });
});

test("a process that is killed leaves a cache that the next one completes", async () => {
  hub.misbehave = (exchange) => exchange.url.startsWith("large") && exchange.count < 4 && sendSlowly(exchange, 100, 20);
  for (let kill = 0; kill < 4; kill++) {
    const { child, ended } = inspect();
    const before = existsSync(partial()) ? statSync(partial()).size : 0;
    await expect
      .poll(() => existsSync(partial()) && statSync(partial()).size > before, { timeout: 1_800_000 })
      .toBe(true);
    child.kill("SIGKILL");
    await ended;
  }
  const kept = statSync(partial()).size;
  expect((await inspect().ended).code).toBe(0);
  expect(requests().at(-1)).toBe(`bytes=${kept}-`);
  expectCleanCache();
});

describe("the lock", () => {
  const path = () => join(cache, ".locks/x.lock");
  const write = (text: string, secondsOld = 0) => {
    mkdirSync(join(cache, ".locks"), { recursive: true });
    writeFileSync(path(), text);
    const time = Date.now() / 1000 - secondsOld;
    utimesSync(path(), time, time);
  };
  /** The lock as this process writes it. */
  async function sample(): Promise<{ id: string; pid: number; machine: string }> {
    let text = "";
    await withLock(path(), {}, async () => {
      text = readFileSync(path(), "utf8");
      await Promise.resolve();
    });
    return JSON.parse(text) as { id: string; pid: number; machine: string };
  }
  /** Whether the lock is still waited for after half a second. */
  async function isHeld(): Promise<boolean> {
    const signal = AbortSignal.timeout(500);
    return withLock(path(), { signal }, () => Promise.resolve(false)).catch(() => true);
  }

  test("keeps tasks of one process apart, and is gone afterwards", async () => {
    let running = 0;
    let most = 0;
    const task = async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running--;
    };
    await Promise.all(Array.from({ length: 6 }, () => withLock(path(), {}, task)));
    expect(most).toBe(1);
    await expect(withLock(path(), {}, () => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
    expect(readdirSync(join(cache, ".locks"))).toEqual([]);
  });

  test("of a process that lives is waited for, also on another machine", async () => {
    const identity = await sample();
    expect(identity.pid).toBe(process.pid);
    write(JSON.stringify({ ...identity, pid: process.ppid }));
    expect(await isHeld()).toBe(true);
    write(JSON.stringify({ ...identity, pid: 2 ** 22 + 1, machine: "elsewhere" }));
    expect(await isHeld()).toBe(true);
    const pids: number[] = [];
    const waiting = (pid: number) => pids.push(pid);
    await withLock(path(), { waiting, signal: AbortSignal.timeout(600) }, () => Promise.resolve()).catch(
      () => undefined,
    );
    expect(pids).toEqual([2 ** 22 + 1]);
  });

  test.each<[string, (identity: { id: string; pid: number; machine: string }) => string, number]>([
    ["of a process that is gone", (identity) => JSON.stringify({ ...identity, pid: 2 ** 22 + 1 }), 0],
    ["of a former process of the same number", (identity) => JSON.stringify({ ...identity, id: "former" }), 0],
    [
      "of another machine that was not touched",
      (identity) => JSON.stringify({ ...identity, machine: "elsewhere" }),
      61,
    ],
    ["of a process that stands still", (identity) => JSON.stringify({ ...identity, pid: process.ppid }), 61],
    ["that can't be read", () => "{", 61],
    ["of no process", (identity) => JSON.stringify({ ...identity, pid: 0 }), 61],
  ])("%s is stale", async (_, text, secondsOld) => {
    write(text(await sample()), secondsOld);
    expect(await isHeld()).toBe(false);
    expect(readdirSync(join(cache, ".locks"))).toEqual([]);
  });

  test("is one's own no more where another has taken it for stale", async () => {
    const identity = await sample();
    await withLock(path(), {}, async () => {
      write(JSON.stringify({ ...identity, id: "another's", pid: process.ppid }));
      await Promise.resolve();
    });
    expect(existsSync(path())).toBe(true);
  });
});
