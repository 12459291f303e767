// The code of README.md and docs/ runs as it stands: a page's commands and JavaScript in their order, in a temporary folder
// with a few images and a small teacher in the hub's cache. TypeScript is checked, YAML is read.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { noiseImage, script } from "./support/cli.ts";
import { commit } from "./support/hub-server.ts";
import type { CodeBlock } from "./support/pages.ts";
import { codeBlocks, documentationPages } from "./support/pages.ts";
import { referencePath, root } from "./support/reference.ts";

const pages = documentationPages().map((page) => ({ ...page, blocks: codeBlocks(page.text) }));
/** Blocks of `bash` need a scheduler: `tests/launchers` has one. */
const languages = new Set(["sh", "bash", "js", "ts", "yaml", "python", "text"]);
/** What stands for the data sets that a reader has, and for budgets that the small teacher is below. */
const placeholders: Readonly<Record<string, string>> = {
  "<cifar-100>": referencePath("data-sets/cifar-100-binary"),
  "<ChestX-ray14>": referencePath("data-sets/chestxray14"),
  "<scans>": referencePath("data-sets/decathlon"),
  // Budgets of a teacher of 87 MB, for one of 0.37 MB.
  "--budget 12MB": "--budget 0.2MB",
};
const filled = (text: string) =>
  Object.entries(placeholders).reduce((made, [name, path]) => made.replaceAll(name, path), text);

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

/** The environment of a reader who has downloaded the teacher, and has no network now. */
const environment = () => ({
  ...process.env,
  HF_HOME: at("huggingface"),
  HF_HUB_OFFLINE: "1",
  // Features are cached in the user's folder.
  XDG_CACHE_HOME: at("cache"),
});

/** Runs a script of Node in a folder to its end; `stopAt` is text behind which it gets a signal. */
async function run(
  cwd: string,
  args: readonly string[],
  stopAt?: string,
): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, args, { cwd, env: environment() });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (stopAt !== undefined && output.includes(stopAt)) child.kill("SIGTERM");
    });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}

/** The package as npm installs it: its manifest and what was built. */
async function installPackage(modules: string): Promise<void> {
  await mkdir(join(modules, "wecolora"), { recursive: true });
  await symlink(join(root, "package.json"), join(modules, "wecolora/package.json"));
  await symlink(join(root, "dist"), join(modules, "wecolora/dist"));
  for (const name of await readdir(join(root, "node_modules")))
    if (!name.startsWith(".") && name !== "wecolora")
      await symlink(join(root, "node_modules", name), join(modules, name));
}

const teacher = "facebook/dinov2-small";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-readme-"));
  const cached = at("huggingface/hub", `models--${teacher.replace("/", "--")}`);
  const snapshot = join(cached, "snapshots", commit);
  await mkdir(join(cached, "refs"), { recursive: true });
  await writeFile(join(cached, "refs/main"), commit);
  for (const file of ["config.json", "model.safetensors"])
    await cp(join(referencePath("teachers/hf-dinov2"), file), join(snapshot, file));
  for (let i = 0; i < 24; i++) await noiseImage(at("images", `class-${i % 3}`, `${i}.jpg`), i, i % 3);
  await noiseImage(at("photo.jpg"), 99, 0);
  await installPackage(at("node_modules"));
  const made = await run(folder, [script, "distill", teacher, "images", "runs/first", "--no-report"]);
  expect(made, made.output).toMatchObject({ code: 0 });
});
afterAll(() => rm(folder, { recursive: true }));

/** A page's folder: images, a photo, and the run that pages take as there unless they make it. */
async function readersFolder(i: number, text: string): Promise<string> {
  const place = at(`page-${i}`);
  await mkdir(place);
  await cp(at("images"), join(place, "images"), { recursive: true });
  await cp(at("photo.jpg"), join(place, "photo.jpg"));
  await symlink(at("node_modules"), join(place, "node_modules"));
  if (!/distill \S+ \S+ runs\/first|out: "runs\/first"/.test(text))
    await cp(at("runs"), join(place, "runs"), { recursive: true });
  if (text.includes("runs/interrupted")) {
    const steps = ["--recipe", "paper", "--steps", "40", "--checkpoint-steps", "1", "--no-report"];
    await run(place, [script, "distill", teacher, "images", "runs/interrupted", ...steps], "distilling");
    expect(existsSync(join(place, "runs/interrupted/result.json")), "the run was interrupted").toBe(false);
  }
  return place;
}

