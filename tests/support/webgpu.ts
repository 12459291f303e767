// WebGPU without a GPU: Debian's Chromium brings SwiftShader, a Vulkan driver that computes on the processor, and a loader for it.
import { existsSync } from "node:fs";
import { execFile } from "node:child_process";
import type { Outcome } from "./cli.ts";

const folder = "/usr/lib/chromium";

/** Whether the machine has the driver. */
export const hasSwiftShader: boolean = existsSync(`${folder}/vk_swiftshader_icd.json`);

/** Runs a script of Node with the driver at hand. */
export function withSwiftShader(script: string, ...args: string[]): Promise<Outcome> {
  const driver = `${folder}/vk_swiftshader_icd.json`;
  const env = { ...process.env, LD_LIBRARY_PATH: folder, VK_ICD_FILENAMES: driver, VK_DRIVER_FILES: driver };
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { env, maxBuffer: 2 ** 26 }, (error, out, err) => {
      // A process that a signal ended has no code.
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err });
    });
  });
}
