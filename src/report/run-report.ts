// All that a report says of a run, gathered before any of it is drawn.
import type { Comparison } from "./findings.ts";
import type { LoadedModel, WeightsFile } from "./loading.ts";
import type { ResultRow } from "./results.ts";
import type { SearchReport } from "./search.ts";
import type { Column } from "./table.ts";
import type { ChosenExport } from "./verdict.ts";
import { chosenVerdict, verdict } from "./verdict.ts";

/** An image as it is shown: a data URI, where it could be read. */
export interface Shown {
  readonly name: string;
  readonly image?: string;
  readonly className?: string;
}

export interface Step {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
}

/** A look at held-out images while training. */
export interface TrackedEvaluation {
  readonly step: number;
  readonly meanAbsoluteDifference: number;
  readonly cosine: number;
  readonly knn?: number;
}

/** k-NN accuracy in one class, as shares; by model. */
export interface ClassFigures {
  readonly name: string;
  readonly images: number;
  readonly models: Readonly<Record<string, number>>;
}

/** An image and its nearest ones under each model. */
export interface NeighbourExample extends Shown {
  readonly nearest: Readonly<Record<string, readonly Shown[]>>;
}

/** An image whose features are furthest from the teacher's, and what models take it for. */
export interface HardImage extends Shown {
  readonly meanAbsoluteDifference: number;
  readonly cosine: number;
  readonly takenFor: Readonly<Record<string, string>>;
}

/** Where models look, as images. */
export interface Attention extends Shown {
  readonly models: Readonly<Record<string, string>>;
}

/** Similarity of each student block (row) with each teacher block (column). */
export interface BlockSimilarity {
  readonly cka: readonly (readonly number[])[];
  readonly cosine?: readonly (readonly number[])[];
  readonly tokens: number;
  readonly images: number;
  /** The teacher's block that each of the student's was copied from. */
  readonly keptBlocks: readonly number[];
}

/** The exports of a run, each measured beside the student that it was made from. */
export interface ExportsReport {
  /** On how many images. */
  readonly heading: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
  readonly legend: string;
}

export interface RunReport {
  /** The run folder's name. */
  readonly name: string;
  readonly method: string;
  readonly methodSummary: string;
  readonly teacher: string;
  readonly data: string;
  readonly keptBlocks: readonly number[];
  readonly teacherDepth?: number;
  /** What each block keeps, in words; empty where that is all. */
  readonly widths: string;
  readonly trainingSeconds: number;
  /** How a step's images were planned, in words. */
  readonly notes: readonly string[];
  readonly results: readonly ResultRow[];
  readonly comparisons: readonly Comparison[];
  readonly evaluatedImages: number;
  readonly evaluatedOnTrainingImages: boolean;
  /** The student's files of weights. */
  readonly files: readonly WeightsFile[];
  /** How the student is loaded; runs of earlier versions don't say it. */
  readonly loading?: LoadedModel;
  readonly exports?: ExportsReport;
  /** What a search over shape, image size, token merging and exports tried. */
  readonly search?: SearchReport;
  /** The export that it chose, as measured. */
  readonly chosen?: ChosenExport;
  readonly steps: readonly Step[];
  readonly evaluations: readonly TrackedEvaluation[];
  readonly classes: readonly ClassFigures[];
  readonly hardest: readonly HardImage[];
  readonly neighbours: readonly NeighbourExample[];
  readonly attention: readonly Attention[];
  readonly similarity?: BlockSimilarity;
  readonly used: { readonly total: number; readonly shown: readonly Shown[] };
  /** Options that the run had, as text. */
  readonly settings: readonly (readonly [string, string])[];
  readonly command: string;
  readonly about: Readonly<Record<string, unknown>>;
  /** What the page lacks, and why. */
  readonly missing: readonly string[];
}

/** The results with their number of images; runs of earlier versions have it for all rows together. */
export function countedRows({ results, evaluatedImages }: Pick<RunReport, "results" | "evaluatedImages">): ResultRow[] {
  return results.map((row) => ({ images: evaluatedImages, ...row }));
}

/** What the run came to, a sentence each: the student, and the export that a search chose. */
export function verdictsOf(report: RunReport): string[] {
  const { comparisons, evaluatedOnTrainingImages: onTraining, chosen } = report;
  const student = verdict({ results: countedRows(report), comparisons, onTraining });
  return [...(student === undefined ? [] : [student]), ...(chosen ? [chosenVerdict(chosen)] : [])];
}

type Kept = Pick<RunReport, "keptBlocks" | "teacherDepth" | "widths">;

/** "blocks 0, 2, 4 of 6 kept", "all 12 blocks kept, each with 3 heads and 768 channels" */
export function keptText({ keptBlocks, teacherDepth, widths }: Kept): string {
  const some = `blocks ${keptBlocks.join(", ")}${teacherDepth === undefined ? "" : ` of ${teacherDepth}`}`;
  const blocks = keptBlocks.length === teacherDepth ? `all ${teacherDepth} blocks` : some;
  return `${blocks} kept${widths === "" ? "" : `, each with ${widths}`}`;
}

/** "1 (from 2)": a student's block, and the teacher's that it was copied from. */
export function blockLabel(block: number, keptBlocks: readonly number[]): string {
  const from = keptBlocks[block];
  return from === undefined ? String(block) : `${block} (from ${from})`;
}
