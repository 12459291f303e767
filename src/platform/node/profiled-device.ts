// What nodes cost, from ONNX Runtime's own profile: `--debug time`.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { textTable } from "../../report/table.ts";
import type { Device } from "../../runtime/device.ts";

interface NodeEvent {
  readonly cat?: string;
  readonly dur: number;
  readonly args?: { readonly op_name?: string; readonly provider?: string };
}

export interface ProfiledDevice {
  readonly device: Device;
  /** A row for each kind of node of all sessions, the dearest first. Call it once, when the device has been disposed of. */
  table(): string;
}

/** A device whose sessions write profiles into a temporary folder. */
export function profiledDevice(inner: Device): ProfiledDevice {
  const folder = mkdtempSync(join(tmpdir(), "wecolora-profile-"));
  let sessions = 0;
  const profiled = (device: Device): Device => {
    let sibling: Device | undefined;
    const { beside } = device;
    return Object.assign(Object.create(device) as Device, {
      createSession: ((source, options) =>
        device.createSession(source, {
          ...options,
          profilePrefix: join(folder, `${sessions++}`),
        })) satisfies Device["createSession"],
      ...(beside ? { beside: () => (sibling ??= profiled(beside.call(device))) } : {}),
    });
  };
  return { device: profiled(inner), table: () => tableOf(folder) };
}

function tableOf(folder: string): string {
  const kinds = new Map<string, { count: number; milliseconds: number }>();
  try {
    for (const name of readdirSync(folder)) {
      const events = JSON.parse(readFileSync(join(folder, name), "utf8")) as NodeEvent[];
      for (const { cat, args, dur } of events) {
        if (cat !== "Node" || !args?.op_name || !args.provider) continue;
        const kind = `${args.provider.replace("ExecutionProvider", "")} ${args.op_name}`;
        const { count, milliseconds } = kinds.get(kind) ?? { count: 0, milliseconds: 0 };
        kinds.set(kind, { count: count + 1, milliseconds: milliseconds + dur / 1000 });
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const total = [...kinds.values()].reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const rows = [...kinds]
    .sort(([, a], [, b]) => b.milliseconds - a.milliseconds)
    .map(([kind, { count, milliseconds }]) => [
      kind,
      String(count),
      milliseconds.toFixed(1),
      ((100 * milliseconds) / total).toFixed(1),
    ]);
  const columns = [{ title: "node kind", align: "left" as const }, { title: "runs" }, { title: "ms" }, { title: "%" }];
  return `time of nodes in ONNX Runtime\n${textTable(columns, rows)}`;
}
