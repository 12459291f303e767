// Options checked by a schema, with messages that name the option, the value given and what is allowed.
import { z } from "zod";
import type { NameOption, OptionProblem } from "./errors.ts";
import { nearestName, OptionError } from "./errors.ts";
import { withCurrentNames } from "./option-names.ts";
import { quote } from "./quote.ts";

/** The part of JSON Schema that describes options. */
interface Form {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly minLength?: number;
  readonly minItems?: number;
  readonly items?: Form | boolean;
  readonly prefixItems?: readonly Form[];
  readonly properties?: Readonly<Record<string, Form>>;
  readonly propertyNames?: Form;
  readonly additionalProperties?: Form | boolean;
  readonly anyOf?: readonly Form[];
  readonly oneOf?: readonly Form[];
  readonly allOf?: readonly Form[];
}

const formOf = (schema: z.ZodType) => z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }) as Form;

/** An option's forms, those within forms among them. */
function formsOf(form: Form): Form[] {
  const inner = [...(form.anyOf ?? []), ...(form.oneOf ?? []), ...(form.allOf ?? [])];
  return inner.length > 0 ? inner.flatMap(formsOf) : [form];
}

const several = (parts: readonly string[], last: string) =>
  parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")}${last}${parts.at(-1) ?? ""}`;

/** "a whole number between 1 and 9", "a number above 0" */
function numberText({ type, minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Form): string {
  const whole = type === "integer";
  const bound = (value: number | undefined) =>
    value === undefined || (whole && Math.abs(value) >= Number.MAX_SAFE_INTEGER) ? undefined : value;
  const low = bound(minimum) ?? (whole && exclusiveMinimum !== undefined ? bound(exclusiveMinimum + 1) : undefined);
  const high = bound(maximum) ?? (whole && exclusiveMaximum !== undefined ? bound(exclusiveMaximum - 1) : undefined);
  const kind = whole ? "a whole number" : "a number";
  if (low !== undefined && high !== undefined) return `${kind} between ${low} and ${high}`;
  const parts = [
    ...(low === undefined
      ? !whole && exclusiveMinimum !== undefined
        ? [`above ${exclusiveMinimum}`]
        : []
      : [`of at least ${low}`]),
    ...(high === undefined
      ? !whole && exclusiveMaximum !== undefined
        ? [`below ${exclusiveMaximum}`]
        : []
      : [`at most ${high}`]),
  ];
  return [kind, parts.join(" and ")].filter(Boolean).join(" ");
}

function listText({ items, prefixItems, minItems }: Form): string {
  if (prefixItems && prefixItems.length > 0) {
    const each = textOf(prefixItems[0]);
    return `a list of ${prefixItems.length} values, each ${each}`;
  }
  const each = typeof items === "object" ? textOf(items) : "";
  const list = minItems === 1 ? "a list that is not empty" : "a list";
  return each ? `${list}, each ${each}` : list;
}

function objectText({ properties = {}, propertyNames, additionalProperties }: Form): string {
  const names = (propertyNames?.enum ?? []).map(String);
  const each = typeof additionalProperties === "object" ? textOf(additionalProperties) : "";
  if (names.length > 0)
    return `values by name, as in ${names[0]}=..., for ${names.join(", ")}${each && ` (each ${each})`}`;
  const { kind } = properties;
  if (kind?.const !== undefined) return `settings with the kind ${String(kind.const)}`;
  const optionNames = Object.keys(properties);
  return optionNames.length > 0 ? `settings by name (${optionNames.join(", ")})` : "settings by name";
}

/** What an option may be, as it stands behind "must be"; empty where it may be anything. */
function textOf(form: Form): string {
  const forms = formsOf(form);
  if (forms.length > 1) {
    const texts: string[] = [];
    const kinds = forms.flatMap(({ properties }) =>
      properties?.kind?.const === undefined ? [] : [properties.kind.const],
    );
    if (kinds.length === forms.length) return `settings with the kind ${several(kinds.map(String), " or ")}`;
    for (const one of forms) {
      // After "one of a, b" a list of the same names need not name them again.
      const repeated = one.type === "array" && typeof one.items === "object" && texts.includes(textOf(one.items));
      const text = repeated ? "a list of these" : textOf(one);
      if (text !== "" && !texts.includes(text)) texts.push(text);
    }
    return several(texts, ", or ");
  }
  const [{ type, enum: values, const: only }] = forms;
  if (only !== undefined) return String(only);
  if (values) return values.length === 1 ? String(values[0]) : `one of ${values.map(String).join(", ")}`;
  if (type === "integer" || type === "number") return numberText(forms[0]);
  if (type === "array") return listText(forms[0]);
  if (type === "object") return objectText(forms[0]);
  if (type === "boolean") return "true or false";
  if (type !== "string") return "";
  return (forms[0].minLength ?? 0) > 0 ? "a text that is not empty" : "a text";
}

/** The form of what stands at a path; undefined where none is described there. */
function formAt(form: Form, path: readonly PropertyKey[], value: unknown): Form | undefined {
  const [key, ...rest] = path;
  if (key === undefined) return form;
  const inner = insideOf(value, key);
  for (const { properties, additionalProperties, items, prefixItems } of formsOf(form)) {
    const kind = properties?.kind?.const;
    const fits = kind === undefined || (value as { kind?: unknown } | undefined)?.kind === kind;
    const next =
      typeof key === "number"
        ? (prefixItems?.[key] ?? items)
        : fits && properties && Object.hasOwn(properties, key)
          ? properties[String(key)]
          : additionalProperties;
    const at = typeof next === "object" ? formAt(next, rest, inner) : undefined;
    if (at) return at;
  }
  return undefined;
}

/** What stands in a value; a single value stands for a list of it. */
function insideOf(value: unknown, key: PropertyKey): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  if (key === 0 && !Array.isArray(value)) return value;
  return Object.hasOwn(value, key) ? (value as Record<PropertyKey, unknown>)[key] : undefined;
}

