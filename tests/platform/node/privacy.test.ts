// Whole runs leave nothing behind outside of their output, cache and temporary folders, and open no connection.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Outcome } from "../../support/cli.ts";
import { noiseFolder, runScript, script } from "../../support/cli.ts";
import { referencePath, root } from "../../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
const hook = pathToFileURL(join(root, "tests/support/no-network.mjs")).href;
let folder: string;
let data: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-privacy-"));
  data = await noiseFolder("privacy-images");
});
afterAll(async () => {
  await rm(folder, { recursive: true });
  await rm(data, { recursive: true });
});

/** Variables that build servers set. */
const buildServers = [
  "CI",
  "TF_BUILD",
  "GITHUB_ACTIONS",
  "GITLAB_CI",
  "TRAVIS",
  "CIRCLECI",
  "APPVEYOR",
  "BUILD_ID",
  "JENKINS_URL",
];

/** Empty folders for all that a process may write to by itself, and where the hook reports to. */
function emptyUser(name: string) {
  const inside = (entry: string) => at(name, entry);
  for (const entry of ["home", "tmp", "cache", "config", "data", "state", "work"])
    mkdirSync(inside(entry), { recursive: true });
  const env: NodeJS.ProcessEnv = {
    HOME: inside("home"),
    USERPROFILE: inside("home"),
    TMPDIR: inside("tmp"),
    TMP: inside("tmp"),
    TEMP: inside("tmp"),
    XDG_CACHE_HOME: inside("cache"),
    XDG_CONFIG_HOME: inside("config"),
    XDG_DATA_HOME: inside("data"),
    XDG_STATE_HOME: inside("state"),
    NODE_OPTIONS: `--import=${hook}`,
    NO_NETWORK_REPORT: inside("connections.txt"),
    ORT_DISABLE_TELEMETRY: undefined,
    // ONNX Runtime sends nothing where it takes the machine for a build server, so these would hide what users meet.
    ...Object.fromEntries(buildServers.map((name) => [name, undefined])),
    HF_HOME: undefined,
  };
  const connections = () =>
    existsSync(inside("connections.txt")) ? readFileSync(inside("connections.txt"), "utf8").trim().split("\n") : [];
  return { inside, env, connections };
}

/** Every path below a folder. */
const below = (path: string): string[] => readdirSync(path, { recursive: true }).map(String);

/** What commands of each kind write and read, one after the other. */
const commands = (out: string) => [
  ["distill", "--teacher", teacher, "--data", join(data, "data"), "--out", `${out}/run`, "--export", "onnx,peft"],
  ["evaluate", "--model", `${out}/run/student`, "--teacher", teacher, "--data", join(data, "data")],
  ["export", "--model", teacher, "--data", join(data, "data"), "--to", "onnx,huggingface", "--out", `${out}/exported`],
  ["features", "--model", `${out}/run/student`, "--data", join(data, "data"), "--out", `${out}/f.safetensors`],
  ["inspect", teacher],
];
// PEFT needs adapters, which are trained.
const training = ["--method", "wecolora", "--rank", "2", "--steps", "2", "--effective-batch", "6"];

function expectNothingLeft({ inside, connections }: ReturnType<typeof emptyUser>): void {
  for (const entry of ["home", "tmp", "config", "data", "state"]) expect(below(inside(entry)), entry).toEqual([]);
  expect(readdirSync(inside("cache")).filter((name) => name !== "wecolora")).toEqual([]);
  expect(connections()).toEqual([]);
}

describe("on the command line", () => {
  let user: ReturnType<typeof emptyUser>;
  const outcomes: Outcome[] = [];
  beforeAll(async () => {
    user = emptyUser("command-line");
    for (const args of commands(user.inside("out")))
      outcomes.push(await runScript(script, args[0] === "distill" ? [...args, ...training] : args, user.env));
  });

  test("whole runs write their outputs and the feature cache alone, and connect to nothing", () => {
    expect(outcomes.map(({ code, err }) => (code === 0 ? 0 : err))).toEqual(outcomes.map(() => 0));
    expect(readdirSync(user.inside("out")).sort()).toEqual(["exported", "f.safetensors", "run"]);
    expectNothingLeft(user);
  });

  test("the hook sees a connection where there is one", async () => {
    const user = emptyUser("hub");
    const outcome = await runScript(script, ["inspect", "no-such-owner/no-such-model"], {
      ...user.env,
      HF_ENDPOINT: "http://127.0.0.1:39911",
    });
    expect(outcome.code).not.toBe(0);
    expect(user.connections().join()).toContain("connect");
  });
});

test("the library turns telemetry off for its workers, unless the user has set it", async () => {
  const user = emptyUser("library");
  await writeFile(
    at("library.mjs"),
    `import { loadModel } from ${JSON.stringify(pathToFileURL(join(root, "dist/node.js")).href)};
    const model = await loadModel(${JSON.stringify(teacher)});
    await model.forward({ type: "float32", dims: [1, 3, 32, 32], data: new Float32Array(3 * 32 * 32) });
    await model.dispose();
    console.log(process.env.ORT_DISABLE_TELEMETRY);`,
  );
  expect(await runScript(at("library.mjs"), [], user.env)).toMatchObject({ code: 0, out: "1\n" });
  expectNothingLeft(user);
  const asking = emptyUser("asked");
  const asked = await runScript(at("library.mjs"), [], { ...asking.env, ORT_DISABLE_TELEMETRY: "0" });
  expect(asked).toMatchObject({ code: 0, out: "0\n" });
  // ONNX Runtime 1.30 has telemetry on Linux: what it leaves is what the check above looks for.
  if (process.platform === "linux")
    expect([...below(asking.inside("tmp")), ...below(asking.inside("cache"))].join()).toMatch(/onnxruntime|mat-debug/);
});

const strace = spawnSync("strace", ["-V"]).status === 0;

test.skipIf(!strace)("no thread asks the system for a connection", () => {
  const user = emptyUser("traced");
  const log = at("trace.txt");
  const features = ["features", "--model", teacher, "--data", join(data, "data"), "--out", user.inside("work/f.st")];
  const args = ["-f", "-qq", "-e", "trace=socket,connect", "-o", log, process.execPath, script, ...features];
  execFileSync("strace", args, { env: { ...process.env, ...user.env, NODE_OPTIONS: "" }, stdio: "ignore" });
  const calls = readFileSync(log, "utf8").split("\n");
  expect(calls.filter((line) => /AF_INET6?|AF_NETLINK/.test(line))).toEqual([]);
});

const unshare = spawnSync("unshare", ["--net", "true"]).status === 0;

test.skipIf(!unshare)("a run is the same where there is no network at all", () => {
  const user = emptyUser("unshared");
  const env = { ...process.env, ...user.env };
  const args = ["features", "--model", teacher, "--data", join(data, "data"), "--out"];
  execFileSync("unshare", ["--net", process.execPath, script, ...args, user.inside("work/a.safetensors")], { env });
  execFileSync(process.execPath, [script, ...args, user.inside("work/b.safetensors")], { env });
  const [a, b] = ["a", "b"].map((name) => readFileSync(user.inside(`work/${name}.safetensors`)));
  expect(a.equals(b)).toBe(true);
  expectNothingLeft(user);
});
