// The interpreter that rivals' packages run in: what RIVALS_PYTHON names, or .bench/rivals (README.md says how to make it).
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

export function rivalsPython() {
  if (process.env.RIVALS_PYTHON) return process.env.RIVALS_PYTHON;
  const binary = fileURLToPath(new URL("../../.bench/rivals/bin/python", import.meta.url));
  if (existsSync(binary)) return binary;
  throw new Error("Rivals need a Python of their own: make it as bench/rivals/README.md says, or set RIVALS_PYTHON.");
}
