// `npm run generate`: lists the files of folders where each file is an extension, so that adding one touches that file alone.
// With --check, fails where a list is not current.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Folders, and what each of their files exports. */
const registries = [
  { folder: "src/commands", member: "command", plural: "commands", of: "`wecolora`'s commands" },
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

let stale = 0;
for (const registry of registries) {
  const path = join(root, registry.folder, fileOf(registry));
  const text = registryText(registry);
  let current = "";
  try {
    current = readFileSync(path, "utf8");
  } catch {
    // A new registry.
  }
  if (current === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`${registry.folder}/${fileOf(registry)} is not current: run npm run generate`);
    stale++;
  } else writeFileSync(path, text);
}
process.exitCode = stale > 0 ? 1 : 0;
