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
];

const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

function registryText({ folder, member, plural, of, options }) {
  const names = readdirSync(join(root, folder))
    .filter((file) => file.endsWith(".ts") && file !== "registry.ts")
    .map((file) => file.slice(0, -3))
    .filter((name) =>
      new RegExp(`^export const ${member}\\b`, "m").test(readFileSync(join(root, folder, `${name}.ts`), "utf8")),
    )
    .sort();
  const local = (name) => `${camel(name)}${member[0].toUpperCase()}${member.slice(1)}`;
  return [
    `// All of ${of}, from the files of this folder. Made by \`npm run generate\`; don't edit it.`,
    ...names.map((name) => `import { ${member} as ${local(name)} } from "./${name}.ts";`),
    "",
    `export const ${plural} = [`,
    ...names.map((name) => `  ${local(name)},`),
    "] as const;",
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
  const path = join(root, registry.folder, "registry.ts");
  const text = registryText(registry);
  let current = "";
  try {
    current = readFileSync(path, "utf8");
  } catch {
    // A new registry.
  }
  if (current === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`${registry.folder}/registry.ts is not current: run npm run generate`);
    stale++;
  } else writeFileSync(path, text);
}
process.exitCode = stale > 0 ? 1 : 0;
