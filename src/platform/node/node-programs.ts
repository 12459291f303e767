// Programs of this machine as processes: a cluster's commands, and tasks of a plan.
import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { constants } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { ProgramOutcome, ProgramRequest, Programs } from "../../context/environment.ts";
import { RunError, UserError } from "../../utils/errors.ts";
import { makeFolder } from "./make-folder.ts";
import { systemCode, systemReason } from "./system-errors.ts";
import { threadsHere } from "./threads.ts";
import { parentVariable } from "./parent-end.ts";
import { workerFile } from "./worker-files.ts";

/** Characters of output that are kept of a program; a scheduler's answer about 100,000 tasks takes a tenth of it. */
const longestOutput = 2 ** 26;

/** What a signal's end is as an exit code. */
const signalCode = (signal: NodeJS.Signals) => 128 + constants.signals[signal];

function started(
  program: string,
  args: readonly string[],
  { variables, signal, endsWithUs = false }: ProgramRequest,
  output: "pipe" | number,
) {
  const child = spawn(program, args, {
    env: { ...process.env, ...variables, ...(endsWithUs ? { [parentVariable]: "stdin" } : {}) },
    // The system closes our end of the pipe when this process ends, whatever ends it.
    stdio: [endsWithUs ? "pipe" : "ignore", output, output],
  });
  const texts = { out: "", err: "" };
  let isTooLong = false;
  const keep = (stream: keyof typeof texts) => (text: string) => {
    if (texts[stream].length + text.length <= longestOutput) texts[stream] += text;
    else if (!isTooLong) isTooLong = child.kill("SIGKILL");
  };
  child.stdout?.setEncoding("utf8").on("data", keep("out"));
  child.stderr?.setEncoding("utf8").on("data", keep("err"));
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
    child.on("close", (code, ended) => {
      if (isTooLong) reject(new RunError(`${program} printed more than ${longestOutput / 2 ** 20} MiB and was ended.`));
      else resolve({ code: ended ? signalCode(ended) : (code ?? 1), ...texts });
    });
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
