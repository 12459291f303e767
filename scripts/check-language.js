// Part of `npm run lint`: the words, line widths and lengths that documentation, messages and help keep to (language.js).
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { importSources } from "./bundle.js";
import { helpFaults, limits, messageFaults, pageFaults } from "./language.js";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Sources whose texts are no messages. The second list may only become shorter. */
const exempt = [/\.generated\.ts$/, /^src\/engine\/onnx\/onnx_pb\.ts$/, /^src\/cli\/command-table\.ts$/];
const notYet = [/^src\/report\/(?:figures|results)\.ts$/];

/** Files of a folder at any depth, with paths below the root. */
const filesIn = (folder, ends) =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && ends.test(entry.name))
    .map(({ parentPath, name }) => join(parentPath, name).slice(root.length).replaceAll("\\", "/"))
    .filter((name) => !/node_modules|\/dist\/|\/cache\/|^docs\/reference\/api\//.test(name));

const pages = [
  ...readdirSync(root).filter((name) => name.endsWith(".md")),
  ...["docs", "recipes", "examples"].flatMap((folder) => filesIn(folder, /\.md$/)),
];
const sources = filesIn("src", /\.ts$/).filter((name) => ![...exempt, ...notYet].some((pattern) => pattern.test(name)));
const text = (name) => readFileSync(join(root, name), "utf8");

const faults = [
  ...pages.flatMap((name) =>
    pageFaults(text(name), { width: /^docs\/|^README/.test(name) }).map((fault) => `${name}:${fault}`),
  ),
  ...sources.flatMap((name) => messageFaults(name, text(name)).map((fault) => `${name}:${fault}`)),
];
const { table, help } = await importSources(root, { table: "src/cli/command-table.ts", help: "src/cli/help.ts" });
for (const row of table.commandTable) {
  for (const recipe of [undefined, ...Object.keys(row.recipes ?? {})]) {
    const lines = help.commandHelp(row, { width: limits.help, all: true, recipe }).split("\n");
    faults.push(...helpFaults(row, lines));
  }
}
for (const fault of new Set(faults)) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
