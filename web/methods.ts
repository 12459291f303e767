// The methods that the page offers, in the place of `src/students/methods/registry.ts`: students are made in closed form there.
import { method } from "../src/students/methods/refit.ts";

export const methods = [method] as const;
export const methodOptions = { ...method.options };
