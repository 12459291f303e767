// The built command line as a process, and small images to feed it.
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { drawStream } from "../../src/utils/random.ts";
import { root } from "./reference.ts";

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The built command line. */
export const script = join(root, "dist/cli.js");

/** Runs a script of Node to its end, with more environment where that is given. A process that a signal ended has the code -1. */
export function runScript(path: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const env = { ...process.env, ...more };
  return new Promise((resolve) => {
    execFile(process.execPath, [path, ...args], { env, maxBuffer: 2 ** 26 }, (error, out, err) => {
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err });
    });
  });
}

/** Runs the command line to its end. */
export const wecolora = (...args: string[]): Promise<Outcome> => runScript(script, args);

/** What a distillation on the command line can't do without. */
export const distillArguments = (teacher: string, data: string, out: string): string[] => [
  ...["distill", "--teacher", teacher],
  ...["--data", data, "--out", out],
];

/** A command that is under way, with more environment where that is given first; `code` is null where a signal ended it. */
export function wecoloraProcess(...given: [NodeJS.ProcessEnv, ...string[]] | string[]) {
  const [more, ...rest] = given;
  const [env, args] = typeof more === "object" ? [more, rest] : [{}, given];
  const child = spawn(process.execPath, [script, ...(args as string[])], { env: { ...process.env, ...env } });
  let [out, err] = ["", ""];
  const listeners = new Set<() => void>();
  const hear = (take: (text: string) => void) => (chunk: Buffer) => {
    take(chunk.toString());
    for (const listener of listeners) listener();
  };
  child.stdout.on(
    "data",
    hear((text) => (out += text)),
  );
  child.stderr.on(
    "data",
    hear((text) => (err += text)),
  );
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, out, err }));
  });
  return {
    ended,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** Closes its standard input. */
    endInput: () => child.stdin.end(),
    /** Resolves when the pattern stands in what was said so far, or the process ends. */
    hasPrinted: (pattern: RegExp) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (!pattern.test(out + err)) return;
          listeners.delete(look);
          resolve();
        };
        listeners.add(look);
        void ended.then(() => resolve());
        look();
      }),
  };
}

/** A small image of noise in which one colour is strong. */
export async function noiseImage(path: string, seed: number, colour: number): Promise<void> {
  const random = drawStream(seed);
  const data = Uint8Array.from(
    { length: 40 * 30 * 3 },
    (_, i) => (i % 3 === colour ? 200 : 40) + random.integer(0, 50),
  );
  await mkdir(join(path, ".."), { recursive: true });
  await sharp(data, { raw: { width: 40, height: 30, channels: 3 } })
    .jpeg()
    .toFile(path);
}

/** A new temporary folder with 24 small images in `data/`, in three classes. */
export async function noiseFolder(name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `wecolora-${name}-`));
  for (let i = 0; i < 24; i++) await noiseImage(join(folder, "data", `c${i % 3}`, `${i}.jpg`), i, i % 3);
  return folder;
}
