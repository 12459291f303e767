// `npm run generate`: lists the files of folders where each file is an extension, so that adding one touches that file
// alone; writes the pages of error codes and of commands, the API's option interfaces, and the command line's table of options.
// With --check, fails where a list is not current.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generatedFromSchemas } from "./generate-options.js";
import { referencePages } from "./generate-reference.js";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Folders, and what each of their files exports. */
const registries = [
  { folder: "src/commands", member: "command", plural: "commands", of: "`wecolora`'s commands" },
  {
    folder: "src/commands",
    file: "divisions.ts",
    member: "division",
    plural: "divisions",
    of: "the commands whose work can be cut into tasks",
  },
  {
    folder: "src/launchers",
    member: "launcher",
    plural: "launchers",
    of: "the launchers of tasks",
    options: "launcherOptions",
  },
  { folder: "src/students/methods", member: "method", plural: "methods", of: "the methods", options: "methodOptions" },
  { folder: "src/exports", member: "format", plural: "exportFormats", of: "the exports", options: "exportOptions" },
  {
    folder: "src/data/formats",
    member: "format",
    plural: "dataFormats",
    of: "the data formats",
    options: "dataFormatOptions",
  },
  { folder: "src/models/layouts", file: "layout-groups.ts", member: "group", plural: "groups", of: "the layouts" },
];

const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

/** A list as Prettier has it. */
function list(name, items) {
  const short = `export const ${name} = [${items.join(", ")}] as const;`;
  return short.length <= 120
    ? [short]
    : [`export const ${name} = [`, ...items.map((item) => `  ${item},`), "] as const;"];
}

/** Where a registry is written. */
const fileOf = ({ file = "registry.ts" }) => file;

function registryText({ folder, member, plural, of, options }) {
  const names = readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".ts"))
    .map((name) => name.slice(0, -3))
    .filter((name) =>
      new RegExp(`^export const ${member}\\b`, "m").test(readFileSync(join(root, folder, `${name}.ts`), "utf8")),
    )
    .sort();
  const local = (name) => `${camel(name)}${member[0].toUpperCase()}${member.slice(1)}`;
  return [
    `// All of ${of}, from the files of this folder. Made by \`npm run generate\`; don't edit it.`,
    ...names.map((name) => `import { ${member} as ${local(name)} } from "./${name}.ts";`),
    "",
    ...list(plural, names.map(local)),
    ...(options
      ? [
          "",
          "/** The options of all, by name. */",
          `export const ${options} = {`,
          ...names.map((name) => `  ...${local(name)}.options,`),
          "};",
        ]
      : []),
    "",
  ].join("\n");
}

/** The page of error codes, from the table in src/utils/errors.ts. */
function errorsPage() {
  const source = readFileSync(join(root, "src/utils/errors.ts"), "utf8");
  const [, table] = /export const errorCodes = \{\n([\s\S]*?)\n\} as const;/.exec(source);
  const codes = [...table.matchAll(/^ {2}([A-Z_]+):\s+("(?:[^"\\]|\\.)*"),$/gm)];
  if (codes.length !== table.split(",\n").length) throw new Error("the table in src/utils/errors.ts can't be read");
  return [
    "# Error codes",
    "",
    "<!-- Made by `npm run generate` from `src/utils/errors.ts`; don't edit it. -->",
    "",
    "Every error that wecolora throws has a `code`. The command line prints it with `--json`:",
    '`{"error": {"code": "FILE_NOT_FOUND", "message": "..."}}`. Codes are stable, messages are not.',
    "",
    "| error | meaning | exit code |",
    "| --- | --- | --- |",
    "| `UserError` | something that you can fix | 2 |",
    "| `RunError` | a failure while running | 1 |",
    "| stopped by Ctrl-C, SIGTERM or SIGHUP | what can be resumed was saved | 130, 143 or 129 |",
    "",
    "| code | meaning |",
    "| --- | --- |",
    ...codes.map(([, code, meaning]) => `| \`${code}\` | ${JSON.parse(meaning)} |`),
    "",
  ].join("\n");
}

let stale = 0;

/** Writes a file, or with --check reports that it is not current. */
function settle(name, text) {
  const path = join(root, name);
  let current = "";
  try {
    current = readFileSync(path, "utf8");
  } catch {
    // A new file.
  }
  if (current === text) return;
  if (process.argv.includes("--check")) {
    console.error(`${name} is not current: run npm run generate`);
    stale++;
  } else writeFileSync(path, text);
}

for (const registry of registries) settle(`${registry.folder}/${fileOf(registry)}`, registryText(registry));
settle("docs/reference/error-codes.md", errorsPage());
for (const [name, text] of Object.entries(await generatedFromSchemas(root))) settle(name, text);
for (const [name, text] of Object.entries(await referencePages(root))) settle(name, text);
process.exitCode = stale > 0 ? 1 : 0;
