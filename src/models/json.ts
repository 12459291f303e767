// JSON files beside weights: configurations and preprocessors.
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import type { Json } from "./layouts/layout.ts";

/** A file's object; undefined where there is no such file. Throws a UserError where it holds anything else. */
export async function readJson(directory: Directory, entry: string): Promise<Json | undefined> {
  const text = await readText(directory, entry);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${directory.describe(entry)} is not valid JSON: ${(error as Error).message}`, {
      code: "NOT_A_MODEL",
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${directory.describe(entry)} must hold a JSON object`, { code: "NOT_A_MODEL" });
  }
  return value as Json;
}

/** Settings in settings are nested no deeper. */
const deepest = 8;

/** A configuration without its nulls: in transformers' and timm's files they stand for what is left out. */
export function withoutNulls(config: Json, depth = 0): Json {
  const kept = Object.entries(config).filter(([, value]) => value !== null);
  return Object.fromEntries(
    kept.map(([key, value]) => {
      const isSection = typeof value === "object" && !Array.isArray(value) && depth < deepest;
      return [key, isSection ? withoutNulls(value as Json, depth + 1) : value];
    }),
  );
}
