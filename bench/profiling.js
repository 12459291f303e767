// ONNX Runtime's own profile of what a device runs: which provider took each node, and what it cost.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A device whose sessions write profiles, which `shares` reads when they have been disposed of. */
export function profiledDevice(inner) {
  const folder = mkdtempSync(join(tmpdir(), "wecolora-profile-"));
  let sessions = 0;
  const profiled = (device) =>
    Object.assign(Object.create(device), {
      createSession: (source, options) =>
        device.createSession(source, { ...options, profilePrefix: join(folder, `${sessions++}`) }),
      beside: device.beside && (() => profiled(device.beside())),
    });
  const device = profiled(inner);
  /**
   * Milliseconds and number of runs of each kind of node, `provider kind`, of all sessions; dearest first. A session's first
   * run, which touches its memory for the first time, is left out.
   */
  const shares = () => {
    const kinds = new Map();
    for (const name of readdirSync(folder)) {
      const events = JSON.parse(readFileSync(join(folder, name), "utf8"));
      const runs = events.filter((event) => event.name === "model_run").map(({ ts }) => ts);
      const from = runs.sort((a, b) => a - b)[1] ?? Infinity;
      for (const { cat, args, dur, ts } of events) {
        if (cat !== "Node" || !args?.op_name || !args.provider || ts < from) continue;
        const kind = `${args.provider.replace("ExecutionProvider", "")} ${args.op_name}`;
        const [count, ms] = kinds.get(kind) ?? [0, 0];
        kinds.set(kind, [count + 1, ms + dur / 1000]);
      }
    }
    rmSync(folder, { recursive: true });
    return [...kinds]
      .map(([kind, [count, ms]]) => ({ kind, count, ms: Number(ms.toFixed(1)) }))
      .sort((a, b) => b.ms - a.ms);
  };
  return { device, shares };
}
