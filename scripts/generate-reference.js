// The pages of the reference that list commands and options, from the same schemas as help.
import { z } from "zod";
import { importSources } from "./bundle.js";

const byline = "<!-- Made by `npm run generate` from the commands' schemas; don't edit it. -->";

/** Text in a cell of a table. Code stays as it is. */
const cell = (text) =>
  text
    .replaceAll("|", "\\|")
    .replace(/`[^`]*`|</g, (part) => (part === "<" ? "&lt;" : part))
    .replace(/\s*\n\s*/g, " ");
const code = (text) => `\`${text.replaceAll("|", "\\|")}\``;
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
const kebab = (name) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Defaults of an option: the default recipe's, and those of others where they differ. */
function defaults(name, property, { recipes = {} }, help) {
  const [[, first = {}] = [], ...others] = Object.entries(recipes);
  const ownDefault = help.defaultOf(name, property, first);
  const { fallback } = help.splitDefault(property.description ?? "");
  if (ownDefault === undefined && fallback !== undefined) return cell(fallback);
  const differing = others.flatMap(([recipe, settings]) => {
    const value = help.defaultOf(name, property, settings);
    return value === undefined || value === ownDefault ? [] : [`${recipe}: ${code(value)}`];
  });
  return [...(ownDefault === undefined ? [] : [code(ownDefault)]), ...differing].join("; ");
}

/** An option as it is typed; values that it may be stand in the description. */
function flagOf(name, property, { placeholder }) {
  if (property.type === "boolean") return `--${property.default === true ? "no-" : ""}${kebab(name)}`;
  const shown = placeholder(name, property);
  return `--${kebab(name)} <${shown.includes("|") ? "name" : shown}>`;
}

/** The values that an option may be. */
function valuesOf(name, property, { placeholder, choices }) {
  const shown = placeholder(name, property);
  const listed = shown.includes("|") ? shown.split("|") : choices(property).replace(/^: /, "").split(", ");
  return listed[0] === "" || property.type === "boolean" ? "" : `One of ${listed.map(code).join(", ")}.`;
}

/** A row of a table of options. */
function optionRow(name, row, notes, { help, flags }) {
  const property = row.options[name];
  const { text: description } = help.splitDefault(property.description ?? "");
  const what = property.type === "boolean" && property.default === true ? `don't ${description}` : description;
  const text = [sentence(what), valuesOf(name, property, flags), notes[name]].filter(Boolean).join(" ");
  return `| ${code(flagOf(name, property, flags))} | ${cell(text)} | ${defaults(name, property, row, help)} |`;
}

/** The lists behind a command's options, as tables: `Methods:` and lines of a name and what it is. */
function detailTables(details = "") {
  return details.split("\n").flatMap((line) => {
    if (/^\S.*:$/.test(line)) return ["", `## ${line.slice(0, -1)}`, "", "| name | what it is |", "| --- | --- |"];
    const [, name, text] = /^\s+(\S+)\s{2,}(.*)$/.exec(line) ?? [];
    return name === undefined ? [] : [`| ${code(name)} | ${cell(text)} |`];
  });
}

function commandPage(row, notes, tools) {
  const { help, flags } = tools;
  const { name, summary, positional, options, required, details } = row;
  const words = positional.map((option) =>
    required.includes(option) ? `<${flags.positionalName(option)}>` : `[${flags.positionalName(option)}]`,
  );
  const head = ["| option | description | default |", "| --- | --- | --- |"];
  const positionals = positional.map((option) => {
    const { text: what, fallback } = help.splitDefault(options[option].description ?? "");
    const text = [sentence(what), notes[option]].filter(Boolean).join(" ");
    const flag = positional.length > 1 ? `, ${code(`--${kebab(option)}`)}` : "";
    const value = help.defaultOf(option, options[option], {});
    return `| ${code(flags.positionalName(option))}${flag} | ${cell(text)} | ${value === undefined ? cell(fallback ?? "") : code(value)} |`;
  });
  return [
    ...[`# ${name}`, "", byline, "", summary, ""],
    ...["```text", ["wecolora", name, ...words, "[options]"].join(" "), "```"],
    ...(positionals.length > 0
      ? ["", "## Arguments", "", "| argument | description | default |", "| --- | --- | --- |", ...positionals]
      : []),
    ...help
      .sections(row)
      .flatMap(({ title, names }) => [
        ...["", `## ${title}`, "", ...head],
        ...names.map((option) => optionRow(option, row, notes, tools)),
      ]),
    ...detailTables(details),
    "",
  ].join("\n");
}

function indexPage({ commandTable }, { commonFlags }) {
  return [
    ...["# Commands and options", "", byline, ""],
    ...["| command | what it does |", "| --- | --- |"],
    ...commandTable.map(({ name, summary }) => `| [${name}](commands/${name}.md) | ${cell(summary)} |`),
    ...["", "## Options of all commands", "", "| option | description |", "| --- | --- |"],
    ...commonFlags.map(([flag, text]) => `| ${code(flag)} | ${cell(sentence(text))} |`),
    "",
  ].join("\n");
}

/** The notes of a schema's options, by name: what help has no room for. */
function notesOf(schema) {
  const { properties = {} } = z.toJSONSchema(schema, { unrepresentable: "any", io: "input" });
  return Object.fromEntries(Object.entries(properties).flatMap(([name, { note }]) => (note ? [[name, note]] : [])));
}

/**
 * The texts of all pages, by their paths below the root.
 * @param {string} root folder of the repository; its command table must be current
 * @returns {Promise<Record<string, string>>}
 */
export async function referencePages(root) {
  const { table, registry, ...tools } = await importSources(root, {
    table: "src/cli/command-table.ts",
    registry: "src/commands/registry.ts",
    help: "src/cli/help.ts",
    flags: "src/cli/flags.ts",
  });
  const notes = new Map(registry.commands.map(({ name, schema }) => [name, notesOf(schema)]));
  return Object.fromEntries([
    ["docs/reference/commands.md", indexPage(table, tools.help)],
    ...table.commandTable.map((row) => [
      `docs/reference/commands/${row.name}.md`,
      commandPage(row, notes.get(row.name) ?? {}, tools),
    ]),
  ]);
}
