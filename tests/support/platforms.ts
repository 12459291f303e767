// The library on each of its platforms behind one face, so that one suite of tests runs on all of them: onnxruntime-node,
// onnxruntime-web on Node, and onnxruntime-web in Chromium.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { distill, evaluate, exportModel, features } from "wecolora/node";
import type { ProgressEvent } from "wecolora/node";
import { readModel } from "../../src/models/definition.ts";
import { memoryDirectory } from "../../src/files/memory-directory.ts";
import { readSafetensors } from "../../src/checkpoints/safetensors-file.ts";
import { openFile } from "../../src/platform/node/node-files.ts";
import type { Wecolora, WecoloraOptions } from "../../src/platform/web/web.ts";
import { codeOf } from "../../src/utils/errors.ts";
import { newPage, openBrowser } from "./browser.ts";
import type { Under } from "./web-app/page.ts";
import { filesBelow, webOnNode } from "./web-platform.ts";
import type { WebServer, WebServerOptions } from "./web-server.ts";
import { buildWebApp, removeFolder, serveFolder } from "./web-server.ts";

declare const under: Under;

export type Folders = Readonly<Record<string, string>>;

/** What a call came to, as plain data. */
export interface Outcome {
  /** What the function gave, without places. */
  readonly value?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly name: string; readonly code: string; readonly message: string };
  /** Stages in their order, and warnings. */
  readonly stages: readonly string[];
  readonly warnings: readonly string[];
  /** Files that were written, and those of them that are texts or small. */
  readonly files: readonly string[];
  readonly texts: Readonly<Record<string, string>>;
  /** The student's weights in a few numbers. */
  readonly student?: readonly number[];
}

export type CallName = "distill" | "evaluate" | "features" | "exportModel";

export interface Call {
  readonly name: CallName;
  /** Folders by their names; `model` of exportModel may be `run`: what the last distill wrote. */
  readonly teacher?: string;
  readonly model?: string;
  readonly images?: string;
  readonly options?: Readonly<Record<string, unknown>>;
  /** The stage at whose begin the call is stopped. */
  readonly stopAt?: string;
}

export interface Platform {
  readonly name: string;
  call(call: Call): Promise<Outcome>;
  close(): Promise<void>;
}

const textFiles = /\.(json|jsonl|md)$/;

function watch(stopAt: string | undefined) {
  const controller = new AbortController();
  const stages: string[] = [];
  const warnings: string[] = [];
  const onProgress = (event: ProgressEvent) => {
    if (event.status === "warning") warnings.push(event.message);
    if (event.status !== "stage") return;
    stages.push(event.stage);
    if (stopAt !== undefined && event.stage.startsWith(stopAt)) controller.abort();
  };
  return { controls: { signal: controller.signal, onProgress }, stages, warnings };
}

const failure = (error: unknown): Outcome["error"] => {
  const { name, message } = error as Error;
  return { name, code: codeOf(error), message };
};

/** Sums over each weight of a model in memory. */
async function weightSums(files: ReadonlyMap<string, Uint8Array>): Promise<number[]> {
  const { weights } = await readModel(memoryDirectory(new Map(files)));
  return [...weights.values()].map(({ data }) => data.reduce((sum, v) => sum + Math.abs(v), 0));
}

/** onnxruntime-node over files on disk. */
export async function nodePlatform(folders: Folders): Promise<Platform> {
  const work = await mkdtemp(join(tmpdir(), "wecolora-node-platform-"));
  let runs = 0;
  let last = "";
  const at = (name: string | undefined) => (name === undefined ? {} : name === "run" ? last : folders[name]);
  return {
    name: "onnxruntime-node",
    async call({ name, teacher, model, images, options = {}, stopAt }) {
      const { controls, stages, warnings } = watch(stopAt);
      const out = join(work, `${runs++}`);
      const given = {
        ...options,
        ...controls,
        threads: 2,
        ...(teacher === undefined ? {} : { teacher: at(teacher) }),
        ...(model === undefined ? {} : { model: at(model) }),
        ...(images === undefined ? {} : { images: at(images) }),
        ...(name === "evaluate" ? {} : { out: name === "features" ? `${out}.safetensors` : out }),
      };
      const functions = { distill, evaluate, features, exportModel };
      const seen = { stages, warnings, files: [], texts: {} };
      try {
        const value = (await (functions[name] as (given: object) => Promise<object>)(given)) as Record<string, unknown>;
        if (name === "features") {
          const file = await openFile(`${out}.safetensors`);
          if (!file) throw new Error("no features");
          const { tensors, metadata } = await readSafetensors(file);
          await file.close();
          const rows = Array.from(tensors.get("features")?.data as Float32Array);
          return { ...seen, value: { features: rows, names: JSON.parse(metadata.names), skipped: value.skipped } };
        }
        if (name === "evaluate") return { ...seen, value };
        const files = (await filesBelow(out))
          .map((file) => file.webkitRelativePath.split("/").slice(1).join("/"))
          .filter((path) => !/(^|\/)\./.test(path))
          .sort();
        const texts: Record<string, string> = {};
        for (const file of files) if (textFiles.test(file)) texts[file] = await readFile(join(out, file), "utf8");
        if (name !== "distill") return { ...seen, value, files, texts };
        last = out;
        const student = new Map<string, Uint8Array>();
        for (const file of await readdir(join(out, "student")))
          if (/\.(json|safetensors)$/.test(file)) student.set(file, await readFile(join(out, "student", file)));
        return { ...seen, value, files, texts, student: await weightSums(student) };
      } catch (error) {
        return { ...seen, error: failure(error) };
      }
    },
    close: () => rm(work, { recursive: true }),
  };
}

