// What is made from the commands' schemas: the option interfaces of the API (src/commands/options.generated.ts) and what the
// command line knows of commands before it loads them (src/cli/command-table.ts).
import { join } from "node:path";
import { format, resolveConfig } from "prettier";
import { z } from "zod";
import { importSources } from "./bundle.js";

/** The commands and what they are made of. */
async function bundled(root) {
  const modules = await importSources(root, {
    commands: "src/commands/registry.ts",
    distill: "src/commands/distill-options.ts",
    demo: "src/cli/demo-options.ts",
    names: "src/utils/option-names.ts",
  });
  const { commands } = modules.commands;
  const { distillInputSchema, resumeSchema } = modules.distill;
  const { demoSchema, demoSummary } = modules.demo;
  return {
    renamedOptions: modules.names.renamedOptions,
    commands,
    distillInputSchema,
    resumeSchema,
    demo: { name: "demo", summary: demoSummary, schema: demoSchema },
  };
}

/** A schema as JSON Schema sees it. */
const jsonOf = (schema) => z.toJSONSchema(schema, { unrepresentable: "any", io: "input" });

/** The API's interfaces: names, what they are options of, and their schemas. */
function interfaceRows({ commands, distillInputSchema, resumeSchema }) {
  const rows = commands.map(({ name, schema }) => ({
    name: `${pascalCase(name)}Options`,
    of: `\`${name === "export" ? "exportModel" : name}\` (\`wecolora ${name}\`)`,
    schema: name === "distill" ? distillInputSchema : schema,
  }));
  rows.push({ name: "ResumeOptions", of: "`distill` where it resumes a run", schema: resumeSchema });
  return rows.map(({ name, of, schema }) => ({ name, of, json: jsonOf(schema) }));
}

/** What the command line reads of a property. */
function slimmed({ type, description, placeholder, default: preset, enum: values, items, prefixItems, anyOf, oneOf }) {
  const each = (list) => list?.map(slimmed);
  const part = items && typeof items === "object" ? slimmed(items) : undefined;
  return {
    ...{ type, description, placeholder, default: preset, enum: values, items: part },
    ...{ prefixItems: each(prefixItems), anyOf: each(anyOf), oneOf: each(oneOf) },
  };
}

function commandRow({ name, summary, schema, positional = [], insteadOfAll, recipes, details }) {
  const { properties = {}, required = [] } = jsonOf(schema);
  const options = Object.fromEntries(Object.entries(properties).map(([key, property]) => [key, slimmed(property)]));
  return { name, summary, positional, options, required, insteadOfAll, recipes, details: details?.() };
}

const isIdentifier = (name) => /^[A-Za-z_$][\w$]*$/.test(name);
const key = (name) => (isIdentifier(name) ? name : JSON.stringify(name));

function objectType({ properties = {}, required = [], additionalProperties, propertyNames }) {
  const fields = Object.entries(properties).map(
    ([name, property]) => `${docOf(property)}${key(name)}${required.includes(name) ? "" : "?"}: ${typeOf(property)};`,
  );
  if (fields.length > 0) {
    if (additionalProperties && typeof additionalProperties === "object") fields.push("[other: string]: unknown;");
    return `{\n${fields.join("\n")}\n}`;
  }
  const value = typeOf(additionalProperties ?? {});
  // All names of a record with an enum of them may be left out.
  return propertyNames?.enum ? `Partial<Record<${typeOf(propertyNames)}, ${value}>>` : `Record<string, ${value}>`;
}

function arrayType({ prefixItems, items }) {
  if (prefixItems) return `[${prefixItems.map(typeOf).join(", ")}]`;
  return `(${typeOf(items ?? {})})[]`;
}

/** A property's type in TypeScript. */
function typeOf(property) {
  if (property === undefined || property === true) return "unknown";
  const { type, enum: values, anyOf, oneOf } = property;
  if ("const" in property) return JSON.stringify(property.const);
  const { open } = property;
  // Names of a registry that callers add to: editors offer these, and others type-check.
  if (values) return [...values.map((value) => JSON.stringify(value)), ...(open ? ["(string & {})"] : [])].join(" | ");
  const forms = anyOf ?? oneOf;
  if (forms) return [...new Set(forms.map(typeOf))].join(" | ");
  if (Array.isArray(type)) return type.map((one) => typeOf({ ...property, type: one })).join(" | ");
  if (type === "object") return objectType(property);
  if (type === "array") return arrayType(property);
  if (type === "integer" || type === "number") return "number";
  if (type === "string" || type === "boolean" || type === "null") return type;
  return "unknown";
}

