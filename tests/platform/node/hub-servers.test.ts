// Downloads from servers that stall, never end, are busy, redirect, or send something else than they announced.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type HubOptions, hubSnapshot } from "../../../src/platform/node/hub.ts";
import type { Exchange, HubServer } from "../../support/hub-server.ts";
import {
  closeServer,
  commit,
  gitHash,
  listen,
  sendFile,
  sendForEver,
  sha256,
  startHub,
} from "../../support/hub-server.ts";

const config = Buffer.from(JSON.stringify({ model_type: "dinov2", note: "x".repeat(500) }));
const preprocessor = Buffer.from(JSON.stringify({ image_mean: [0.5, 0.5, 0.5] }));
/** Bytes of which no part is like another. */
const weights = Buffer.from(Uint32Array.from({ length: 50_000 }, (_, i) => (i * 2_654_435_761) >>> 0).buffer);
const files = new Map([
  ["config.json", config],
  ["preprocessor_config.json", preprocessor],
  ["model.safetensors", weights],
]);
const resolvePath = `/me/small/resolve/${commit}`;

let hub: HubServer;
let cache: string;
let warnings: string[];

beforeAll(async () => {
  hub = await startHub(files);
});
afterAll(async () => {
  console.log(`${hub.summary()}: all as promised`);
  await hub.close();
});
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "wecolora-hub-"));
  warnings = [];
  hub.reset();
  return () => rm(cache, { recursive: true });
});

const load = (variables: Record<string, string> = {}, options: HubOptions = {}) =>
  hubSnapshot("me/small", {
    retryDelay: 1,
    warn: (message) => warnings.push(message),
    ...options,
    variables: { HF_ENDPOINT: hub.endpoint, HF_HOME: cache, HF_TOKEN: "hf_right", ...variables },
  });
/** Time-outs that a test can wait for. */
const quick = { HF_HUB_DOWNLOAD_TIMEOUT: "0.4" };
const repository = () => join(cache, "hub/models--me--small");
const blobs = () => (existsSync(join(repository(), "blobs")) ? readdirSync(join(repository(), "blobs")).sort() : []);
const partial = () => join(repository(), "blobs", `${sha256(weights)}.wecolora.incomplete`);
const ranges = () => hub.asked.filter(({ url }) => url === "large /model.safetensors").map(({ range }) => range);

function expectWhole(snapshot: string): void {
  expect(snapshot).toBe(join(repository(), "snapshots", commit));
  for (const [name, bytes] of hub.files) expect(readFileSync(join(snapshot, name)).equals(bytes)).toBe(true);
  expect(blobs()).toEqual([gitHash(config), gitHash(preprocessor), sha256(weights)].sort());
}
const onWeights = (answer: (exchange: Exchange) => boolean) => (exchange: Exchange) =>
  exchange.url === "large /model.safetensors" && answer(exchange);
const onConfig = (answer: (exchange: Exchange) => boolean) => (exchange: Exchange) =>
  exchange.url === `${resolvePath}/config.json` && answer(exchange);
