// Parameters in groups that an optimizer updates together.
import { elementCount } from "../../utils/tensor.ts";
import { layerScale } from "./step-graphs.ts";
import type { Shapes } from "./trainables.ts";
import { splitBlockName } from "../../models/weight-table.ts";

/** Parameters that are updated together: a block's, or others of one learning rate. */
export interface Group {
  /** The same for groups of the same shapes. */
  readonly key: string;
  /** What its learning rate is multiplied by. */
  readonly scale: number;
  /** By the names within the block, which are those of other blocks too. */
  readonly shapes: Shapes;
  /** The parameter that a name within the block stands for. */
  readonly full: ReadonlyMap<string, string>;
}

/** A student of `depth` blocks has them by block and learning rate. */
export function groupsOf(shapes: Shapes, depth: number, decay: number): Group[] {
  const groups = new Map<
    string,
    { scale: number; shapes: Map<string, readonly number[]>; full: Map<string, string> }
  >();
  for (const [name, dims] of shapes) {
    const scale = layerScale(name, depth, decay);
    const inside = splitBlockName(name);
    const weightName = inside?.inBlock ?? name;
    const key = `${inside?.block ?? ""} ${scale}`;
    const group = groups.get(key) ?? { scale, shapes: new Map(), full: new Map() };
    groups.set(key, group);
    group.shapes.set(weightName, dims);
    group.full.set(weightName, name);
  }
  return [...groups.values()].map((group) => ({ ...group, key: JSON.stringify([...group.shapes]) }));
}

/** Groups shared out so that each of `count` places has about as many numbers. */
export function sharedOut(groups: readonly Group[], count: number): Group[][] {
  const shares = Array.from({ length: count }, () => ({ groups: [] as Group[], numbers: 0 }));
  for (const group of groups) {
    const least = shares.reduce((a, b) => (b.numbers < a.numbers ? b : a));
    least.groups.push(group);
    for (const dims of group.shapes.values()) least.numbers += elementCount(dims);
  }
  return shares.map((share) => share.groups);
}
