// Output folders: nothing is replaced or removed but what we wrote; one process at a time; inputs are never written over.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distill, evaluate, exportModel, features, nodeDirectory, nodeEnvironment, rollout } from "wecolora/node";
import { lockEntry } from "../../src/context/outputs.ts";
import { nodeOutputs } from "../../src/platform/node/node-outputs.ts";
import { machineId, processStart } from "../../src/platform/node/process-identity.ts";
import { journalEntry, OutputFolder } from "../../src/workspace/output-folder.ts";
import { textChunks } from "../../src/workspace/output-files.ts";
import { noiseImage, wecoloraProcess, distillArguments } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
const outputs = nodeOutputs((path) => path);
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-outputs-"));
  for (let i = 0; i < 9; i++) await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

/** Everything below a folder, with its content. */
async function contentOf(path: string): Promise<Record<string, string>> {
  const names = await readdir(path, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  return Object.fromEntries(await Promise.all(files.map(async (file) => [file, await readFile(file, "latin1")])));
}

describe("the list of files", () => {
  test("only what was written through it is replaced or removed", async () => {
    const path = at("list");
    const first = await OutputFolder.open(nodeDirectory(path), "run");
    await first.directory.write("config.json", textChunks("1"));
    await first.directory.below("student").write("model.bin", textChunks("2"));
    await writeFile(join(path, "student", "mine.txt"), "mine");
    await writeFile(join(path, "README.md"), "mine");
    const again = await OutputFolder.open(nodeDirectory(path), "run");
    await expect(again.directory.write("README.md", textChunks("x"))).rejects.toThrow("was not written by wecolora");
    await again.directory.remove("student");
    expect((await readdir(join(path, "student"))).sort()).toEqual(["mine.txt"]);
    await again.clear();
    expect((await readdir(path)).sort()).toEqual([journalEntry, "README.md", "student"]);
    expect(readFileSync(join(path, "README.md"), "utf8")).toBe("mine");
  });

  test("a folder of other files, of another kind, of a newer version", async () => {
    await mkdir(at("foreign"));
    await writeFile(at("foreign", "thesis.tex"), "");
    await expect(OutputFolder.open(nodeDirectory(at("foreign")), "run")).rejects.toThrow(
      /did not write \(thesis.tex\)/,
    );
    await mkdir(at("older"));
    for (const name of ["config.json", "log.jsonl"]) await writeFile(at("older", name), "{}");
    await expect(OutputFolder.open(nodeDirectory(at("older")), "run")).rejects.toThrow("a run of an older wecolora");
    await mkdir(at("kind"));
    await writeFile(at("kind", journalEntry), '{"format":"wecolora-output","version":1,"kind":"rollout"}\n');
    await expect(OutputFolder.open(nodeDirectory(at("kind")), "run")).rejects.toThrow("the output of wecolora rollout");
    await writeFile(at("kind", journalEntry), '{"format":"wecolora-output","version":7,"kind":"run"}\n');
    await expect(OutputFolder.open(nodeDirectory(at("kind")), "run")).rejects.toThrow(/newer wecolora: version 7/);
  });

  test.each([
    "../victim.txt",
    "a/../../victim.txt",
    "/victim.txt",
    "a//b",
    "./a",
    "..\\victim.txt",
    "c:victim.txt",
    "",
  ])("a list that someone else made names no file outside: %j", async (file) => {
    await rm(at("list-of-others"), { recursive: true, force: true });
    await mkdir(at("list-of-others"));
    await writeFile(at("victim.txt"), "mine");
    const lines = [{ format: "wecolora-output", version: 1, kind: "run" }, { file }];
    await writeFile(at("list-of-others", journalEntry), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const opened = OutputFolder.open(nodeDirectory(at("list-of-others")), "run").then((output) => output.clear());
    await expect(opened).rejects.toThrow("line 2 of");
    expect(readFileSync(at("victim.txt"), "utf8")).toBe("mine");
  });

  test("nothing is written, appended or removed behind a link, and no folder is removed in place of a file", async () => {
    const [path, victim] = [at("linked"), at("linked-victim")];
    const output = await OutputFolder.open(nodeDirectory(path), "run");
    for (const name of ["student/model.bin", "log.jsonl", "note.txt"])
      await output.directory.write(name, textChunks("1"));
    await mkdir(victim);
    for (const name of ["model.bin", "log.jsonl", "mine.txt"]) await writeFile(join(victim, name), "mine");
    await rm(join(path, "student"), { recursive: true });
    await symlink(victim, join(path, "student"));
    await rm(join(path, "log.jsonl"));
    await symlink(join(victim, "log.jsonl"), join(path, "log.jsonl"));
    await rm(join(path, "note.txt"));
    await mkdir(join(path, "note.txt"));
    await writeFile(join(path, "note.txt", "mine.txt"), "mine");
    const again = await OutputFolder.open(nodeDirectory(path), "run");
    const { directory } = again;
    const refused = { code: "OUTPUT_IN_USE", message: expect.stringContaining("is a link") };
    await expect(directory.write("student/model.bin", textChunks("2"))).rejects.toMatchObject(refused);
    await expect(directory.below("student").write("model.bin", textChunks("2"))).rejects.toMatchObject(refused);
    await expect(directory.append("log.jsonl", "2")).rejects.toMatchObject(refused);
    await expect(again.clear()).rejects.toMatchObject(refused);
    await directory.remove("note.txt");
    expect(readFileSync(join(path, "note.txt", "mine.txt"), "utf8")).toBe("mine");
    for (const text of Object.values(await contentOf(victim))) expect(text).toBe("mine");
  });

  test("a last line that was cut off is left out, and the next entry stands on a line of its own", async () => {
    const path = at("cut");
    const first = await OutputFolder.open(nodeDirectory(path), "run");
    await first.directory.write("a.txt", textChunks("a"));
    await writeFile(join(path, journalEntry), `${readFileSync(join(path, journalEntry), "utf8")}{"file":"b.t`);
    const second = await OutputFolder.open(nodeDirectory(path), "run");
    expect(second.has("a.txt")).toBe(true);
    await second.directory.write("c.txt", textChunks("c"));
    const third = await OutputFolder.open(nodeDirectory(path), "run");
    expect(["a.txt", "b.t", "c.txt"].map((name) => third.has(name))).toEqual([true, false, true]);
  });

  test("what a killed process had begun to write is swept away, other people's .partial files are not", async () => {
    const path = at("swept");
    const first = await OutputFolder.open(nodeDirectory(path), "run");
    await first.directory.write("a.txt", textChunks("a"));
    await writeFile(join(path, "a.txt.0123456789ab-999-deadbeef.partial"), "half");
    await writeFile(join(path, "film.mkv.partial"), "a download");
    const second = await OutputFolder.open(nodeDirectory(path), "run");
    await second.sweep();
    expect((await readdir(path)).filter((name) => name.endsWith(".partial"))).toEqual(["film.mkv.partial"]);
  });
});

describe("an output and an input in each other", () => {
  test("whatever links lead there", async () => {
    await mkdir(at("in", "deep"), { recursive: true });
    await symlink(at("in"), at("link"));
    const relation = (output: string, input: string) => outputs.relation(at(output), at(input));
    expect(await relation("in", "in")).toBe("same");
    expect(await relation("link", "in")).toBe("same");
    expect(await relation("link/new/run", "in")).toBe("inside");
    expect(await relation("in", "link/deep")).toBe("around");
    expect(await relation("in/deep", "data")).toBe("apart");
    expect(await relation("input", "in")).toBe("apart");
    // Where names ignore the case of letters, these are one folder.
    expect(await relation("IN", "in")).toBe(existsSync(at("IN")) ? "same" : "apart");
  });

  test.each([
    ["distill", () => distill({ teacher, data: at("data"), out: at("data", "run") })],
    ["rollout", () => rollout({ model: teacher, data: at("data"), out: at("data") })],
    ["evaluate", () => evaluate({ model: teacher, data: at("data"), out: at("data", "a"), cache: false })],
    ["a cache", () => evaluate({ model: teacher, data: at("data"), cacheDir: at("data", "cache") })],
    ["features", () => features({ model: teacher, data: at("data"), out: at("data", "f.safetensors") })],
    ["export", () => exportModel({ model: at("model"), data: at("data"), to: "timm", out: at("model") })],
  ])("%s refuses it before anything is written", async (_, run) => {
    await cp(teacher, at("model"), { recursive: true, force: true });
    const before = { ...(await contentOf(at("data"))), ...(await contentOf(at("model"))) };
    await expect(run()).rejects.toMatchObject({
      name: "UserError",
      message: expect.stringMatching(/(lies in|same as|holds)/),
    });
    expect({ ...(await contentOf(at("data"))), ...(await contentOf(at("model"))) }).toEqual(before);
  });
});

describe("a user's folder", () => {
  test("is left alone by every command that writes folders", async () => {
    const project = at("project");
    await mkdir(join(project, "student"), { recursive: true });
    for (const name of ["README.md", "config.json", "student/list.csv"])
      await writeFile(join(project, name), `my ${name}`);
    const before = await contentOf(project);
    const foreign = { message: expect.stringContaining("files that wecolora did not write") };
    const data = at("data");
    for (const overwrite of [false, true])
      await expect(distill({ teacher, data, out: project, overwrite })).rejects.toMatchObject(foreign);
    await expect(exportModel({ model: teacher, data, to: "timm", out: project })).rejects.toMatchObject(foreign);
    await expect(rollout({ model: teacher, data, out: project })).rejects.toMatchObject(foreign);
    await expect(evaluate({ model: teacher, data, out: project, cache: false })).rejects.toMatchObject(foreign);
    expect(await contentOf(project)).toEqual(before);
  });

  test("outputs that can't be written are refused before any work, and leave nothing", async () => {
    await writeFile(at("file"), "text");
    const data = at("data");
    await expect(distill({ teacher, data, out: at("file") })).rejects.toThrow("is a file");
    await expect(distill({ teacher, data, out: at("file", "run") })).rejects.toThrow("a part of the path is a file");
    await expect(features({ model: teacher, data, out: at("data") })).rejects.toThrow(/same as|is a folder/);
    await mkdir(at("somewhere"));
    await expect(features({ model: teacher, data, out: at("somewhere") })).rejects.toThrow("is a folder");
    await writeFile(at("thesis.safetensors"), "my thesis");
    await expect(features({ model: teacher, data, out: at("thesis.safetensors") })).rejects.toThrow("not replaced");
    expect(readFileSync(at("thesis.safetensors"), "utf8")).toBe("my thesis");
    await features({ model: teacher, data, out: at("new", "f.safetensors") });
    // A file of ours is replaced.
    await features({ model: teacher, data, out: at("new", "f.safetensors") });
    await expect(distill({ teacher: at("nothing-here"), data, out: at("never", "run") })).rejects.toThrow();
    expect(existsSync(at("never"))).toBe(false);
  });

  test("rollout again in its own folder: its old images go, the user's stay", async () => {
    const out = at("looks");
    await rollout({ model: teacher, data: at("data"), out, maxImages: 9 });
    await writeFile(join(out, "notes.txt"), "mine");
    await rollout({ model: teacher, data: at("data", "a"), out, maxImages: 2 });
    const names = (await readdir(out)).filter((name) => !name.startsWith("."));
    expect(names.filter((name) => name.endsWith(".png"))).toHaveLength(2);
    expect(names).toContain("notes.txt");
  });
});

describe("locks", () => {
  const owner = (more: object) =>
    JSON.stringify({ pid: process.pid, host: hostname(), machine: machineId(), since: "2026-01-01", ...more });

  test("of ten that ask at once, one gets it; released by the only one that asked, the folder it made is gone", async () => {
    const taken = await Promise.allSettled(Array.from({ length: 10 }, () => outputs.lock(at("locked", "deep"))));
    const won = taken.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    expect(won).toHaveLength(1);
    await expect(outputs.lock(at("locked", "deep"))).rejects.toThrow(`in use by process ${process.pid} on`);
    await won[0].release();
    await (await outputs.lock(at("alone", "deep"))).release();
    expect(existsSync(at("alone"))).toBe(false);
  });

  test("of a process that is gone, or whose number is another's now, are taken over; of other machines not", async () => {
    await mkdir(at("stale"));
    const lock = at("stale", lockEntry);
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    await writeFile(lock, owner({ pid }));
    await (await outputs.lock(at("stale"))).release();
    if (processStart(process.pid) !== undefined) {
      await writeFile(lock, owner({ start: "another boot 12" }));
      await (await outputs.lock(at("stale"))).release();
      await writeFile(lock, owner({ start: processStart(process.pid) }));
      await expect(outputs.lock(at("stale"))).rejects.toThrow("is in use");
    }
    await writeFile(lock, owner({ machine: "elsewhere", host: "node17" }));
    await expect(outputs.lock(at("stale"))).rejects.toThrow(/on node17 .* If it does not, remove .*wecolora.lock/);
  });

  test("two processes with one --out: the second says so and touches nothing", async () => {
    const more = ["--recipe", "paper", "--epochs", "4000", "--rank", "2", "--no-evaluate", "--evaluate-steps", "0"];
    const args = [...distillArguments(teacher, at("data"), at("both")), ...more];
    const first = wecoloraProcess(...args);
    await first.hasPrinted(/distilling/);
    for (const again of [args, [...args, "--overwrite"], ["distill", "--resume", at("both")]]) {
      const { code, err } = await wecoloraProcess(...again).ended;
      expect(code).toBe(2);
      expect(err).toMatch(/both is in use by process \d+/);
    }
    first.kill("SIGKILL");
    await first.ended;
    const environment = nodeEnvironment({ threads: 1 });
    await (await environment.outputs.lock(at("both"))).release();
    await environment.dispose();
  });
});
