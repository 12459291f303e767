// Methods by their names: those of this folder, and those that callers have registered.
import { z } from "zod";
import { nearestName, UserError } from "../../utils/errors.ts";
import type { AdapterPlan } from "../training/adapters.ts";
import type { Method } from "./method.ts";
import { methods } from "./registry.ts";

const byName = new Map<string, Method>(methods.map((method) => [method.name, method]));

/** Makes a method known by its name, for this process. Throws a UserError where another has the name. */
export function registerMethod(method: Method): void {
  const present = byName.get(method.name);
  if (present !== undefined && present !== method)
    throw new UserError(`A method named ${method.name} exists already.`, { code: "INVALID_OPTION" });
  byName.set(method.name, method);
}

const isMethod = (value: unknown): value is Method =>
  typeof value === "object" && value !== null && "name" in value && "objective" in value && "trainables" in value;

/**
 * Options that may name a method or hold one: a method that is held is registered and named, and the schema takes a
 * registered method's name and own options.
 */
export function withMethod<S extends z.ZodObject>(schema: S, options: unknown): { schema: S; options: unknown } {
  if (typeof options !== "object" || options === null || !("method" in options)) return { schema, options };
  const { method } = options;
  if (isMethod(method)) registerMethod(method);
  const name = isMethod(method) ? method.name : method;
  const registered = typeof name === "string" && !isOwnMethod(name) && byName.get(name);
  if (!registered) return { schema, options: { ...options, method: name } };
  const extended = schema.extend({ method: z.literal(registered.name), ...registered.options });
  return { schema: extended as z.ZodObject as S, options: { ...options, method: name } };
}

/** Throws a UserError where a run's method is not known in this process. */
export function checkRunMethod(name: unknown, path: string): void {
  if (typeof name !== "string" || byName.has(name)) return;
  throw new UserError(
    `The run in ${path} has the method ${name}, which is not part of wecolora. Call registerMethod with it, then resume.`,
    { code: "RUN_NOT_FOUND" },
  );
}

/** The method of a name. Throws a UserError where there is none. */
export function methodOf(name: string): Method {
  const method = byName.get(name);
  if (method) return method;
  const near = nearestName(name, byName.keys());
  throw new UserError(`There is no method ${name}${near ? ` (did you mean ${near}?)` : ""}.`, {
    code: "INVALID_OPTION",
  });
}

/** Whether a name is that of a method that prunes heads and channels. */
export const isPruningMethod = (name: unknown): boolean =>
  typeof name === "string" && byName.get(name)?.start === "pruned";

/** Whether a method is one of this folder, which read their own options alone; those of callers may read any. */
export const isOwnMethod = (name: string): boolean => methods.some((method) => method.name === name);

/** All methods that are known in this process. */
export const allMethods = (): Method[] => [...byName.values()];

/** Help on what each method is. */
export const methodHelp = (): string =>
  [...byName.values()].map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join("\n");

/** The adapters that options ask for; undefined where the method has none. */
export const adapterPlanOf = (options: { readonly method: string }): AdapterPlan | undefined =>
  methodOf(options.method).adapters?.(options as never);
