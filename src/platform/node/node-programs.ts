// Programs of this machine as processes: a cluster's commands, and tasks of a plan.
import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { constants } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { ProgramOutcome, ProgramRequest, Programs } from "../../context/environment.ts";
import { UserError } from "../../utils/errors.ts";
import { makeFolder } from "./make-folder.ts";
import { systemCode, systemReason } from "./system-errors.ts";
import { threadsHere } from "./threads.ts";
import { workerFile } from "./worker-files.ts";

/** What a signal's end is as an exit code. */
const signalCode = (signal: NodeJS.Signals) => 128 + constants.signals[signal];

function started(
  program: string,
  args: readonly string[],
  { variables, signal }: ProgramRequest,
  output: "pipe" | number,
) {
  const child = spawn(program, args, {
    env: { ...process.env, ...variables },
    stdio: ["ignore", output, output],
  });
  const texts = { out: "", err: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (texts.out += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (texts.err += text));
  const stop = () => child.kill("SIGTERM");
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  return new Promise<ProgramOutcome>((resolve, reject) => {
    child.on("error", (error) => {
      const missing = systemCode(error) === "ENOENT";
      const reason = missing
        ? `There is no program ${program} here.`
        : `${program} can't be run: ${systemReason(error)}.`;
      reject(new UserError(reason, { code: missing ? "FILE_NOT_FOUND" : "INVALID_INPUT", cause: error }));
    });
    child.on("close", (code, ended) => resolve({ code: ended ? signalCode(ended) : (code ?? 1), ...texts }));
  }).finally(() => signal?.removeEventListener("abort", stop));
}

async function run(program: string, args: readonly string[], request: ProgramRequest = {}): Promise<ProgramOutcome> {
  const { log } = request;
  if (log === undefined) return started(program, args, request, "pipe");
  await makeFolder(dirname(log));
  const file = await open(log, "a");
  try {
    return await started(program, args, request, file.fd);
  } finally {
    await file.close();
  }
}

/** Programs, with this process's own folder and variables. */
export const nodePrograms = (threads: number = threadsHere()): Programs => ({
  self: [process.execPath, fileURLToPath(workerFile("cli"))],
  folder: process.cwd(),
  variables: process.env,
  threads,
  run,
});
