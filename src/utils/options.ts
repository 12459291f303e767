// Options checked by a schema, with messages that name the key, what is wrong and the nearest known one.
import { z } from "zod";
import { nearestName, UserError } from "./errors.ts";

/** Every property name that a schema knows, at any depth. */
function knownKeys(schema: z.ZodType): Set<string> {
  const keys = new Set<string>();
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) node.forEach(visit);
    else if (typeof node === "object" && node !== null) {
      const { properties, ...rest } = node as { properties?: Record<string, unknown> };
      for (const [key, value] of Object.entries(properties ?? {})) {
        keys.add(key);
        visit(value);
      }
      Object.values(rest).forEach(visit);
    }
  };
  visit(z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }));
  return keys;
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
        const near = nearestName(key, known);
        const full = path ? `${path}.${key}` : key;
        return `unknown option ${full}${near ? ` (did you mean ${near}?)` : ""}`;
      })
      .join("; ");
  });
  throw new UserError(`${what}: ${problems.join("; ")}`);
}
