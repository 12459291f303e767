// What a student of each size costs and gives up: shapes by the closed form, in the teacher's weights and in 8 bits.
import { measureLatency } from "../../evaluation/latency.ts";
import { Model } from "../../models/model.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { parameterCount } from "../../models/definition.ts";
import { int8Parts, largestOn } from "../../models/precision.ts";
import type { WeightType } from "../../utils/half.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import type { FormatDifference } from "./budget.ts";
import { plainFormat } from "./budget.ts";
import type { RunContext } from "../../context/run-context.ts";
import { fittedStudent, gatherEvidence, nearness } from "./evidence.ts";
import { evenBlocks, shapeFor } from "./shape.ts";

export interface FrontierPoint {
  /** It has as many weights as so many whole blocks, about. */
  readonly wholeBlocks: number;
  readonly keptBlocks: readonly number[];
  readonly mlpWidth: number;
  readonly heads: number;
  readonly format: FrontierFormat["name"];
  readonly parameters: number;
  /** Weights on disk, about. */
  readonly bytes: number;
  /** An image, on this machine. */
  readonly milliseconds: number;
  /** Mean absolute difference to the teacher's last block output, on images that nothing was fitted on. */
  readonly meanAbsoluteDifference: number;
  /** Of pooled vectors with the teacher's. */
  readonly cosine: number;
  /** Whether no other is nearer to the teacher with no more bytes. */
  readonly bestForSize: boolean;
  /** Whether no other is nearer to the teacher in no more time. */
  readonly bestForTime: boolean;
}

/** The formats that students are measured in: the teacher's type of weights, and 8 bits. */
export interface FrontierFormat extends FormatDifference {
  readonly name: WeightType | "int8";
}

export async function frontierFormats(teacher: Model): Promise<FrontierFormat[]> {
  const { device, origin } = teacher;
  const int8 = { largest: await largestOn(device), parts: int8Parts };
  return [
    { name: origin.weightType, ...plainFormat(teacher, origin.weightType) },
    { name: "int8", bytes: 1, modelOf: (definition) => new Model(definition, device, { int8 }) },
  ];
}

/** Sizes that are tried, as shares of the teacher's blocks. */
const shares = [1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6];

/** The numbers of whole blocks whose weights students have, to see the whole range. */
export function defaultSizes({ config: { depth } }: Model): number[] {
  return shares.map((share) => Math.max(1, Math.round(share * depth)));
}

interface Candidate {
  readonly model: Model;
  readonly wholeBlocks: number;
  readonly keptBlocks: readonly number[];
  readonly format: FrontierFormat;
}

/**
 * Refits students that have as many weights as whole blocks of these numbers, and measures them and the teacher on the last of
 * the batches of `views`, of which there are two at least (`evidenceParts` for students as good as a run makes them).
 */
export async function frontierOf(
  teacher: Model,
  sizes: readonly number[],
  formats: readonly FrontierFormat[],
  crops: AsyncIterable<FloatTensor>,
  { environment, listener }: RunContext,
): Promise<FrontierPoint[]> {
  const evidence = await gatherEvidence(teacher, crops);
  const { depth } = teacher.config;
  const counts = [...new Set(sizes)].filter((count) => count < depth).sort((a, b) => a - b);
  const candidates: Candidate[] = [];
  const inEach = (definition: ModelDefinition, wholeBlocks: number, keptBlocks: readonly number[]) => {
    for (const format of formats)
      candidates.push({ model: format.modelOf(definition), wholeBlocks, keptBlocks, format });
  };
  listener.stage?.("refitting students of each size", counts.length);
  try {
    for (const [done, count] of counts.entries()) {
      const shape = shapeFor(teacher, count, "balanced");
      inEach(await fittedStudent(teacher, shape, evidence), count, shape.kept);
      listener.progress?.(done + 1);
    }
    inEach(teacher, depth, evenBlocks(depth, depth));
    listener.stage?.("measuring them", candidates.length);
    const milliseconds = await measureLatency(
      candidates.map(({ model }) => model),
      () => environment.now(),
    );
    const points: Measured[] = [];
    for (const [i, { model, wholeBlocks, keptBlocks, format }] of candidates.entries()) {
      const parameters = parameterCount(model);
      points.push({
        wholeBlocks,
        keptBlocks,
        mlpWidth: model.config.mlpWidth,
        heads: model.config.heads,
        format: format.name,
        parameters,
        bytes: parameters * format.bytes,
        milliseconds: milliseconds[i],
        ...(await nearness(model, evidence.evaluated)),
      });
      listener.progress?.(i + 1);
    }
    return points.map((point) => ({
      ...point,
      bestForSize: isBest(point, points, "bytes"),
      bestForTime: isBest(point, points, "milliseconds"),
    }));
  } finally {
    for (const { model } of candidates) await model.dispose();
  }
}

type Measured = Omit<FrontierPoint, "bestForSize" | "bestForTime">;

/** Whether nothing that costs no more is nearer. */
function isBest(point: Measured, all: readonly Measured[], cost: "bytes" | "milliseconds"): boolean {
  return !all.some(
    (other) =>
      other !== point && other[cost] <= point[cost] && other.meanAbsoluteDifference < point.meanAbsoluteDifference,
  );
}
