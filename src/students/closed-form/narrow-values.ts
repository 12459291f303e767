// Values of fewer channels. A head gives its values' weighted means to the attention's output map, which reads some of their directions
// more than others. So each head's values are multiplied by a matrix A of `r` columns, and its columns of the map by C, that leave
// least of what it gave behind the map:
//
//   min |H (I - A C') W'|^2,   with H'H = L L':   L' W'W L = V S V',   A = L'^-1 V_r,   C = L V_r
//
// H are the rows that enter the map, taken about their mean (the bias makes up for that). The map is then refitted for what is left, as
// it is for heads that go (`refitMap`): in directions A, from the same sums. Rotated or mixed heads can be narrowed too, since weighted
// means are linear in values.
import { blockShape, valueWidthOf } from "../../models/config.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { RidgeSolver, Sums } from "../../engine/linalg/ridge.ts";
import { aboutMean } from "../../engine/linalg/ridge.ts";
import { required } from "../../utils/required.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { firstChannels, firstColumns, narrower, turnedColumns, withTurnedHeads } from "./head-matrices.ts";
import { withBlock } from "./narrowing.ts";

/** One head's values, ordered by how much of what it gives each direction holds. */
export interface HeadValues {
  /** `[d, d]`, column by column: A and C for all directions. */
  readonly values: Float64Array;
  readonly outputs: Float64Array;
  /** `[d]`, falling: what each direction holds of the squares behind the map, over all rows. */
  readonly energies: Float64Array;
}

/** Directions of the values of heads `[d]` wide by sums of what enters the attention's output map, `proj` `[out, heads * d]`. */
export async function headValues(sums: Pick<Sums, "n" | "gram">, proj: FloatTensor, d: number): Promise<HeadValues[]> {
  const { headDirections } = await import("./head-directions.ts");
  const gram = aboutMean(sums);
  const [outputs, mixed] = proj.dims;
  const map = proj.data;
  return Array.from({ length: mixed / d }, (_, head) => {
    const from = head * d;
    const [own, read] = [new Float64Array(d * d), new Float64Array(d * d)];
    for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) own[i * d + j] = gram[(from + i) * sums.n + from + j];
    for (let o = 0; o < outputs; o++) {
      const row = map.subarray(o * mixed + from, o * mixed + from + d);
      for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) read[i * d + j] += row[i] * row[j];
    }
    const { forward, inverse, energies } = headDirections(own, read, d);
    return { values: inverse, outputs: forward, energies };
  });
}

/** An output map that reads some heads alone, in some directions of each. */
export class NarrowMap {
  private readonly map: FloatTensor;
  private readonly heads: readonly number[];
  private readonly directions: readonly { readonly values: Float64Array; readonly outputs: Float64Array }[];
  private readonly d: number;
  private readonly width: number;

  /** `kept` of the heads of `proj` `[out, heads * d]`, in `width` directions of each. */
  constructor(proj: FloatTensor, all: readonly HeadValues[], kept: readonly number[], width: number) {
    // Weights in a file are read as a whole.
    this.map = { ...proj, data: proj.data };
    this.heads = kept;
    this.d = proj.dims[1] / all.length;
    this.width = width;
    this.directions = kept.map((head) => ({
      values: firstColumns(all[head].values, this.d, width),
      outputs: firstColumns(all[head].outputs, this.d, width),
    }));
  }

  /** `[n, k]`: all that enters the map, and the one for the bias, in the directions kept and the same one. */
  private spreading(n: number): Tensor<"float64"> {
    const { heads, directions, d, width } = this;
    const k = heads.length * width + 1;
    const data = new Float64Array(n * k);
    heads.forEach((head, h) => {
      for (let i = 0; i < d; i++)
        data.set(directions[h].values.subarray(i * width, (i + 1) * width), (head * d + i) * k + h * width);
    });
    data[n * k - 1] = 1;
    return { type: "float64", dims: [n, k], data };
  }

  /** `[k, out]`: the map as it was, in the directions kept; its bias is left out. */
  private copied(): Tensor<"float64"> {
    const { map, heads, directions, d, width } = this;
    const [outputs, mixed] = map.dims;
    const k = heads.length * width + 1;
    const data = new Float64Array(k * outputs);
    heads.forEach((head, h) => {
      for (let o = 0; o < outputs; o++)
        for (let i = 0; i < d; i++) {
          const weight = map.data[o * mixed + head * d + i];
          for (let c = 0; c < width; c++)
            data[(h * width + c) * outputs + o] += weight * directions[h].outputs[i * width + c];
        }
    });
    return { type: "float64", dims: [k, outputs], data };
  }

