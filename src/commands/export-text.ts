// How an export with its options is called.
import { z } from "zod";
import { exportOf } from "../exports/lookup.ts";
import type { TriedCandidate } from "../workspace/run-schemas.ts";

/** An export with the options that differ from its defaults, as in "onnx-q4 (blockSize 64)". */
export function exportText({
  export: name,
  exportOptions = {},
}: Pick<TriedCandidate, "export" | "exportOptions">): string {
  const defaults = z.object(exportOf(name).options).parse({});
  const changed = Object.entries(exportOptions).filter(([key, value]) => value !== defaults[key]);
  return changed.length === 0 ? name : `${name} (${changed.map((pair) => pair.join(" ")).join(", ")})`;
}
