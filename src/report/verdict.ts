// What a run came to, in one sentence: size, speed, what is kept, and on how many images that was measured.
import type { Comparison } from "./findings.ts";
import type { ResultRow } from "./results.ts";
import { countText, fewImages, isFaster } from "./results.ts";

export interface VerdictInput {
  readonly results: readonly ResultRow[];
  readonly comparisons: readonly Comparison[];
  /** Whether the figures are of training images, since none were held out. */
  readonly onTraining: boolean;
}

const millions = (parameters: number) =>
  parameters < 1e6 ? (parameters / 1e6).toPrecision(2) : (parameters / 1e6).toFixed(1);
const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

/**
 * A run's result in one sentence; undefined where nothing was evaluated.
 * "The student has 11.0 of the teacher's 21.7 M parameters, is 1.9 times as fast on this machine and keeps 94 % of the
 * teacher's k-NN accuracy (300 images)."
 */
export function verdict({ results, comparisons, onTraining }: VerdictInput): string | undefined {
  const row = (name: string) => results.find((one) => one.name === name);
  const [student, teacher] = [row("student"), row("teacher")];
  if (!student) return undefined;
  const parts = [
    sizeText(student, teacher),
    speedText(student, teacher),
    keptText(student, teacher, comparisons, onTraining),
  ].filter((part) => part !== undefined);
  if (parts.length === 0) return undefined;
  const last = parts.length - 1;
  return `The student ${parts.slice(0, last).join(", ")}${last > 0 ? " and " : ""}${parts[last]}.`;
}

function sizeText({ parameters }: ResultRow, teacher: ResultRow | undefined): string | undefined {
  if (parameters === undefined) return undefined;
  return teacher?.parameters === undefined
    ? `has ${millions(parameters)} M parameters`
    : `has ${millions(parameters)} of the teacher's ${millions(teacher.parameters)} M parameters`;
}

/** A ratio where both were timed in turns; a ratio that the times' spread does not bear out is called rough. */
function speedText(student: ResultRow, teacher: ResultRow | undefined): string | undefined {
  const milliseconds = student.millisecondsPerImage;
  if (milliseconds === undefined) return undefined;
  const before = teacher?.millisecondsPerImage;
  if (!teacher || before === undefined) return `takes ${milliseconds.toFixed(1)} ms for an image on this machine`;
  const ratio = (before / milliseconds).toFixed(1);
  const isClear = isFaster(student, teacher) || isFaster(teacher, student);
  return isClear
    ? `is ${ratio} times as fast on this machine`
    : `is roughly ${ratio} times as fast on this machine (the times overlap)`;
}

/** A figure of how good a model is, for rows that have it. */
interface Kept {
  readonly of: string;
  readonly metric?: Comparison["metric"];
  readonly value: (row: ResultRow) => number | undefined;
}

/** The first that was measured is the one to say. */
const kept: readonly Kept[] = [
  { of: "k-NN accuracy", metric: "knn", value: (row) => row.knn?.top1 },
  { of: "k-NN AUROC", value: (row) => row.auroc?.knn?.mean },
  { of: "probe accuracy", metric: "probe", value: (row) => row.probe?.top1 },
  { of: "classifier accuracy", metric: "head", value: (row) => row.head?.top1 },
];

function keptText(
  student: ResultRow,
  teacher: ResultRow | undefined,
  comparisons: readonly Comparison[],
  onTraining: boolean,
): string | undefined {
  const { images, fidelity } = student;
  const on = images === undefined ? "" : countText([images, images], onTraining ? "training " : "");
  const few = images !== undefined && images < fewImages;
  const inBrackets = (...texts: string[]) => {
    const parts = texts.filter((text) => text !== "");
    return parts.length > 0 ? ` (${parts.join(", ")})` : "";
  };
  for (const { of, metric, value } of kept) {
    const [studentValue, before] = [value(student), teacher && value(teacher)];
    if (studentValue === undefined) continue;
    // Nothing can be kept of nothing.
    if (!before) return `has a ${of} of ${percent(studentValue)}${inBrackets(on)}`;
    const interval = few ? ratioInterval(comparisons, metric, before) : "";
    return `keeps ${percent(studentValue / before)} of the teacher's ${of}${inBrackets(interval, on)}`;
  }
  if (fidelity?.agreement !== undefined)
    return `agrees with the teacher on ${percent(fidelity.agreement)} of images${inBrackets(on)}`;
  if (fidelity === undefined) return undefined;
  return `has a cosine similarity of ${fidelity.cosine.toFixed(3)} with the teacher's features${inBrackets(on)}`;
}

/** The interval of the paired difference, over the teacher's figure. */
function ratioInterval(comparisons: readonly Comparison[], metric: Comparison["metric"] | undefined, before: number) {
  const comparison = comparisons.find((one) => one.metric === metric && one.than === "teacher");
  if (!comparison?.interval) return "";
  const [low, high] = comparison.interval.map((difference) => (100 * (1 + difference / before)).toFixed(0));
  return `95 % confidence interval ${low} to ${high} %`;
}

/** An export that a search chose, as it was measured. */
export interface ChosenExport {
  readonly format: string;
  readonly bytes: number;
  readonly milliseconds: number;
  /** Share of images that k-NN gets right with its features. */
  readonly knn?: number;
  readonly cosine: number;
  readonly images: number;
  /** Pixels per side of the images that it takes, where they are smaller than the student's. */
  readonly imageSize?: number;
}

/** "The chosen export onnx-int8 has 6.2 MB, takes 12.3 ms for an image and has a k-NN accuracy of 61 % (100 images)." */
export function chosenVerdict({ format, bytes, milliseconds, knn, cosine, images, imageSize }: ChosenExport): string {
  const smaller = imageSize === undefined ? "" : ` for images of ${imageSize}x${imageSize}`;
  const quality =
    knn === undefined
      ? `a cosine similarity of ${cosine.toFixed(3)} with the student's features`
      : `a k-NN accuracy of ${percent(knn)}`;
  return `The chosen export ${format}${smaller} is ${(bytes / 1e6).toFixed(1)} MB, takes ${milliseconds.toFixed(1)} ms for an image on this machine and has ${quality} (${countText([images, images])}).`;
}
