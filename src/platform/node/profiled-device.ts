// What nodes cost, from ONNX Runtime's own profile: `--debug time`.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { textTable } from "../../report/table.ts";
import type { Device } from "../../runtime/device.ts";

interface ProfileEvent {
  readonly cat?: string;
  readonly name?: string;
  /** Microseconds. */
  readonly ts: number;
  readonly dur: number;
  readonly args?: { readonly op_name?: string; readonly provider?: string };
}

/** What all nodes of one kind cost. */
export interface NodeTime {
  /** Execution provider and operator. */
  readonly kind: string;
  readonly count: number;
  readonly milliseconds: number;
}

export interface ProfiledDevice {
  readonly device: Device;
  /**
   * Times by kind of node over all sessions, the longest first. Call it once, when the sessions have been disposed of.
   * @param withoutFirstRun leaves out each session's first run, which touches its memory for the first time
   */
  times(withoutFirstRun?: boolean): NodeTime[];
}

/** A device whose sessions write profiles into a temporary folder. */
export function profiledDevice(inner: Device): ProfiledDevice {
  const folder = mkdtempSync(join(tmpdir(), "wecolora-profile-"));
  let sessions = 0;
  const profiled = (device: Device): Device => {
    let sibling: Device | undefined;
    const { sibling: openSibling } = device;
    return Object.assign(Object.create(device) as Device, {
      createSession: ((source, options) =>
        device.createSession(source, {
          ...options,
          profilePrefix: join(folder, `${sessions++}`),
        })) satisfies Device["createSession"],
      ...(openSibling ? { sibling: () => (sibling ??= profiled(openSibling.call(device))) } : {}),
    });
  };
  return { device: profiled(inner), times: (withoutFirstRun = false) => timesIn(folder, withoutFirstRun) };
}

function timesIn(folder: string, withoutFirstRun: boolean): NodeTime[] {
  const kinds = new Map<string, NodeTime>();
  try {
    for (const name of readdirSync(folder)) {
      const events = JSON.parse(readFileSync(join(folder, name), "utf8")) as ProfileEvent[];
      const begin = withoutFirstRun ? secondRun(events) : 0;
      for (const { cat, args, dur, ts } of events) {
        if (cat !== "Node" || !args?.op_name || !args.provider || ts < begin) continue;
        const kind = `${args.provider.replace("ExecutionProvider", "")} ${args.op_name}`;
        const { count, milliseconds } = kinds.get(kind) ?? { count: 0, milliseconds: 0 };
        kinds.set(kind, { kind, count: count + 1, milliseconds: milliseconds + dur / 1000 });
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return [...kinds.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** When a session's second run began; never, where there was one alone. */
function secondRun(events: readonly ProfileEvent[]): number {
  const runs = events.filter(({ name }) => name === "model_run").map(({ ts }) => ts);
  return runs.sort((a, b) => a - b)[1] ?? Number.POSITIVE_INFINITY;
}

/** Times of nodes as text. */
export function nodeTimesText(times: readonly NodeTime[]): string {
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const rows = times.map(({ kind, count, milliseconds }) => [
    kind,
    String(count),
    milliseconds.toFixed(1),
    ((100 * milliseconds) / total).toFixed(1),
  ]);
  const columns = [{ title: "node kind", align: "left" as const }, { title: "runs" }, { title: "ms" }, { title: "%" }];
  return `time of nodes in ONNX Runtime\n${textTable(columns, rows)}`;
}
