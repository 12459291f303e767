// The JavaScript of README.md and the guide runs as it stands, on a small teacher and a few images in a temporary folder.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noisePicture } from "./support/cli.ts";
import { referencePath, root } from "./support/reference.ts";

const pages = await Promise.all(["README.md", "docs/guide.md"].map((name) => readFile(join(root, name), "utf8")));
const snippets = [...pages.join("\n").matchAll(/^```(?:js|javascript)\n([\s\S]*?)^```/gm)].map(([, code]) => code);

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-readme-"));
  await cp(referencePath("teachers/hf-dinov2"), join(folder, "path/to/teacher"), { recursive: true });
  for (let i = 0; i < 12; i++) await noisePicture(join(folder, "path/to/images", `${i}.jpg`), i, i % 2);
  await cp(join(folder, "path/to/images/0.jpg"), join(folder, "picture.jpg"));
  // The package as npm installs it: its manifest and what was built.
  const modules = join(folder, "node_modules");
  await mkdir(join(modules, "wecolora"), { recursive: true });
  await symlink(join(root, "package.json"), join(modules, "wecolora/package.json"));
  await symlink(join(root, "dist"), join(modules, "wecolora/dist"));
  for (const name of await readdir(join(root, "node_modules"))) {
    if (!name.startsWith(".") && name !== "wecolora")
      await symlink(join(root, "node_modules", name), join(modules, name));
  }
});
afterAll(() => rm(folder, { recursive: true }));

async function run(name: string, code: string): Promise<{ code: number | null; output: string }> {
  await writeFile(join(folder, name), code);
  const child = spawn(process.execPath, [name], { cwd: folder });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  const [exit] = (await once(child, "close")) as [number | null];
  return { code: exit, output };
}

describe("README.md and docs/guide.md", () => {
  const own = snippets.filter((code) => code.includes('from "wecolora'));
  const others = snippets.filter((code) => !own.includes(code));

  test("has snippets of the library", () => {
    expect(own.length).toBeGreaterThan(0);
  });

  test.each(own.map((code, i) => [i, code] as const))("snippet %i of the library runs", async (i, code) => {
    const outcome = await run(`own-${i}.mjs`, code);
    expect(outcome, outcome.output).toMatchObject({ code: 0 });
  });

  test.each(others.map((code, i) => [i, code] as const))("snippet %i on a student runs", async (i, code) => {
    // What a run leaves behind, where the snippet's path says; the one change to it.
    const at = code.replaceAll("/path/to/RUN/", `${join(folder, "runs/first")}/`);
    const outcome = await run(`other-${i}.mjs`, at);
    expect(outcome, outcome.output).toMatchObject({ code: 0 });
  });
});
