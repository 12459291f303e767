// The option interfaces of the API, from the commands' schemas: src/commands/options.generated.ts.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { format, resolveConfig } from "prettier";
import { build } from "tsdown";
import { z } from "zod";

/** The schemas as JSON Schema sees them. They are TypeScript, which Node 20 can't import: they are bundled first. */
async function schemas(root) {
  const outDir = await mkdtemp(join(tmpdir(), "wecolora-options-"));
  try {
    await build({
      config: false,
      cwd: root,
      entry: { commands: "src/commands/registry.ts", distill: "src/commands/distill-options.ts" },
      format: "esm",
      platform: "node",
      outDir,
      outExtensions: () => ({ js: ".mjs" }),
      noExternal: [/./],
      dts: false,
      clean: false,
      logLevel: "error",
    });
    const { commands } = await import(pathToFileURL(join(outDir, "commands.mjs")).href);
    const { distillRunSchema, resumeSchema } = await import(pathToFileURL(join(outDir, "distill.mjs")).href);
    const rows = commands.map(({ name, schema }) => ({
      name: `${pascalCase(name)}Options`,
      of: `\`${name === "export" ? "exportModel" : name}\` (\`wecolora ${name}\`)`,
      schema: name === "distill" ? distillRunSchema : schema,
    }));
    rows.push({ name: "ResumeOptions", of: "`distill` where it resumes a run", schema: resumeSchema });
    return rows.map(({ name, of, schema }) => ({
      name,
      of,
      json: z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }),
    }));
  } finally {
    await rm(outDir, { recursive: true });
  }
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
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, type, pattern } = property;
  const bounds = [
    ...(isBound(minimum) ? [`at least ${minimum}`] : []),
    ...(isBound(exclusiveMinimum) ? [`above ${exclusiveMinimum}`] : []),
    ...(isBound(maximum) ? [`at most ${maximum}`] : []),
    ...(isBound(exclusiveMaximum) ? [`below ${exclusiveMaximum}`] : []),
  ];
  if (type === "integer") return ["an integer", ...bounds].join(", ");
  if (type === "number" && bounds.length > 0) return `a number ${bounds.join(", ")}`;
  if (pattern) return `must match ${pattern}`;
  return (property.anyOf ?? property.oneOf ?? []).map(rangeOf).find(Boolean) ?? "";
}

/** The doc comment of a property: its description, range and default. */
function docOf(property) {
  const { description = "", default: preset } = property;
  const sentence = description === "" ? "" : `${description[0].toUpperCase()}${description.slice(1)}.`;
  const range = rangeOf(property);
  const rest = [
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

/** The file's text. */
export async function optionInterfaces(root, path) {
  const interfaces = (await schemas(root)).map(
    ({ name, of, json }) => `/** Options of ${of}. */\nexport interface ${name} ${objectType(json)}\n`,
  );
  const header =
    "// The options of all commands as the API takes them. Made by `npm run generate` from their schemas; don't edit it.\n";
  return format([header, ...interfaces].join("\n"), { ...(await resolveConfig(path)), parser: "typescript" });
}

/** `inspect-blocks` as `InspectBlocks`. */
function pascalCase(name) {
  return name.replace(/(?:^|-)(\w)/g, (_, letter) => letter.toUpperCase());
}