/** Calls the library for browsers, wherever it is, and gives plain data. Runs in pages too: it uses nothing around it. */
async function callWeb(
  web: Wecolora,
  { name, options = {}, stopAt }: Call,
  inputs: Readonly<Record<string, unknown>>,
  kept: { output?: unknown },
) {
  const controller = new AbortController();
  const stages: string[] = [];
  const warnings: string[] = [];
  const onProgress = (event: ProgressEvent) => {
    if (event.status === "warning") warnings.push(event.message);
    if (event.status !== "stage") return;
    stages.push(event.stage);
    if (stopAt !== undefined && event.stage.startsWith(stopAt)) controller.abort();
  };
  const seen = { stages, warnings, files: [] as string[], texts: {} as Record<string, string> };
  const student: [string, number[]][] = [];
  try {
    const call = web[name].bind(web) as (given: object) => Promise<object>;
    const controls = { signal: controller.signal, onProgress };
    const result = (await call({ ...options, ...inputs, ...controls })) as Record<string, unknown>;
    const { output, ...value } = result;
    if (name === "features") {
      const { data } = result.features as { data: Float32Array };
      return { ...seen, value: { ...value, features: Array.from(data) }, student };
    }
    const written = output as { list(): Promise<string[]>; file(path: string): Promise<File> } | undefined;
    seen.files = written ? (await written.list()).sort() : [];
    for (const file of seen.files)
      if (/\.(json|jsonl|md)$/.test(file)) seen.texts[file] = (await (await written?.file(file))?.text()) ?? "";
    if (name === "distill" && written) {
      kept.output = output;
      for (const file of ["config.json", "model.safetensors", "preprocessor_config.json"]) {
        const bytes = new Uint8Array(await (await written.file(`student/${file}`)).arrayBuffer());
        student.push([file, Array.from(bytes)]);
      }
    }
    delete value.student;
    return { ...seen, value, student };
  } catch (error) {
    const { name: kind, message, code = "INTERNAL" } = error as Error & { code?: string };
    return { ...seen, error: { name: kind, code, message }, student };
  }
}

type Raw = Awaited<ReturnType<typeof callWeb>>;

async function outcomeOf({ student, ...rest }: Raw): Promise<Outcome> {
  if (student.length === 0) return rest;
  return {
    ...rest,
    student: await weightSums(new Map(student.map(([name, bytes]) => [name, Uint8Array.from(bytes)]))),
  };
}

/** onnxruntime-web on Node. */
export function webPlatform(folders: Folders): Platform {
  const web = webOnNode();
  const kept: { output?: unknown } = {};
  const at = async (name: string) => (name === "run" ? kept.output : filesBelow(folders[name] ?? "", name));
  return {
    name: "onnxruntime-web on Node",
    async call(call) {
      const inputs: Record<string, unknown> = {};
      for (const key of ["teacher", "model", "images"] as const) {
        const name = call[key];
        if (name !== undefined) inputs[key] = await at(name);
      }
      return outcomeOf(await callWeb(web, call, inputs, kept));
    },
    close: () => web.dispose(),
  };
}

/** The page under test, built once. */
export interface BrowserApp {
  readonly browser: Browser;
  readonly folder: string;
  serve(options: WebServerOptions): Promise<WebServer>;
  open(server: WebServer): Promise<Page>;
  close(): Promise<void>;
}

export async function openBrowserApp(args: readonly string[] = []): Promise<BrowserApp> {
  const folder = await buildWebApp();
  const browser = await openBrowser(args);
  const servers: WebServer[] = [];
  return {
    browser,
    folder,
    async serve(options) {
      const server = await serveFolder(folder, options);
      servers.push(server);
      return server;
    },
    async open(server) {
      const page = await newPage(browser);
      await page.goto(server.address);
      await page.waitForFunction(() => "under" in globalThis);
      return page;
    },
    async close() {
      await browser.close();
      await Promise.all(servers.map((server) => server.close()));
      await removeFolder(folder);
    },
  };
}

/** onnxruntime-web in a page's worker. */
export async function chromiumPlatform(
  app: BrowserApp,
  folders: Folders,
  name: string,
  { isolated = true, ...options }: Omit<WecoloraOptions, "runtime"> & { readonly isolated?: boolean } = {},
): Promise<Platform & { readonly page: Page; readonly server: WebServer }> {
  const server = await app.serve({ folders, isolated });
  const page = await app.open(server);
  await page.evaluate(
    ({ options, source }) => {
      const state = globalThis as Record<string, unknown>;
      state.web = under.connect(options);
      state.kept = {};
      // The page's own policy lets functions in as texts; they name nothing around them.
      state.callWeb = new Function(`return ${source}`)();
    },
    { options, source: String(callWeb) },
  );
  return {
    name,
    page,
    server,
    async call(call) {
      const raw = await page.evaluate(async (call) => {
        const state = globalThis as unknown as {
          web: Wecolora;
          kept: { output?: unknown };
          callWeb: (...args: unknown[]) => Promise<unknown>;
        };
        const inputs: Record<string, unknown> = {};
        for (const key of ["teacher", "model", "images"] as const) {
          const name = call[key];
          if (name !== undefined) inputs[key] = name === "run" ? state.kept.output : await under.filesAt(name);
        }
        return state.callWeb(state.web, call, inputs, state.kept);
      }, call);
      return outcomeOf(raw as Raw);
    },
    close: () => page.close(),
  };
}
