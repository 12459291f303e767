// The interpreter that the benchmarks' PyTorch runs in: a virtual environment under .bench, or what PEER_PYTHON names.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Makes the environment where there is none yet; python3 with venv and pip is needed. */
export function python() {
  if (process.env.PEER_PYTHON) return process.env.PEER_PYTHON;
  const venv = fileURLToPath(new URL("../.bench/venv", import.meta.url));
  const binary = `${venv}/bin/python`;
  if (!existsSync(binary)) {
    console.error("installing PyTorch into .bench/venv ...");
    execFileSync("python3", ["-m", "venv", venv]);
    execFileSync(binary, ["-m", "pip", "install", "-q", "torch==2.13.0", "numpy"], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  return binary;
}
