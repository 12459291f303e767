// WebGPU without a GPU: Debian's Chromium brings SwiftShader, a Vulkan driver that computes on the processor, and a loader for it.
import { existsSync } from "node:fs";
import type { Outcome } from "./cli.ts";
import { runScript } from "./cli.ts";

const folder = "/usr/lib/chromium";
const driver = `${folder}/vk_swiftshader_icd.json`;

/** Whether the machine has the driver. */
export const hasSwiftShader: boolean = existsSync(driver);

/** Runs a script of Node with the driver at hand. */
export function withSwiftShader(script: string, ...args: string[]): Promise<Outcome> {
  return runScript(script, args, { LD_LIBRARY_PATH: folder, VK_ICD_FILENAMES: driver, VK_DRIVER_FILES: driver });
}