const valueAt = (value: unknown, path: readonly PropertyKey[]) => path.reduce(insideOf, value);

/** What stands at a path, in words: "rank", "item 2 of targetModules", "clipNorm in optimizer". */
function placeText(path: readonly PropertyKey[], value: unknown, name: NameOption): string {
  let [place, at] = ["", value];
  for (const [i, key] of path.entries()) {
    const single = key === 0 && !Array.isArray(at);
    if (i === 0) place = name(String(key));
    else if (typeof key === "number") place = single ? place : `item ${key + 1} of ${place}`;
    else place = `${String(key)} in ${place}`;
    at = insideOf(at, key);
  }
  return place;
}

/** What an issue says is allowed, where the schema does not describe the place. */
function allowedBy(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "too_small":
    case "too_big": {
      const [bound, word] =
        issue.code === "too_small"
          ? [issue.minimum, issue.inclusive ? "at least" : "above"]
          : [issue.maximum, issue.inclusive ? "at most" : "below"];
      const counted =
        issue.origin === "number" || issue.origin === "int"
          ? ""
          : ` ${issue.origin === "string" ? "letters" : "values"}`;
      return counted
        ? `a list or text of ${word} ${String(bound)}${counted}`
        : `a number ${word === "above" || word === "below" ? "" : "of "}${word} ${String(bound)}`;
    }
    case "invalid_value":
      return issue.values.length === 1 ? String(issue.values[0]) : `one of ${issue.values.map(String).join(", ")}`;
    case "invalid_union":
      return "options" in issue && issue.options ? `one of ${issue.options.map(String).join(", ")}` : "of another form";
    case "invalid_type":
      return issue.expected === "int" ? "a whole number" : `of the type ${issue.expected}`;
    default:
      return issue.message;
  }
}

