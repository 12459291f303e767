// node scripts/check-package.js: packs the package as `npm publish` would, checks it with publint and Are The Types Wrong,
// and installs it into empty folders, with install scripts and without, where the command line and strict TypeScript use it.
// The demo's package (`demo/`) is packed and installed beside it too.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Bytes of the tarball at most: source maps or the demo's teacher in it would be more. */
const largest = 1.5e6;
/** What the demo's package holds. */
const demoFiles = /^(teacher|pictures)\/|^(README\.md|NOTICE|package\.json)$/;

/** @param {string} command @param {string[]} args @param {string} cwd @param {Record<string, string>} env */
function run(command, args, cwd = root, env = {}) {
  return execFileSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** Packs into a folder and gives the tarball's path. */
function pack(folder) {
  const [{ filename, files }] = JSON.parse(
    // This project installs with scripts off, which would leave out `prepack`, and with it the build.
    run("npm", ["pack", "--json", "--silent", "--ignore-scripts=false", "--pack-destination", folder]),
  );
  const names = files.map(({ path }) => path);
  const strange = names.filter(
    (name) => !/^(dist\/.*\.(js|d\.ts)|README\.md|NOTICE|LICENSE|package\.json)$/.test(name),
  );
  if (strange.length > 0) throw new Error(`the package holds ${strange.join(", ")}`);
  const tarball = join(folder, filename);
  const { size } = statSync(tarball);
  if (size > largest) throw new Error(`the package has ${size} bytes, more than ${largest}`);
  console.log(`${filename}: ${names.length} files, ${(size / 1e3).toFixed(0)} kB`);
  return tarball;
}

/** Packs the demo's teacher and images and gives the tarball's path. */
function packDemo(folder) {
  const [{ filename, files }] = JSON.parse(
    run("npm", ["pack", "./demo", "--json", "--silent", "--pack-destination", folder]),
  );
  const names = files.map(({ path }) => path);
  const strange = names.filter((name) => !demoFiles.test(name));
  if (strange.length > 0 || !names.includes("teacher/model.safetensors"))
    throw new Error(`the demo's package holds ${strange.join(", ") || "no teacher"}`);
  console.log(`${filename}: ${names.length} files, ${(statSync(join(folder, filename)).size / 1e6).toFixed(0)} MB`);
  return join(folder, filename);
}

/** The demo says which package it needs, and runs once that is installed. */
function runDemo(tarball, folder) {
  const demo = ["wecolora", "demo", "--quick", "--out", join(folder, "run")];
  const { status, stderr } = spawnSync("npx", demo, { cwd: folder, encoding: "utf8" });
  if (status !== 2 || !stderr.includes("--package wecolora-demo"))
    throw new Error(`without its package the demo ended with ${status}: ${stderr}`);
  run("npm", ["install", "--silent", "--no-audit", "--no-fund", tarball], folder, { ONNXRUNTIME_NODE_INSTALL: "skip" });
  const printed = run("npx", demo, folder);
  if (!printed.startsWith("The student has ")) throw new Error(`the demo printed ${printed}`);
  console.log(printed.split("\n")[0]);
}

/** Uses each entry under strict settings, so that its types are complete. */
const program = `import { type Directory, memoryDirectory, readModel } from "wecolora";
import { distill, fromPretrained, type DistillOptions } from "wecolora/node";

const directory: Directory = memoryDirectory();
export const options: DistillOptions = { teacher: "facebook/dinov2-small", data: "images", out: "run" };
export const read: Promise<unknown> = readModel(directory).catch(() => undefined);
export const functions: readonly unknown[] = [distill, fromPretrained];
`;

/** @param {string} tarball @param {string} folder @param {boolean} scripts */
function install(tarball, folder, scripts) {
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  run("npm", ["install", "--silent", "--no-audit", "--no-fund", `--ignore-scripts=${!scripts}`, tarball], folder, {
    // Its script would fetch CUDA's libraries.
    ONNXRUNTIME_NODE_INSTALL: "skip",
  });
  const { version } = JSON.parse(
    run("npm", ["pkg", "get", "version", "--json"]).replace(/^"(.*)"\s*$/, '{"version":"$1"}'),
  );
  const printed = run("npx", ["wecolora", "--version"], folder).trim();
  if (printed !== version) throw new Error(`wecolora --version printed ${printed}, not ${version}`);
  run("npx", ["wecolora", "inspect", join(root, "demo/teacher")], folder);
  run("node", ["--input-type=module", "-e", 'await import("wecolora"); await import("wecolora/node");'], folder);
}

/** @param {string} folder */
function compile(folder) {
  writeFileSync(join(folder, "program.ts"), program);
  for (const [module, resolution] of [
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ]) {
    const options = [
      "--noEmit",
      "--strict",
      "--target",
      "es2023",
      "--module",
      module,
      "--moduleResolution",
      resolution,
    ];
    // The declarations of the package itself are checked too, those of others are theirs to keep right.
    run("node", [join(root, "node_modules/typescript/bin/tsc"), ...options, "--skipLibCheck", "program.ts"], folder);
  }
}

const work = mkdtempSync(join(tmpdir(), "wecolora-package-"));
try {
  const tarball = pack(work);
  console.log(run("npx", ["publint", tarball, "--strict"]).trim());
  console.log(run("npx", ["attw", tarball, "--profile", "esm-only", "--format", "ascii"]).trim());
  for (const scripts of [false, true]) {
    const folder = join(work, `scripts-${scripts ? "on" : "off"}`);
    install(tarball, folder, scripts);
    compile(folder);
    if (!scripts) runDemo(packDemo(work), folder);
    console.log(`installed with scripts ${scripts ? "on" : "off"}: command line, imports and strict TypeScript work`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