  /** The sums in the directions kept, with what the others gave among what is missing. */
  async sums(solver: RidgeSolver, { n, m, gram, cross }: Sums): Promise<Sums> {
    const spreading = this.spreading(n);
    const [, k] = spreading.dims;
    const all: Tensor<"float64"> = { type: "float64", dims: [n, n], data: gram };
    const through = await solver.multiply(all, spreading);
    const rows: Tensor<"float64"> = { type: "float64", dims: [n, k], data: through };
    const narrow = await solver.multiplyTransposed(spreading, rows);
    const missing = cross.slice();
    const given = await solver.multiply(all, this.wholeMap(n));
    for (let i = 0; i < missing.length; i++) missing[i] += given[i];
    const wanted = await solver.multiplyTransposed(spreading, { type: "float64", dims: [n, m], data: missing });
    const kept = await solver.multiply({ type: "float64", dims: [k, k], data: narrow }, this.copied());
    return { n: k, m, gram: narrow, cross: wanted.map((v, i) => v - kept[i]) };
  }

  /** `[n, out]`: the whole map, without its bias. */
  private wholeMap(n: number): Tensor<"float64"> {
    const [outputs, mixed] = this.map.dims;
    const data = new Float64Array(n * outputs);
    for (let o = 0; o < outputs; o++)
      for (let i = 0; i < mixed; i++) data[i * outputs + o] = this.map.data[o * mixed + i];
    return { type: "float64", dims: [n, outputs], data };
  }

  /**
   * The student whose map reads the directions kept, changed by `solution` `[k, out]`, of all that enters it still: what passes see that
   * serve whole and narrow blocks.
   */
  changed(student: ModelDefinition, name: string, solution: Float64Array): ModelDefinition {
    const { heads, directions, d, width } = this;
    const [outputs, mixed] = this.map.dims;
    const copied = this.copied().data;
    const data = new Float32Array(outputs * mixed);
    heads.forEach((head, h) => {
      for (let o = 0; o < outputs; o++)
        for (let i = 0; i < d; i++) {
          let sum = 0;
          for (let c = 0; c < width; c++) {
            const at = (h * width + c) * outputs + o;
            sum += directions[h].values[i * width + c] * (copied[at] + solution[at]);
          }
          data[o * mixed + head * d + i] = sum;
        }
    });
    const weights = new Map(student.weights);
    weights.set(`${name}.weight`, { type: "float32", dims: [outputs, mixed], data });
    const bias = weights.get(`${name}.bias`);
    const last = heads.length * width * outputs;
    if (bias) weights.set(`${name}.bias`, { ...bias, data: bias.data.map((v, o) => v + solution[last + o]) });
    return { ...student, weights };
  }

  /** The student whose block has these heads alone, and as narrow values. It has no other heads any more. */
  narrowed(student: ModelDefinition, block: number): ModelDefinition {
    return withValues(student, block, this.directions, this.width);
  }
}

/** Channels of a block's values that a shape asks for, where they are fewer than it has. */
export const narrowerValues = (
  { config }: ModelDefinition,
  block: number,
  wanted: number | undefined,
): number | undefined => narrower(valueWidthOf(config, block), wanted);

/** The student with the first channels of each head's values in a block, where its shape asks for fewer than it has. */
export function withFirstValues(student: ModelDefinition, block: number, wanted: number | undefined): ModelDefinition {
  const width = narrowerValues(student, block, wanted);
  if (width === undefined) return student;
  const first = firstChannels(valueWidthOf(student.config, block), width);
  const { heads } = blockShape(student.config, block);
  return withValues(student, block, new Array(heads).fill({ values: first, outputs: first }), width);
}

/** The student with narrower values in a block: `values` and `outputs` `[d, width]` of each of its heads. */
function withValues(
  student: ModelDefinition,
  block: number,
  heads: readonly { readonly values: Float64Array; readonly outputs: Float64Array }[],
  width: number,
): ModelDefinition {
  const weights = withTurnedHeads(student, block, { v: heads.map(({ values }) => values) });
  const name = `blocks.${block}.attn.proj.weight`;
  const { type, dims, data } = required(weights, name);
  // Weights in a file are read as a whole.
  const behind = turnedColumns(
    { type, dims, data },
    heads.map(({ outputs }) => outputs),
  );
  weights.set(name, behind);
  return { ...student, weights, config: withBlock(student.config, block, { valueWidth: width }) };
}