/** Every property name that a form knows, at any depth, and what stands before it where it is known (`schedule.`). */
function knownKeys(form: Form): Map<string, Set<string>> {
  const keys = new Map<string, Set<string>>();
  const visit = (node: unknown, before: string): void => {
    if (Array.isArray(node)) for (const one of node) visit(one, before);
    else if (typeof node === "object" && node !== null) {
      const { properties, ...rest } = node as { properties?: Record<string, unknown> };
      for (const [key, value] of Object.entries(properties ?? {})) {
        keys.set(key, (keys.get(key) ?? new Set()).add(before));
        visit(value, `${before}${key}.`);
      }
      for (const one of Object.values(rest)) visit(one, before);
    }
  };
  visit(form, "");
  return keys;
}

/** A key that no form knows, and the nearest one that is known. */
function unknownKey(
  key: string,
  path: readonly PropertyKey[],
  value: unknown,
  keys: ReadonlyMap<string, ReadonlySet<string>>,
  name: NameOption,
): string {
  const near = nearestName(key, keys.keys());
  const shown = /^[\w.-]{1,100}$/.test(key) ? key : quote(key);
  const begin = `There is no option ${placeText([...path, shown], value, name)}.`;
  if (near === undefined) return begin;
  // What is known elsewhere alone is named with what it stands in.
  const places = keys.get(near) ?? new Set<string>();
  const [elsewhere = ""] = places;
  return `${begin} Did you mean ${path.length > 0 || places.has("") ? near : `${elsewhere}${near}`}?`;
}

function problemOf(issue: z.core.$ZodIssue, value: unknown, form: () => Form): OptionProblem[] {
  const { path } = issue;
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => (name) => unknownKey(key, path, value, knownKeys(form()), name));
  const given = valueAt(value, path);
  // A schema's own words for a pattern or a check stand behind "must be" too.
  const authored = issue.code === "invalid_format" || issue.code === "custom";
  // The values that one kind of settings may have are known to the issue alone.
  const named = issue.code === "invalid_union" && "options" in issue;
  const described = authored || named ? undefined : formAt(form(), path, value);
  const allowed = authored ? issue.message : (described && textOf(described)) || allowedBy(issue);
  if (path.length === 0) return [() => `expected ${allowed}, got ${quote(value)}.`];
  return [
    (name) => {
      const place = placeText(path, value, name);
      const begin = place.startsWith("item ") ? `I${place.slice(1)}` : place;
      return given === undefined
        ? `${begin} is missing: it must be ${allowed}.`
        : `${begin} must be ${allowed}, got ${quote(given)}.`;
    },
  ];
}

/** Options under today's names, where a schema of options has them. Throws an OptionError where one is given under both. */
export function currentOptions(schema: z.ZodType, value: unknown): unknown {
  if (!(schema instanceof z.ZodObject) || typeof value !== "object" || value === null || Array.isArray(value))
    return value;
  const twice = (before: string, now: string) =>
    new OptionError([(name) => `Give ${name(now)} or ${name(before)}, its earlier name, not both.`]);
  return withCurrentNames({ ...value }, (name) => Object.hasOwn(schema.shape, name), twice);
}

/**
 * Checks a value and fills in defaults. Throws an OptionError that lists every problem; `what` says whose options they
 * are: `options of distill`, or a file.
 */
export function parseOptions<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const given = currentOptions(schema, value);
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  let form: Form | undefined;
  const described = () => (form ??= formOf(schema));
  throw new OptionError(
    result.error.issues.flatMap((issue) => problemOf(issue, given, described)),
    what,
  );
}

/** An option that a model or the data does not allow: `rank must be between 1 and 384 (the model's width), got 5000.` */
export const badOption = (option: string, allowed: string, given: unknown): OptionError =>
  new OptionError([(name) => `${name(option)} must be ${allowed}, got ${quote(given)}.`]);
