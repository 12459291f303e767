// Names that come from users and servers never lead out of the cache, and variables of the environment name its folder.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hubCacheFolder, readToken } from "../../../src/platform/node/hub-cache.ts";
import { type HubOptions, hubSnapshot, isHubName } from "../../../src/platform/node/hub.ts";
import { homeFolder, userCacheFolder } from "../../../src/platform/node/user-folders.ts";
import { script } from "../../support/cli.ts";
import type { HubServer } from "../../support/hub-server.ts";
import { commit, startHub } from "../../support/hub-server.ts";

const weights = Buffer.alloc(64, 7);
const files = new Map([
  ["config.json", Buffer.from("{}")],
  ["model.safetensors", weights],
]);

let hub: HubServer;
let root: string;
let cache: string;

beforeAll(async () => {
  hub = await startHub(files);
});
afterAll(() => hub.close());
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "wecolora-names-"));
  cache = join(root, "a/b/c/cache");
  mkdirSync(cache, { recursive: true });
  hub.reset();
  return () => rm(root, { recursive: true });
});

const load = (options: HubOptions = {}) =>
  hubSnapshot("me/small", { retryDelay: 1, ...options, variables: { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache } });
/** All that lies beside the cache. */
const outside = () =>
  readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((path) => !path.startsWith("a/b/c/cache/"))
    .sort();
const onlyTheCache = ["a", "a/b", "a/b/c", "a/b/c/cache"];

describe("revisions that are refused", () => {
  test.each([
    "../../x",
    "../../../../../x",
    "refs/../../../x",
    "..",
    ".",
    "a/./b",
    "a//b",
    "/etc/x",
    "x/",
    "..\\..\\x",
    "a\\b",
    "C:\\x",
    "C:x",
    "c:/x",
    "x\0y",
    "%2e%2e/x",
    "%2e%2e%2fx",
    "a%00b",
    "x\ny",
    "x\u202ey",
    "x\u009b2J",
    "x\ud800",
    "\u001b[2Jx",
    "a b",
    "nul",
    "refs/CON.txt",
    "x.",
    "x.lock",
    "a.lock/b",
    ".hidden",
    "-x",
    "x:y",
    "x?y",
    "x*",
    "x~1",
    "x^",
    "x@{1}",
    "",
    "x".repeat(300),
  ])("%j", async (revision) => {
    const asking = load({ revision });
    await expect(asking).rejects.toThrow("--revision must be a branch, tag or commit such as main, v1.0 or refs/pr/1");
    await expect(asking).rejects.toMatchObject({ name: "UserError" });
    // The message shows no raw control characters and does not grow with the name.
    const { message } = (await asking.catch((error: unknown) => error)) as Error;
    // eslint-disable-next-line no-control-regex
    expect(message).not.toMatch(/[\x00-\x1f\x7f-\x9f\u202e\ud800]/);
    expect(message.length).toBeLessThan(400);
    expect(hub.asked).toEqual([]);
    expect(outside()).toEqual(onlyTheCache);
  });
});

test.each(["main", "v1.0", "refs/pr/1", "feature/über_x+1", "0123456", commit])(
  "revision %s works",
  async (revision) => {
    const snapshot = await load({ revision });
    expect(hub.asked[0].url).toBe(`/api/models/me/small/revision/${encodeURIComponent(revision)}`);
    const reference = join(cache, "models--me--small/refs", revision);
    if (revision === commit) expect(existsSync(reference)).toBe(false);
    else expect(readFileSync(reference, "utf8")).toBe(commit);
    const offline = { HF_HUB_CACHE: cache, HF_HUB_OFFLINE: "1" };
    expect(await hubSnapshot("me/small", { revision, variables: offline })).toBe(snapshot);
    expect(outside()).toEqual(onlyTheCache);
  },
);

describe("names in a repository's list that are refused", () => {
  const evil = [
    ["../../../x.safetensors", "empty part, . or .."],
    ["..", "empty part, . or .."],
    ["a/../../x.json", "empty part, . or .."],
    ["a//b", "empty part, . or .."],
    ["..\\..\\x.safetensors", "backslash"],
    ["x\\y.safetensors", "backslash"],
    ["C:x.safetensors", "drive letter"],
    ["C:/x.safetensors", "drive letter"],
    ["/etc/x.safetensors", "absolute path"],
    ["x\0.safetensors", "NUL character"],
  ];
  test.each(evil)("%j", async (name, reason) => {
    hub.files.set(name, weights);
    await expect(load()).rejects.toThrow(`lists a file ${JSON.stringify(name)}, which is refused: it`);
    await expect(load()).rejects.toThrow(reason);
    expect(outside()).toEqual(onlyTheCache);
    expect(existsSync(join(cache, "models--me--small"))).toBe(false);
  });

  // Files that are not downloaded may have such names; a model of them may not.
  const reserved = [
    "con.safetensors",
    "LPT1.safetensors",
    "ab:c.safetensors",
    "x\u202e.safetensors",
    "\ud800.safetensors",
    `${"x".repeat(250)}.safetensors`,
  ];
  test.each(reserved)("%j", async (name) => {
    hub.files.set(name, weights);
    await load();
    hub.files.delete("model.safetensors");
    await rm(join(cache, "models--me--small"), { recursive: true });
    await expect(load()).rejects.toThrow("which is refused");
    expect(outside()).toEqual(onlyTheCache);
  });

  test.each([...evil.map(([name]) => name), ...reserved, "sub/x.safetensors", 7])("as a shard: %j", async (name) => {
    const index = { weight_map: { first: "model-1.safetensors", second: name } };
    hub.files.delete("model.safetensors");
    hub.files.set("model-1.safetensors", weights);
    hub.files.set("model.safetensors.index.json", Buffer.from(JSON.stringify(index)));
    await expect(load()).rejects.toThrow(/which is refused: |has no weight_map from weights to plain file names/);
    expect(hub.asked.filter(({ url }) => url.startsWith("large"))).toEqual([]);
    expect(outside()).toEqual(onlyTheCache);
  });
});