/** Sends the first bytes of what is asked for, with the headers of the whole, and keeps the connection open. */
function begin({ request, response }: Exchange, bytes: Buffer, count: number): true {
  const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  response.writeHead(request.headers.range ? 206 : 200, {
    "content-length": bytes.length - from,
    ...(request.headers.range && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
  });
  response.write(bytes.subarray(from, from + count));
  return true;
}

describe("never waits for ever", () => {
  test("for a body that stalls; what came is kept and resumed", async () => {
    hub.misbehave = onWeights((exchange) => begin(exchange, weights, 1000));
    await expect(load(quick)).rejects.toThrow(/model\.safetensors|stalled/);
    expect(ranges()).toEqual([undefined, ...[1000, 2000, 3000, 4000].map((from) => `bytes=${from}-`)]);
    expect(statSync(partial()).size).toBe(5000);
    expect(warnings.filter((message) => message.includes("stalled"))).toHaveLength(4);
    hub.misbehave = undefined;
    expectWhole(await load(quick));
    expect(ranges().at(-1)).toBe("bytes=5000-");
  });

  test("for a body that comes by the byte", async () => {
    hub.misbehave = onWeights(({ response }) => {
      response.writeHead(200, { "content-length": weights.length });
      sendForEver(response, weights.subarray(0, 1), 50);
      return true;
    });
    await expect(load(quick)).rejects.toThrow("The connection stalled");
  });

  test("but takes a slow one", async () => {
    hub.misbehave = onWeights(({ response }) => {
      response.writeHead(200, { "content-length": weights.length });
      let at = 0;
      const timer = setInterval(() => {
        response.write(weights.subarray(at, (at += 20_000)));
        if (at < weights.length) return;
        clearInterval(timer);
        response.end();
      }, 200);
      return true;
    });
    // Two seconds in all, which is more than the time-out.
    expectWhole(await load({ HF_HUB_DOWNLOAD_TIMEOUT: "1.5" }));
    expect(warnings).toEqual([]);
  });

  test.each(["/api/models/me/small/revision/main", `${resolvePath}/config.json`, "large /model.safetensors"])(
    "for headers of %s",
    async (path) => {
      hub.misbehave = ({ url }) => url === path;
      await expect(load(quick)).rejects.toThrow("can't be reached (no response in 0.4 s)");
      expect(hub.asked.filter(({ url }) => url === path)).toHaveLength(5);
    },
  );

  test("for a list of files that stalls", async () => {
    hub.misbehave = ({ url, response }) => {
      if (!url.startsWith("/api")) return false;
      response.writeHead(200, { "content-length": 1000 }).write('{"sha":');
      return true;
    };
    await expect(load(quick)).rejects.toThrow("stalled");
  });

  test.runIf(process.platform === "linux")("for a connection", async () => {
    // A process that stands still takes no connections; its queue of two is filled up first.
    const listening = `const server = require("net").createServer();
      server.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => console.log(server.address().port));`;
    const child = spawn(process.execPath, ["-e", listening], { stdio: ["ignore", "pipe", "inherit"] });
    const sockets = [];
    try {
      const [port] = (await once(child.stdout, "data")) as [Buffer];
      child.kill("SIGSTOP");
      for (let i = 0; i < 4; i++)
        sockets.push(connect(Number(port.toString()), "127.0.0.1").on("error", () => undefined));
      await new Promise((resolve) => setTimeout(resolve, 200));
      const endpoint = `http://127.0.0.1:${port.toString().trim()}`;
      await expect(load({ ...quick, HF_ENDPOINT: endpoint })).rejects.toThrow("no response in 0.4 s");
    } finally {
      for (const socket of sockets) socket.destroy();
      child.kill("SIGKILL");
    }
  });

  test("and refuses time-outs that are none", async () => {
    await expect(load({ HF_HUB_DOWNLOAD_TIMEOUT: "soon" })).rejects.toThrow("HF_HUB_DOWNLOAD_TIMEOUT must be");
    await expect(load({ HF_HUB_ETAG_TIMEOUT: "-1" })).rejects.toThrow("HF_HUB_ETAG_TIMEOUT must be");
    expectWhole(await load({ HF_HUB_DOWNLOAD_TIMEOUT: "", HF_HUB_ETAG_TIMEOUT: "0" }));
  });
});

describe("endless answers", () => {
  const piece = Buffer.alloc(2 ** 16, " ");

  test("a list of files", async () => {
    let sent = 0;
    hub.misbehave = ({ url, response, request }) => {
      if (!url.startsWith("/api")) return false;
      response.writeHead(200);
      sendForEver(response, piece);
      request.socket.once("close", () => (sent += request.socket.bytesWritten));
      return true;
    };
    await expect(load()).rejects.toThrow("sent more than 16777216 bytes for the list of files of me/small");
    // The connection is closed, and what lay in buffers is all that came beyond the bound.
    await expect.poll(() => sent).toBeGreaterThan(2 ** 24);
    expect(sent).toBeLessThan(2 ** 26);
  });

  test("settings", async () => {
    hub.misbehave = onConfig(({ response, probe }) => {
      response.writeHead(200, { etag: `"${gitHash(config)}"` });
      sendForEver(response, probe ? piece.subarray(0, 1) : piece);
      return true;
    });
    await expect(load()).rejects.toThrow(/sends more than the 16777216 bytes that config\.json may have/);
    expect(blobs()).toEqual([gitHash(preprocessor)]);
  });

  test("settings that announce too much", async () => {
    hub.misbehave = onConfig(({ response }) => {
      response.writeHead(200, { etag: `"${gitHash(config)}"`, "content-length": 2 ** 40 }).write(" ");
      return true;
    });
    await expect(load()).rejects.toThrow("config.json has 1099511627776 bytes");
  });

  test("weights: no byte more than announced is kept", async () => {
    hub.misbehave = onWeights(({ response }) => {
      response.writeHead(200);
      sendForEver(response, piece);
      return true;
    });
    await expect(load()).rejects.toThrow(`sends more than the ${weights.length} bytes that model.safetensors may have`);
    expect(ranges()).toEqual([undefined, undefined]);
    expect(blobs()).toEqual([gitHash(config), gitHash(preprocessor)].sort());
  });

  test("weights whose server announces more than the hub", async () => {
    hub.misbehave = onWeights((exchange) => {
      sendFile(exchange, Buffer.concat([weights, weights]));
      return true;
    });
    await expect(load()).rejects.toThrow(`model.safetensors has ${weights.length} bytes as announced, but`);
    expect(existsSync(partial())).toBe(false);
  });

  test("weights of no announced size, and more than the disk holds", async () => {
    hub.misbehave = (exchange) => {
      if (exchange.url !== `${resolvePath}/model.safetensors`)
        return onWeights(({ response }) => {
          response.writeHead(200);
          sendForEver(response, piece);
          return true;
        })(exchange);
      const headers = { "x-linked-etag": `"${sha256(weights)}"`, location: `${hub.outside}/model.safetensors` };
      exchange.response.writeHead(302, headers).end();
      return true;
    };
    await expect(load()).rejects.toThrow("did not announce the size of me/small/model.safetensors");
    hub.misbehave = ({ url, response }) => {
      if (url !== `${resolvePath}/model.safetensors`) return false;
      const headers = { "x-linked-etag": `"${sha256(weights)}"`, "x-linked-size": 9e14 };
      response.writeHead(302, { ...headers, location: `${hub.outside}/model.safetensors` }).end();
      return true;
    };
    await expect(load()).rejects.toThrow(/it needs 900000000 MB, and the disk has \d+ MB free/);
  });
});

describe("tries again", () => {
  test("after 429, as long later as it asks, and after 5xx", async () => {
    hub.misbehave = ({ url, response, count }) => {
      if (count > 1 || url.startsWith("large")) return false;
      if (count === 0) response.writeHead(429, { "retry-after": "1" }).end();
      else response.writeHead(503).end();
      return true;
    };
    expectWhole(await load());
    const times = hub.asked.filter(({ url }) => url.startsWith("/api")).map(({ time }) => time);
    expect(times).toHaveLength(3);
    // Timers may be a millisecond early.
    expect(times[1] - times[0]).toBeGreaterThan(990);
    expect(warnings[0]).toMatch(/me\/small: .* responded with 429\. Retrying in 1\.0 s \(2 of 5\)/);
  });

  test("after a date, but not after an hour", async () => {
    hub.misbehave = ({ url, response, count }) => {
      if (!url.startsWith("/api") || count > 0) return false;
      response.writeHead(429, { "retry-after": new Date(Date.now() - 5000).toUTCString() }).end();
      return true;
    };
    expectWhole(await load());
    await rm(repository(), { recursive: true });
    hub.misbehave = ({ response }) => {
      response.writeHead(429, { "retry-after": "3600" }).end();
      return true;
    };
    hub.asked.length = 0;
    await expect(load()).rejects.toThrow("responded with 429. It asks to wait 3600 s");
    expect(hub.asked).toHaveLength(1);
  });

  test.each([429, 500, 502, 503, 504])("five times where it is always %d", async (status) => {
    hub.misbehave = onWeights(({ response }) => {
      response.writeHead(status).end();
      return true;
    });
    await expect(load()).rejects.toThrow(`responded with ${status}`);
    expect(ranges()).toHaveLength(5);
  });

  test("after resets, at each of the requests", async () => {
    hub.misbehave = ({ request, count }) => {
      if (count > 0) return false;
      request.socket.resetAndDestroy();
      return true;
    };
    expectWhole(await load());
    expect(warnings.length).toBeGreaterThanOrEqual(4);
  });

  test("after addresses that have expired, with new ones", async () => {
    hub.misbehave = onWeights(({ response, count }) => {
      if (count === 0) response.writeHead(403).end();
      return count === 0;
    });
    expectWhole(await load());
    expect(hub.asked.filter(({ url }) => url === `${resolvePath}/model.safetensors`)).toHaveLength(2);
  });

  test("after bodies that are cut, from where they were", async () => {
    hub.misbehave = onWeights((exchange) => {
      if (exchange.count >= 3) return false;
      begin(exchange, weights, 30_000);
      setTimeout(() => exchange.response.destroy(), 30);
      return true;
    });
    expectWhole(await load());
    expect(ranges()).toEqual([undefined, "bytes=30000-", "bytes=60000-", "bytes=90000-"]);
  });
});

describe("partial downloads", () => {
  const leave = (bytes: Uint8Array) => {
    mkdirSync(join(repository(), "blobs"), { recursive: true });
    writeFileSync(partial(), bytes);
  };

  test.each<[string, Uint8Array, (string | undefined)[]]>([
    ["are resumed", weights.subarray(0, 70_000), ["bytes=70000-"]],
    ["that are whole are only verified", weights, []],
    ["of other content begin anew", Buffer.alloc(70_000, 1), ["bytes=70000-", undefined]],
    ["that have all bytes, but other ones, begin anew", Buffer.alloc(weights.length, 1), [undefined]],
    ["that are too long begin anew", Buffer.alloc(weights.length + 1), [undefined]],
  ])("%s", async (_, bytes, expected) => {
    leave(bytes);
    expectWhole(await load());
    expect(ranges()).toEqual(expected);
  });

  test("begin anew after 416, after another part, and where the server knows no parts", async () => {
    const answers: ((exchange: Exchange) => void)[] = [
      ({ response }) => response.writeHead(416).end(),
      ({ response }) => {
        const headers = { "content-length": 10, "content-range": `bytes 0-9/${weights.length}` };
        response.writeHead(206, headers).end(weights.subarray(0, 10));
      },
      ({ response }) => response.writeHead(200, { "content-length": weights.length }).end(weights),
    ];
    for (const answer of answers) {
      await rm(repository(), { recursive: true, force: true });
      leave(weights.subarray(0, 1234));
      hub.misbehave = onWeights((exchange) => {
        if (exchange.request.headers.range === undefined) return false;
        answer(exchange);
        return true;
      });
      expectWhole(await load());
    }
  });

  test("416 without one is an error", async () => {
    hub.misbehave = onWeights(({ response }) => {
      response.writeHead(416).end();
      return true;
    });
    await expect(load()).rejects.toThrow("responded with 416");
    expect(ranges()).toEqual([undefined, undefined, undefined, undefined, undefined]);
  });

  test("an empty file has no first byte to ask for", async () => {
    hub.files.set("preprocessor_config.json", Buffer.alloc(0));
    const snapshot = await load();
    expect(statSync(join(snapshot, "preprocessor_config.json")).size).toBe(0);
  });
});

describe("content", () => {
  const spoilt = (bytes: Buffer) => {
    const copy = Buffer.from(bytes);
    copy[copy.length - 1] ^= 1;
    return copy;
  };

  test.each<[string, boolean]>([
    ["config.json", false],
    ["config.json", true],
    ["model.safetensors", false],
    ["model.safetensors", true],
  ])("of %s that is wrong (always: %s) is fetched once more", async (name, always) => {
    const bytes = files.get(name) ?? Buffer.alloc(0);
    hub.misbehave = (exchange) => {
      if (exchange.probe || !exchange.url.endsWith(`/${name}`) || (exchange.count > 0 && !always)) return false;
      if (name.endsWith("safetensors") && !exchange.url.startsWith("large")) return false;
      sendFile(exchange, spoilt(bytes), { etag: `"${gitHash(bytes)}"` });
      return true;
    };
    if (!always) return expectWhole(await load());
    await expect(load()).rejects.toThrow(`The download of ${name} does not match the hash`);
    expect(blobs().filter((blob) => blob.includes(gitHash(bytes)) || blob.includes(sha256(bytes)))).toEqual([]);
    expect(existsSync(join(repository(), "snapshots", commit, name))).toBe(false);
    expect(existsSync(join(repository(), "refs/main"))).toBe(false);
    const requests = hub.asked.filter(({ url, range }) => url.endsWith(`/${name}`) && range === undefined);
    expect(requests).toHaveLength(2);
  });

  test("without hashes in headers is verified by the tree of the commit", async () => {
    let weightsHash = sha256(weights);
    hub.misbehave = (exchange) => {
      const { url, response } = exchange;
      if (url === `/api/models/me/small/tree/${commit}`) {
        const tree = [...files].map(([path, bytes]) => ({
          type: "file",
          path,
          oid: gitHash(bytes),
          size: bytes.length,
        }));
        const lfs = { oid: weightsHash, size: weights.length, pointerSize: 131 };
        response.end(JSON.stringify(tree.map((entry) => (entry.size === lfs.size ? { ...entry, lfs } : entry))));
        return true;
      }
      if (url.startsWith("/api") || url.startsWith("large")) return false;
      if (url.endsWith(".safetensors")) response.writeHead(302, { location: `${hub.outside}/model.safetensors` }).end();
      else sendFile(exchange, files.get(url.split("/").at(-1) ?? "") ?? weights, { etag: 'W/"1f-of-a-proxy"' });
      return true;
    };
    expectWhole(await load());
    await rm(repository(), { recursive: true });
    weightsHash = sha256(config);
    await expect(load()).rejects.toThrow("The download of model.safetensors does not match the hash");
  });

  test("without a hash is refused", async () => {
    hub.misbehave = onConfig((exchange) => {
      sendFile(exchange, config, { etag: '"5f3759df-abc"' });
      return true;
    });
    await expect(load()).rejects.toThrow("returned no hash (SHA-1 or SHA-256) to verify me/small/config.json");
  });

  test("of another size than announced that lies in the cache is replaced", async () => {
    mkdirSync(join(repository(), "blobs"), { recursive: true });
    writeFileSync(join(repository(), "blobs", sha256(weights)), weights.subarray(0, 10));
    expectWhole(await load());
  });

  test("of another hub says which one", async () => {
    hub.misbehave = onConfig(
      ({ response }) => response.writeHead(301, { location: `${hub.outside}/config.json` }).end() !== undefined,
    );
    await expect(load()).rejects.toThrow(`redirects to ${hub.outside}: if that is the hub, set HF_ENDPOINT to it`);
  });

  test("a hash that is a path is refused", async () => {
    hub.misbehave = onConfig((exchange) => {
      sendFile(exchange, config, { etag: '"../../../../escaped"' });
      return true;
    });
    await expect(load()).rejects.toThrow("returned no hash");
    expect(readdirSync(cache)).toEqual(["hub"]);
  });

  test("a list that is no JSON, and one of another commit", async () => {
    hub.misbehave = ({ response }) => response.writeHead(200).end("<html>log in</html>") !== undefined;
    await expect(load()).rejects.toThrow("the response is not JSON");
    const other = "f".repeat(40);
    hub.misbehave = ({ response }) => response.writeHead(200).end(JSON.stringify({ sha: commit })) !== undefined;
    await expect(load({}, { revision: other })).rejects.toThrow(`returned commit ${commit} of me/small, but`);
  });
});

describe("redirects", () => {
  test.each([
    ["relative", ""],
    ["absolute", "endpoint"],
  ])("of a renamed repository are followed with the token (%s)", async (_, base) => {
    hub.misbehave = ({ url, response, request }) => {
      const prefix = base && hub.endpoint;
      if (!/^\/(api\/models\/)?me\/former\//.test(url)) return false;
      const status = url.startsWith("/api") ? 307 : 308;
      response
        .writeHead(status, { location: `${prefix}${(request.url ?? "").replace("me/former", "me/small")}` })
        .end();
      return true;
    };
    const snapshot = await hubSnapshot("me/former", {
      variables: { HF_ENDPOINT: hub.endpoint, HF_HOME: cache, HF_TOKEN: "hf_right" },
    });
    expect(snapshot).toBe(join(cache, "hub/models--me--former/snapshots", commit));
    expect(readFileSync(join(snapshot, "model.safetensors")).equals(weights)).toBe(true);
    for (const { url, token } of hub.asked) expect(token).toBe(url.startsWith("large") ? undefined : "Bearer hf_right");
  });

  test("of small files, as the hub answers with a relative address today", async () => {
    hub.misbehave = (exchange) => {
      const { url, response } = exchange;
      if (url === `${resolvePath}/config.json`) {
        const headers = { "x-linked-etag": `"${gitHash(config)}"`, "x-linked-size": config.length };
        response.writeHead(307, { ...headers, location: "/api/resolve-cache/config.json" }).end();
        return true;
      }
      if (url !== "/api/resolve-cache/config.json") return false;
      sendFile(exchange, config, { etag: '"of-the-cache"' });
      return true;
    };
    expectWhole(await load());
  });

  test.each([302, 307])("to another server carry no token, nor do those back from there (%d)", async (status) => {
    hub.misbehave = (exchange) => {
      const { url, response } = exchange;
      if (url === "large /model.safetensors") {
        response.writeHead(status, { location: `${hub.endpoint}/back` }).end();
        return true;
      }
      if (url.startsWith("/api")) {
        response.writeHead(status, { location: `${hub.outside}/list` }).end();
        return true;
      }
      if (url === "large /list") {
        const siblings = [...files.keys()].map((rfilename) => ({ rfilename }));
        response.end(JSON.stringify({ sha: commit, siblings }));
        return true;
      }
      if (url !== "/back") return false;
      sendFile(exchange, weights);
      return true;
    };
    expectWhole(await load());
    const withToken = hub.asked.filter(({ token }) => token !== undefined).map(({ url }) => url);
    expect(withToken.every((url) => url.startsWith(resolvePath) || url.startsWith("/api"))).toBe(true);
    expect(hub.asked.map(({ url }) => url)).toContain("/back");
  });

  test("in a circle end", async () => {
    hub.misbehave = ({ url, response }) => response.writeHead(307, { location: url }).end() !== undefined;
    await expect(load()).rejects.toThrow("more than 10 times");
    expect(hub.asked.length).toBeLessThan(20);
    hub.misbehave = onWeights(
      ({ response }) => response.writeHead(302, { location: "/model.safetensors" }).end() !== undefined,
    );
    await expect(load()).rejects.toThrow("more than 10 times");
  });

  test.each(["file:///etc/passwd", "data:application/json,{}", "http://a:b@127.0.0.1/", "http://[", "ftp://x/"])(
    "to %s are refused",
    async (location) => {
      hub.misbehave = ({ response }) => response.writeHead(302, { location }).end() !== undefined;
      await expect(load()).rejects.toThrow("redirects to an address that is not followed");
      expect(hub.asked).toHaveLength(1);
    },
  );
});

describe("what the cache has only in part", () => {
  /** A snapshot as huggingface_hub leaves one. */
  function cacheFiles(...names: string[]): string {
    const snapshot = join(repository(), "snapshots", commit);
    for (const folder of [snapshot, join(repository(), "blobs"), join(repository(), "refs")])
      mkdirSync(folder, { recursive: true });
    writeFileSync(join(repository(), "refs/main"), commit);
    for (const name of names) {
      const bytes = hub.files.get(name) ?? Buffer.alloc(0);
      const hash = name.endsWith(".json") ? gitHash(bytes) : sha256(bytes);
      writeFileSync(join(repository(), "blobs", hash), bytes);
      symlinkSync(join("../../blobs", hash), join(snapshot, name));
    }
    return snapshot;
  }
  const offline = { HF_HUB_OFFLINE: "1" };
  const index = Buffer.from(JSON.stringify({ weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" } }));

  test.each([commit, "main"])("is completed (%s)", async (revision) => {
    cacheFiles("config.json");
    expectWhole(await load({}, { revision }));
    expect(hub.asked.filter(({ url }) => url.endsWith("config.json")).map(({ url }) => url)).toContain(
      `${resolvePath}/preprocessor_config.json`,
    );
    hub.asked.length = 0;
    expectWhole(await load({}, { revision }));
    expect(hub.asked).toHaveLength(revision === commit ? 0 : 1);
  });

  test("a link to a blob that is gone counts as missing", async () => {
    cacheFiles("config.json", "preprocessor_config.json", "model.safetensors");
    await rm(join(repository(), "blobs", sha256(weights)));
    await expect(load(offline)).rejects.toThrow("Missing: weights (such as model.safetensors)");
    expectWhole(await load({}, { revision: commit }));
  });

  test("is named offline, and where the hub is down", async () => {
    cacheFiles("config.json");
    const asking = load(offline);
    await expect(asking).rejects.toThrow(
      "Missing: weights (such as model.safetensors). It is not downloaded, since HF_HUB_OFFLINE",
    );
    await expect(asking).rejects.toMatchObject({ name: "UserError" });
    hub.misbehave = ({ response }) => response.writeHead(503).end() !== undefined;
    await expect(load()).rejects.toThrow(
      /responded with 503\. The cache \(.*\) holds only a part of me\/small\. Missing: weights/,
    );
    await rm(repository(), { recursive: true });
    cacheFiles("preprocessor_config.json", "model.safetensors");
    await expect(load(offline)).rejects.toThrow("Missing: config.json");
  });

  test("shards that are missing are named", async () => {
    hub.files.delete("model.safetensors");
    hub.files.set("model.safetensors.index.json", index);
    hub.files.set("model-1.safetensors", weights);
    hub.files.set("model-2.safetensors", weights.subarray(0, 50_000));
    cacheFiles("config.json", "preprocessor_config.json", "model.safetensors.index.json", "model-1.safetensors");
    await expect(load(offline)).rejects.toThrow("Missing: model-2.safetensors");
    const snapshot = await load({}, { revision: commit });
    expect(readFileSync(join(snapshot, "model-2.safetensors"))).toHaveLength(50_000);
    expect(await load(offline)).toBe(snapshot);
  });

  test("a whole one serves offline, after 503, 429 and where headers stall, without retries", async () => {
    const snapshot = cacheFiles("config.json", "preprocessor_config.json", "model.safetensors");
    expect(await load(offline)).toBe(snapshot);
    expect(await load({ TRANSFORMERS_OFFLINE: "yes" })).toBe(snapshot);
    expect(warnings).toEqual([]);
    for (const status of [500, 503, 429]) {
      hub.misbehave = ({ response }) => response.writeHead(status).end() !== undefined;
      expect(await load()).toBe(snapshot);
      expect(warnings.at(-1)).toContain(`responded with ${status}. Using the copy of me/small in the cache`);
    }
    hub.misbehave = () => true;
    expect(await load(quick)).toBe(snapshot);
    expect(hub.asked).toHaveLength(4);
  });

  test("a newer commit that can't be downloaded leaves the older one", async () => {
    const older = join(repository(), "snapshots", "a".repeat(40));
    mkdirSync(older, { recursive: true });
    for (const [name, bytes] of files) writeFileSync(join(older, name), bytes);
    mkdirSync(join(repository(), "refs"));
    writeFileSync(join(repository(), "refs/main"), "a".repeat(40));
    hub.misbehave = onWeights(({ response }) => response.writeHead(503).end() !== undefined);
    expect(await load()).toBe(older);
    expect(warnings.at(-1)).toContain("Using the copy of me/small in the cache");
    expect(readFileSync(join(repository(), "refs/main"), "utf8")).toBe("a".repeat(40));
    hub.misbehave = undefined;
    expectWhole(await load());
    expect(readFileSync(join(repository(), "refs/main"), "utf8")).toBe(commit);
  });

  test("what a commit is known not to have is not asked for, as huggingface_hub marks it", async () => {
    hub.files.delete("preprocessor_config.json");
    const snapshot = cacheFiles("config.json", "model.safetensors");
    expect(await load(offline)).toBe(snapshot);
    expect(warnings).toEqual([expect.stringContaining("has no preprocessor_config.json of me/small")]);
    await load({}, { revision: commit });
    expect(readdirSync(join(repository(), ".no_exist", commit)).sort()).toEqual([
      "preprocessor_config.json",
      "processor_config.json",
    ]);
    [hub.asked.length, warnings.length] = [0, 0];
    await load({}, { revision: commit });
    await load(offline);
    expect(hub.asked).toEqual([]);
    expect(warnings).toEqual([]);
  });
});

describe("a signal stops", () => {
  const reason = new Error("stopped by the user");

  async function stopped(variables: Record<string, string> = {}, retryDelay = 1): Promise<void> {
    const abort = new AbortController();
    const loading = load(variables, { signal: abort.signal, retryDelay });
    loading.catch(() => undefined);
    await reached;
    abort.abort(reason);
    // Servers here never go on: only the signal can end it.
    await expect(loading).rejects.toBe(reason);
  }
  let reached: Promise<void>;
  let arrive: () => void;
  beforeEach(() => {
    reached = new Promise((resolve) => (arrive = resolve));
  });
  const patient = { HF_HUB_DOWNLOAD_TIMEOUT: "86400" };

  test("before it begins", async () => {
    await expect(load({}, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(hub.asked).toEqual([]);
  });

  test.each(["/api/models/me/small/revision/main", "large /model.safetensors"])(
    "while %s says nothing",
    async (path) => {
      hub.misbehave = ({ url }) => {
        if (url === path) arrive();
        return url === path;
      };
      await stopped(patient);
    },
  );

  test("within a body, which is resumed the next time", async () => {
    hub.misbehave = onWeights((exchange) => begin(exchange, weights, 5000));
    const abort = new AbortController();
    const progress = ({ file, done }: { file: string; done: number }) => {
      if (file === "model.safetensors" && done === 5000) abort.abort(reason);
    };
    await expect(load(patient, { signal: abort.signal, progress })).rejects.toBe(reason);
    expect(statSync(partial()).size).toBe(5000);
    hub.misbehave = undefined;
    expectWhole(await load());
    expect(ranges()).toEqual([undefined, "bytes=5000-"]);
  });

  test("before a retry", async () => {
    hub.misbehave = onWeights(({ response }) => {
      response.writeHead(503, { "retry-after": "299" }).end(() => setTimeout(arrive, 100));
      return true;
    });
    await stopped(patient);
  });

  test("while another process holds the lock", async () => {
    const lock = join(cache, "hub/.locks/models--me--small", `${sha256(weights)}.wecolora`);
    mkdirSync(join(lock, ".."), { recursive: true });
    // Nobody can read whose it is, and it was touched just now.
    writeFileSync(lock, "");
    hub.misbehave = ({ url }) => {
      if (url.endsWith("model.safetensors")) setTimeout(arrive, 100);
      return false;
    };
    await stopped(patient);
    expect(existsSync(lock)).toBe(true);
  });
});

test("a server that goes away in the middle is waited for", async () => {
  const server = createServer((_, response) => response.writeHead(503).end());
  const gone = await listen(server);
  await closeServer(server);
  hub.misbehave = ({ url, response, count }) => {
    if (url !== `${resolvePath}/model.safetensors` || count > 0) return false;
    const headers = { "x-linked-etag": `"${sha256(weights)}"`, "x-linked-size": weights.length };
    response.writeHead(302, { ...headers, location: `${gone}/x` }).end();
    return true;
  };
  expectWhole(await load());
  expect(warnings).toEqual([expect.stringContaining("can't be reached (ECONNREFUSED)")]);
});