/** Commands that set a reader up: they are not run. */
const setUp = [
  /^(?:ONNXRUNTIME_NODE_INSTALL=skip )?npm install wecolora(?: onnxruntime-web)?$/,
  /^npm ci && npm (?:run )?(?<script>[\w:]+)$/,
];

async function runCommand(place: string, line: string): Promise<void> {
  const [npx, name, ...args] = filled(line)
    .replace(/\s+#.*$/, "")
    .trim()
    .split(/\s+/);
  if (npx !== "npx" || name !== "wecolora") {
    const matched = setUp.map((pattern) => pattern.exec(line.replace(/\s+#.*$/, ""))).find(Boolean);
    expect(matched, line).toBeTruthy();
    const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { scripts: object };
    if (matched?.groups?.script) expect(Object.keys(scripts)).toContain(matched.groups.script);
    return;
  }
  const outcome = await run(place, [script, ...args]);
  expect(outcome, `${line}\n${outcome.output}`).toMatchObject({ code: 0 });
}

async function runBlock(place: string, page: string, { language, code, line }: CodeBlock): Promise<void> {
  // A backslash goes on in the next line.
  if (language === "sh")
    for (const command of code
      .trim()
      .replace(/\\\n\s*/g, "")
      .split("\n"))
      await runCommand(place, command);
  if (language === "js") {
    await writeFile(join(place, `line-${line}.mjs`), code);
    const outcome = await run(place, [`line-${line}.mjs`]);
    expect(outcome, `${page}:${line}\n${outcome.output}`).toMatchObject({ code: 0 });
  }
  if (language === "yaml") {
    const [, file] = /^# (\S+\.yaml)$/m.exec(code) ?? [];
    expect(parseYaml(code)).toBeTypeOf("object");
    if (file !== undefined) await writeFile(join(place, file), filled(code));
  }
}

test("every block of code says its language", () => {
  const unknown = pages.flatMap(({ name, blocks }) =>
    blocks
      .filter(({ language }) => !languages.has(language))
      .map(({ line, language }) => `${name}:${line} ${language}`),
  );
  expect(unknown).toEqual([]);
});

describe("commands and JavaScript", () => {
  // Guides and reference take minutes: the slow suite runs them.
  const isWanted = (name: string) =>
    process.env.ALL_PAGES !== undefined || name === "README.md" || name.startsWith("docs/getting-started/");
  const runnable = pages.filter(
    ({ name, blocks }) => isWanted(name) && blocks.some(({ language }) => ["sh", "js", "yaml"].includes(language)),
  );
  test.each(runnable.map((page, i) => [page.name, page, i] as const))("%s", async (name, { text, blocks }, i) => {
    const place = await readersFolder(i, text);
    for (const block of blocks) await runBlock(place, name, block);
  });
});

test("TypeScript is without errors", async () => {
  const blocks = pages.flatMap(({ name, blocks }) =>
    blocks.filter(({ language }) => language === "ts").map((block) => ({ ...block, page: name })),
  );
  expect(blocks.length).toBeGreaterThan(0);
  const files: string[] = [];
  for (const [i, { code }] of blocks.entries()) {
    files.push(at(`block-${i}.ts`));
    await writeFile(files[i], code);
  }
  const program = ts.createProgram(files, {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"],
    types: [],
    strict: true,
    noEmit: true,
    skipLibCheck: true,
  });
  const errors = ts
    .getPreEmitDiagnostics(program)
    .map(({ file, messageText }) => `${file?.fileName ?? ""} ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
  expect(errors).toEqual([]);
});
