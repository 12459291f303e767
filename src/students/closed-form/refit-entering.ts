// Maps that are refitted for what enters them: behind its norm, the student's tokens differ from those that the teacher's map is
// made for. One linear map takes the first to the second as well as can be (Delta, solved from sums that all maps behind the norm
// share), and is folded into each of them: W (n + Delta n) is what W would make of the teacher's tokens.
import { qkvRows } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { TargetModule } from "../../models/vit.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { moved } from "./refit-maps.ts";
import { sumUp } from "./refit-passes.ts";
import type { Refit, Tools } from "./refit-tools.ts";
import { isUsable, ridgesFor, solveRidged } from "./refit-tools.ts";
import type { RidgeSolver, Sums } from "../../engine/linalg/ridge.ts";
import { required } from "../../utils/required.ts";

/** The maps behind a block's norms: the stored weight that holds them, and the rows of it that each has. */
const behindNorms = {
  norm1: { stored: "attn.qkv", maps: ["q", "k", "v"] },
  norm2: { stored: "mlp.fc1", maps: ["fc1"] },
} as const satisfies Record<string, { readonly stored: string; readonly maps: readonly TargetModule[] }>;
type BlockNorm = keyof typeof behindNorms;

/** Whether any of the maps is behind such a norm. */
export const refitsBehind = (norm: BlockNorm, maps: readonly TargetModule[]): boolean =>
  behindNorms[norm].maps.some((map) => maps.includes(map));

/** The maps that are behind no norm. */
export const withoutNorms = (maps: readonly TargetModule[]): TargetModule[] =>
  maps.filter((map) => !refitsBehind("norm1", [map]) && !refitsBehind("norm2", [map]));

/** Refits those of a block's maps behind one of its norms that are asked for; the sample holds the tokens that this takes. */
export async function refitEntering(
  tools: Tools,
  student: ModelDefinition,
  block: number,
  norm: BlockNorm,
): Promise<{ student: ModelDefinition; refits: readonly Refit[] }> {
  const { passes, solver, sample } = tools;
  const { stored, maps } = behindNorms[norm];
  const wanted = maps.filter((map) => tools.maps.includes(map));
  if (wanted.length === 0) return { student, refits: [] };
  const { width } = student.config;
  const feeds = await passes.blockOf(student, block);
  const summed = await sumUp(passes, sample.streams, norm, feeds, width);
  const name = `blocks.${block}.${stored}`;
  const hasBias = student.weights.has(`${name}.bias`);
  const of = (sums: Sums) => (hasBias ? sums : withoutBias(sums));
  const [fitting, all] = [of(summed.fitting), of(summed.all)];
  const refits = (ridge?: number) => wanted.map((map): Refit => ({ block, map, ridge }));
  for (const ridge of isUsable(summed) ? ridgesFor(tools, fitting.n) : []) {
    const first = await solveRidged(solver, fitting, ridge);
    const unseen = summed.all === summed.fitting ? undefined : difference(all, fitting);
    if (unseen && !((await gain(solver, unseen, first)) > 0)) continue;
    const delta = unseen ? await solveRidged(solver, all, ridge) : first;
    const old = required(student.weights, `${name}.weight`);
    const change = new Float64Array((width + 1) * old.dims[0]);
    for (const map of wanted) {
      const [from, to] = map === "fc1" ? [0, old.dims[0]] : qkvRows(student.config, block, map);
      await addFolded(solver, change, old, from, to, delta);
    }
    return { student: moved(student, name, change, 1), refits: refits(ridge) };
  }
  return { student, refits: refits() };
}

/** Adds Delta W' to `change` `[in + 1, out]`, for the rows of W `[out, in]` between two. */
async function addFolded(
  solver: RidgeSolver,
  change: Float64Array,
  { dims: [outputs, width], data }: FloatTensor,
  from: number,
  to: number,
  delta: Float64Array,
): Promise<void> {
  const [size, rows] = [to - from, delta.length / width];
  const turned = new Float64Array(width * size);
  for (let o = 0; o < size; o++) for (let i = 0; i < width; i++) turned[i * size + o] = data[(from + o) * width + i];
  const product = await solver.multiply(
    { type: "float64", dims: [rows, width], data: delta },
    { type: "float64", dims: [width, size], data: turned },
  );
  for (let i = 0; i < rows; i++) change.set(product.subarray(i * size, (i + 1) * size), i * outputs + from);
}

/** Sums without the column of ones. */
export function withoutBias({ n, m, gram, cross }: Sums): Sums {
  const size = n - 1;
  const inner = new Float64Array(size * size);
  for (let i = 0; i < size; i++) inner.set(gram.subarray(i * n, i * n + size), i * size);
  return { n: size, m, gram: inner, cross: cross.slice(0, size * m) };
}

/** The sums over rows that are among all, but not in a part of them. */
export const difference = (all: Sums, part: Sums): Sums => ({
  ...all,
  gram: all.gram.map((v, i) => v - part.gram[i]),
  cross: all.cross.map((v, i) => v - part.cross[i]),
});

/** How much of the squared error over some rows a solution takes away: 2 tr(D' G'R) - tr(D' G'G D). */
export async function gain(solver: RidgeSolver, { n, m, gram, cross }: Sums, solution: Float64Array): Promise<number> {
  const through = await solver.multiply(
    { type: "float64", dims: [n, n], data: gram },
    { type: "float64", dims: [n, m], data: solution },
  );
  return solution.reduce((sum, d, i) => sum + d * (2 * cross[i] - through[i]), 0);
}