const isBound = (value) => value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER;

/** The range of a number, or of the numbers among an option's forms. */
function rangeOf(property) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, type } = property;
  const bounds = [
    ...(isBound(minimum) ? [`at least ${minimum}`] : []),
    ...(isBound(exclusiveMinimum) ? [`above ${exclusiveMinimum}`] : []),
    ...(isBound(maximum) ? [`at most ${maximum}`] : []),
    ...(isBound(exclusiveMaximum) ? [`below ${exclusiveMaximum}`] : []),
  ];
  if (type === "integer") return ["an integer", ...bounds].join(", ");
  if (type === "number" && bounds.length > 0) return `a number ${bounds.join(", ")}`;
  return (property.anyOf ?? property.oneOf ?? []).map(rangeOf).find(Boolean) ?? "";
}

/** The doc comment of a property: its description, range and default. */
function docOf(property) {
  const { description = "", note, default: preset, earlierNameOf } = property;
  if (earlierNameOf) return `/** @deprecated The earlier name of \`${earlierNameOf}\`. */\n`;
  const sentence = description === "" ? "" : `${description[0].toUpperCase()}${description.slice(1)}.`;
  const range = rangeOf(property);
  const rest = [
    ...(note ? [note] : []),
    ...(range ? [`Range: ${range}.`] : []),
    ...(preset === undefined ? [] : [`Default: ${JSON.stringify(preset)}.`]),
  ];
  const text = [sentence, ...rest].filter(Boolean).join(" ").replaceAll("*/", "* /");
  if (text === "") return "";
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    if (`${lines.at(-1)} ${word}`.length > 110) lines.push("");
    lines[lines.length - 1] = `${lines.at(-1)} ${word}`.trim();
  }
  return lines.length === 1 ? `/** ${lines[0]} */\n` : `/**\n${lines.map((line) => ` * ${line}`).join("\n")}\n */\n`;
}

/** The texts of both files, by their paths below the root. */
export async function generatedFromSchemas(root) {
  const made = await bundled(root);
  const settings = { ...(await resolveConfig(join(root, "src/index.ts"))), parser: "typescript" };
  const interfaces = interfaceRows(made).map(
    ({ name, of, json }) =>
      `/** Options of ${of}. */\nexport interface ${name} ${objectType(withEarlierNames(json, made.renamedOptions))}\n`,
  );
  const rows = [...made.commands, made.demo].map(commandRow);
  const byline = "Made by `npm run generate` from their schemas; don't edit it.";
  return {
    "src/commands/options.generated.ts": await format(
      [`// The options of all commands as the API takes them. ${byline}`, ...interfaces].join("\n"),
      settings,
    ),
    "src/cli/command-table.ts": await format(
      [
        `// What the command line knows of all commands before it loads them. ${byline}`,
        'import type { CommandRow } from "./command-row.ts";',
        "",
        `export const commandTable: readonly CommandRow[] = ${JSON.stringify(rows)};`,
      ].join("\n"),
      settings,
    ),
  };
}

/** A schema that has its options under their earlier names too. */
function withEarlierNames(json, renamedOptions) {
  const { properties } = json;
  const earlier = Object.entries(renamedOptions).flatMap(([before, now]) => {
    if (!Object.hasOwn(properties, now) || Object.hasOwn(properties, before)) return [];
    const { description: _description, note: _note, default: _default, ...type } = properties[now];
    return [[before, { ...type, earlierNameOf: now }]];
  });
  return { ...json, properties: { ...properties, ...Object.fromEntries(earlier) } };
}

/** `inspect-blocks` as `InspectBlocks`. */
function pascalCase(name) {
  return name.replace(/(?:^|-)(\w)/g, (_, letter) => letter.toUpperCase());
}
