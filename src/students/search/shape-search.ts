// Which shape a student of a given size should have, from evidence: each is refitted on some images and held against the
// teacher on others.
import { Model } from "../../models/model.ts";
import type { RunContext } from "../../context/run-context.ts";
import type { Evidence } from "./evidence.ts";
import { fittedStudent, nearness } from "./evidence.ts";
import type { StudentShape } from "./shape.ts";
import { widthsText } from "./shape.ts";
import { required } from "../../utils/required.ts";

/** Numbers of blocks that are tried beside whole ones, and how many blocks' shapes with other heads. */
const [mostCounts, mostOthers] = [4, 2];

/** Some of a list, evenly and with its last. */
function someOf<T>(list: readonly T[], most: number): T[] {
  if (list.length <= most) return [...list];
  return Array.from({ length: most }, (_, i) => list[Math.round(((i + 1) * list.length) / most) - 1]);
}

/** Those that were tried, with what is left of the difference to the teacher. */
export interface TriedShape {
  readonly shape: StudentShape;
  readonly meanAbsoluteDifference: number;
}

/**
 * Tries whole blocks and, of the `narrower` shapes by their number of blocks, the first of each of some numbers; then others
 * with as many blocks as the best of them. Nearest first.
 */
export async function searchShapes(
  { listener }: RunContext,
  teacher: Model,
  whole: StudentShape,
  narrower: ReadonlyMap<number, readonly StudentShape[]>,
  evidence: Evidence,
): Promise<TriedShape[]> {
  const counts = someOf([...narrower.keys()], mostCounts);
  const tried: TriedShape[] = [];
  const byNearness = () => [...tried].sort((a, b) => a.meanAbsoluteDifference - b.meanAbsoluteDifference);
  const trials = 1 + counts.length + mostOthers;
  listener.stage?.("trying shapes", trials);
  const attempt = async (shape: StudentShape) => {
    const model = new Model(await fittedStudent(teacher, shape, evidence), teacher.device);
    try {
      const { meanAbsoluteDifference: difference } = await nearness(model, evidence.evaluated);
      tried.push({ shape, meanAbsoluteDifference: difference });
      listener.progress?.(tried.length, `${shapeText(shape)}: ${difference.toFixed(3)}`);
    } finally {
      await model.dispose();
    }
  };
  await attempt(whole);
  for (const count of counts) await attempt(required(narrower, count)[0]);
  const [best] = byNearness();
  const others = narrower.get(best.shape.kept.length)?.filter((shape) => shape !== best.shape) ?? [];
  if (best.shape !== whole) for (const shape of others.slice(0, mostOthers)) await attempt(shape);
  return byNearness();
}

/** "8 blocks with 4 heads and 768 channels". */
export function shapeText(shape: StudentShape): string {
  const each = widthsText(shape);
  return `${shape.kept.length} blocks${each === "" ? "" : ` with ${each}`}`;
}