test.each([
  "me/..",
  "../x",
  "me/small/../x",
  "me\\small",
  "C:/x",
  "me/sm\0all",
  "me/x%2e",
  "small",
  `me/${"x".repeat(99)}`,
])("%j is not a model name of the hub", async (name) => {
  expect(isHubName(name)).toBe(false);
  await expect(hubSnapshot(name, { variables: { HF_ENDPOINT: hub.endpoint } })).rejects.toThrow(
    "is not a model name of the hub",
  );
  expect(hub.asked).toEqual([]);
});

describe("variables", () => {
  const defaultFolder = join(homedir(), ".cache");

  test("that are empty count as not set", () => {
    expect(userCacheFolder({ XDG_CACHE_HOME: "" })).toBe(defaultFolder);
    expect(hubCacheFolder({ XDG_CACHE_HOME: "", HF_HOME: "", HF_HUB_CACHE: "", HUGGINGFACE_HUB_CACHE: "" })).toBe(
      join(defaultFolder, "huggingface/hub"),
    );
  });

  test("name the folder in huggingface_hub's order", () => {
    const all = { HF_HUB_CACHE: "/1", HUGGINGFACE_HUB_CACHE: "/2", HF_HOME: "/3", XDG_CACHE_HOME: "/4" };
    expect(hubCacheFolder(all)).toBe("/1");
    expect(hubCacheFolder({ ...all, HF_HUB_CACHE: "" })).toBe("/2");
    expect(hubCacheFolder({ ...all, HF_HUB_CACHE: "", HUGGINGFACE_HUB_CACHE: "" })).toBe("/3/hub");
    expect(hubCacheFolder({ XDG_CACHE_HOME: "/4" })).toBe("/4/huggingface/hub");
  });

  test("are read as huggingface_hub and the XDG specification say", () => {
    expect(userCacheFolder({ XDG_CACHE_HOME: "relative/folder" })).toBe(defaultFolder);
    expect(hubCacheFolder({ XDG_CACHE_HOME: "./relative" })).toBe(join(defaultFolder, "huggingface/hub"));
    expect(hubCacheFolder({ HF_HOME: "~/models" })).toBe(join(homedir(), "models/hub"));
    expect(hubCacheFolder({ HF_HUB_CACHE: "$PLACE/${KIND}", PLACE: "/data", KIND: "hub" })).toBe("/data/hub");
    expect(hubCacheFolder({ HF_HUB_CACHE: "models" })).toBe(join(process.cwd(), "models"));
  });

  test("an empty or relative HOME is not the working folder", () => {
    const saved = process.env.HOME;
    try {
      for (const home of ["", "relative"]) {
        process.env.HOME = home;
        expect(homeFolder()).toBe(userInfo().homedir);
      }
    } finally {
      process.env.HOME = saved;
    }
  });

  test("a token that would break a header is refused without showing it", async () => {
    expect(await readToken({ HF_TOKEN: " hf_x\r\n" })).toBe("hf_x");
    await expect(readToken({ HF_TOKEN: "hf_a\nhf_b" })).rejects.toThrow(
      /^HF_TOKEN contains characters that are not allowed in a token\.$/,
    );
    expect(await readToken({ HF_TOKEN: "hf_x", HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" })).toBeUndefined();
  });

  test.each(["huggingface.co", "file:///x", "https://me:secret@hub.example"])(
    "HF_ENDPOINT=%s is refused",
    async (to) => {
      const asking = hubSnapshot("me/small", { variables: { HF_ENDPOINT: to, HF_HUB_CACHE: cache } });
      await expect(asking).rejects.toThrow("HF_ENDPOINT must be an address such as");
      await expect(asking).rejects.not.toThrow("secret");
    },
  );

  test("on the command line: nothing is written to the working folder", async () => {
    const home = join(root, "home");
    const folder = join(root, "work");
    mkdirSync(home);
    mkdirSync(folder);
    const empty = { XDG_CACHE_HOME: "", HF_HOME: "", HF_HUB_CACHE: "", HUGGINGFACE_HUB_CACHE: "", HF_TOKEN: "" };
    const env = { ...process.env, ...empty, HOME: home, HF_ENDPOINT: hub.endpoint };
    // What was downloaded is no model, which is found after the download.
    const message = await new Promise<string>((resolve) => {
      execFile(process.execPath, [script, "inspect", "me/small"], { cwd: folder, env }, (_, __, err) => resolve(err));
    });
    expect(message).not.toBe("");
    expect(readdirSync(join(home, ".cache/huggingface/hub/models--me--small/snapshots"))).toEqual([commit]);
    expect(readdirSync(folder)).toEqual([]);
  });
});
