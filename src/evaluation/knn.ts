// Weighted nearest neighbours (as in the DINO papers): cosine similarity, votes weighted by exp(similarity / T).
import { compile } from "../engine/compile.ts";
import { graph, input, matmul, transposeLast } from "../engine/graph/build.ts";
import type { Device } from "../runtime/device.ts";
import { requireFinite } from "../utils/finite.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { rows, zeros } from "../utils/tensor.ts";
import type { Targets } from "./targets.ts";

export interface KnnOptions {
  readonly k: number;
  readonly temperature: number;
}

export const knnDefaults: KnnOptions = { k: 10, temperature: 0.07 };

/** exp() of more, ten times over, is no float32. */
const largestExponent = 80;

/** Rows compared at once: queries and bank. Their product bounds the memory. */
const queryChunk = 256;
const bankChunk = 65_536;

/** Rows scaled to length 1; rows of zeros stay. */
export function normaliseRows(tensor: FloatTensor): FloatTensor {
  const [count, width] = tensor.dims;
  const out = zeros(tensor.dims);
  for (let i = 0; i < count; i++) {
    let square = 0;
    for (let j = i * width; j < (i + 1) * width; j++) square += tensor.data[j] ** 2;
    const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let j = i * width; j < (i + 1) * width; j++) out.data[j] = tensor.data[j] * scale;
  }
  return out;
}

export interface Neighbour {
  readonly index: number;
  readonly similarity: number;
}

/** Puts a candidate into a list of the k best, best first; of equals the first found stays before. */
function insert(best: Neighbour[], candidate: Neighbour, k: number): void {
  if (best.length === k && candidate.similarity <= best[k - 1].similarity) return;
  let at = best.length;
  while (at > 0 && best[at - 1].similarity < candidate.similarity) at--;
  best.splice(at, 0, candidate);
  if (best.length > k) best.pop();
}

/** The k most similar bank rows of each query row; features are `[n, D]`. Throws a RunError where they are not finite. */
export async function nearestNeighbours(
  device: Device,
  bank: FloatTensor,
  queries: FloatTensor,
  k: number,
): Promise<Neighbour[][]> {
  requireFinite(bank.data, "Features of the bank");
  requireFinite(queries.data, "Features of the queries");
  const width = bank.dims[1];
  const a = input("queries", "float32", ["q", width]);
  const b = input("bank", "float32", ["b", width]);
  const session = await compile(graph([a, b], { similarity: matmul(a, transposeLast(b)) }), device);
  const [bankRows, queryRows] = [normaliseRows(bank), normaliseRows(queries)];
  const nearest: Neighbour[][] = Array.from({ length: queries.dims[0] }, () => []);
  try {
    for (let from = 0; from < bank.dims[0]; from += bankChunk) {
      const part = rows(bankRows, from, Math.min(bank.dims[0], from + bankChunk));
      for (let q = 0; q < queries.dims[0]; q += queryChunk) {
        const asked = rows(queryRows, q, Math.min(queries.dims[0], q + queryChunk));
        const { tensors } = await session.run({ feeds: { queries: asked, bank: part }, fetch: ["similarity"] });
        const { data, dims } = tensors.similarity as FloatTensor;
        for (let i = 0; i < dims[0]; i++) {
          for (let j = 0; j < dims[1]; j++) {
            insert(nearest[q + i], { index: from + j, similarity: data[i * dims[1] + j] }, k);
          }
        }
      }
    }
  } finally {
    await session.dispose();
  }
  return nearest;
}

/** Votes `[queries, K]` of the weighted neighbours. */
export async function knnVotes(
  device: Device,
  bank: FloatTensor,
  targets: Targets,
  queries: FloatTensor,
  options: KnnOptions = knnDefaults,
): Promise<FloatTensor> {
  return votesOf(await nearestNeighbours(device, bank, queries, options.k), targets, options.temperature);
}

/** Votes `[queries, K]` of neighbours that are known; of labels that may all apply, the share of votes that each has. */
export function votesOf(
  nearest: readonly (readonly Neighbour[])[],
  { kind, labels, count }: Targets,
  temperature: number,
): FloatTensor {
  const votes = zeros([nearest.length, count]);
  nearest.forEach((list, i) => {
    // Votes count by their ratios: where exp() leaves float32's range, all are scaled down alike.
    const scale = list.length > 0 && list[0].similarity / temperature > largestExponent ? list[0].similarity : 0;
    const weights = list.map(({ similarity }) => Math.exp((similarity - scale) / temperature));
    const total = kind === "class" ? 1 : weights.reduce((a, b) => a + b, 0);
    list.forEach(({ index }, j) => {
      const bankLabel = labels[index];
      for (const label of typeof bankLabel === "number" ? [bankLabel] : bankLabel)
        votes.data[i * count + label] += weights[j] / total;
    });
  });
  return votes;
}
