// Methods by their names: those of this folder, and those that callers have registered.
import { nearestName, UserError } from "../../utils/errors.ts";
import type { AdapterPlan } from "../training/adapters.ts";
import type { Method } from "./method.ts";
import { methods } from "./registry.ts";

const byName = new Map<string, Method>(methods.map((method) => [method.name, method as unknown as Method]));

/** Makes a method known by its name, for this process. Throws a UserError where another has the name. */
export function registerMethod(method: Method): void {
  const present = byName.get(method.name);
  if (present !== undefined && present !== method) throw new UserError(`A method named ${method.name} exists already.`);
  byName.set(method.name, method);
}

/** The method of a name. Throws a UserError where there is none. */
export function methodOf(name: string): Method {
  const method = byName.get(name);
  if (method) return method;
  const near = nearestName(name, byName.keys());
  throw new UserError(`There is no method ${name}${near ? ` (did you mean ${near}?)` : ""}.`);
}

/** Help on what each method is. */
export const methodHelp = (): string =>
  [...byName.values()].map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join("\n");

/** The adapters that options ask for; undefined where the method has none. */
export const adapterPlanOf = (options: { readonly method: string }): AdapterPlan | undefined =>
  methodOf(options.method).adapters?.(options as never);
