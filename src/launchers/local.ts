// Tasks as processes of this machine, some at the same time.
import { Interrupted } from "../context/run-context.ts";
import type { RunContext } from "../context/run-context.ts";
import { RunError } from "../utils/errors.ts";
import type { Launch, OpenedPlan } from "../workspace/plan-folder.ts";
import { logEntry, readLaunch } from "../workspace/plan-folder.ts";
import type { LaunchRequest } from "./launcher.ts";
import { absolutePath, defineLauncher, programsOf } from "./launcher.ts";
import { stoppedCodes } from "./shell.ts";

/** How often it is looked whether the tasks were cancelled. */
const lookMilliseconds = 500;

/** Graphics cards that were assigned to this process, by the names in CUDA_VISIBLE_DEVICES. */
const cardsOf = (variables: Readonly<Record<string, string | undefined>>): string[] =>
  (variables.CUDA_VISIBLE_DEVICES ?? "").split(",").filter((name) => name !== "");

interface Failure {
  readonly index: number;
  readonly code: number;
}

/** Runs a task until it ends well or has failed too often. */
async function runTask(
  context: RunContext,
  { opened, retries }: LaunchRequest,
  index: number,
  variables: Readonly<Record<string, string>>,
): Promise<Failure | undefined> {
  const { listener, signal } = context;
  const programs = programsOf(context);
  const [program, ...before] = programs.self;
  const args = [...before, "task", "--plan", opened.path, "--index", String(index)];
  const log = absolutePath(programs.folder, opened.directory.describe(logEntry(index)));
  for (let attempt = 0; ; attempt++) {
    const { code } = await programs.run(program, args, { variables, log, signal, endsWithUs: true });
    if (code === 0) return undefined;
    if (stoppedCodes.includes(code) || signal.aborted || attempt >= retries) return { index, code };
    listener.info?.(`task ${index} failed (exit code ${code}) and is run again; its log: ${log}`);
  }
}

/** A signal that fires with the run's own, and where the tasks are cancelled from elsewhere. */
function stopSignal({ signal }: RunContext, opened: OpenedPlan): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const stop = () => controller.abort();
  signal.addEventListener("abort", stop, { once: true });
  const timer = setInterval(() => {
    void readLaunch(opened).then(
      (launch) => launch?.cancelled === true && stop(),
      () => undefined,
    );
  }, lookMilliseconds);
  return {
    signal: controller.signal,
    end() {
      clearInterval(timer);
      signal.removeEventListener("abort", stop);
    },
  };
}

async function runAll(context: RunContext, request: LaunchRequest): Promise<void> {
  const { listener } = context;
  const { opened, missing, maxParallel = 1, options } = request;
  const programs = programsOf(context);
  const lanes = Math.min(maxParallel, missing.length);
  const cards = cardsOf(programs.variables);
  const failures: Failure[] = [];
  const queue = [...missing];
  const stop = stopSignal(context, opened);
  const ofTasks = { ...context, signal: stop.signal };
  let done = 0;
  listener.stage?.("tasks", missing.length);
  const lane = async (slot: number): Promise<void> => {
    // Tasks at the same time share the cores, and each has a card of its own where there are several.
    const threads = options.threads === undefined && lanes > 1 ? Math.max(1, Math.floor(programs.threads / lanes)) : 0;
    const variables = {
      ...(threads > 0 ? { WECOLORA_THREADS: String(threads) } : {}),
      ...(cards.length > 1 ? { CUDA_VISIBLE_DEVICES: cards[slot % cards.length] } : {}),
    };
    for (let index = queue.shift(); index !== undefined && !stop.signal.aborted; index = queue.shift()) {
      const failure = await runTask(ofTasks, request, index, variables);
      if (failure) failures.push(failure);
      else listener.progress?.(++done);
    }
  };
  try {
    await Promise.all(Array.from({ length: lanes }, (_, slot) => lane(slot)));
  } finally {
    stop.end();
  }
  context.signal.throwIfAborted();
  if (stop.signal.aborted) throw new Interrupted("The tasks were cancelled. Run the same command again to go on.");
  if (failures.length > 0) throw failed(opened, missing.length, failures);
}

function failed({ directory }: OpenedPlan, tasks: number, failures: readonly Failure[]): RunError {
  const lines = failures
    .slice(0, 5)
    .map(({ index, code }) => `task ${index} (exit code ${code}): ${directory.describe(logEntry(index))}`);
  const more = failures.length > lines.length ? [`and ${failures.length - lines.length} more`] : [];
  return new RunError(
    `${failures.length} of ${tasks} tasks failed. Run the same command again to repeat them. Their logs:\n  ${[...lines, ...more].join("\n  ")}`,
  );
}

export const launcher = defineLauncher({
  name: "local",
  summary: "processes of this machine, one at a time unless --max-parallel says more",
  options: {},
  async check(context) {
    programsOf(context);
  },
  async submit(_, { folder, missing }) {
    for (const index of missing) await folder.directory.append(logEntry(index), "");
    return { jobs: [], notes: [] };
  },
  run: runAll,
  cancel: async (_, { path }, { tasks }: Launch) =>
    `${tasks.length} tasks of ${path} end; what can be resumed is saved.`,
});
