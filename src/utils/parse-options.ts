// Options checked by a schema, with messages that name the key, what is wrong and the nearest known one.
import { z } from "zod";
import { nearestName, UserError } from "./errors.ts";

/** Every property name that a schema knows, at any depth, and what stands before it where it is known (`schedule.`). */
function knownKeys(schema: z.ZodType): Map<string, Set<string>> {
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
  visit(z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }), "");
  return keys;
}

/** A known key as whoever wrote at `path` has to write it: with what it stands in, where that is elsewhere. */
function nameAt(key: string, known: ReadonlyMap<string, ReadonlySet<string>>, path: string): string {
  const places = known.get(key) ?? new Set<string>();
  const [elsewhere = ""] = places;
  return path ? key : `${places.has("") ? "" : elsewhere}${key}`;
}

/** Checks a value and fills in defaults. Throws a UserError that lists every problem; `what` says whose options. */
export function parseOptions<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const path = issue.path.join(".");
    if (issue.code !== "unrecognized_keys") return path ? `${path}: ${issue.message}` : issue.message;
    const known = knownKeys(schema);
    return issue.keys
      .map((key) => {
        const near = nearestName(key, known.keys());
        const full = path ? `${path}.${key}` : key;
        return `unknown option ${full}${near ? ` (did you mean ${nameAt(near, known, path)}?)` : ""}`;
      })
      .join("; ");
  });
  throw new UserError(`${what}: ${problems.join("; ")}`, { code: "INVALID_OPTION" });
}
