// `distill --sizes 0.3x,0.5x,0.7x`: several students from one run. Cuts are ranked once; the run's own student is the largest, and
// each other is refitted for its size, written to `students/<size>/` and evaluated beside it.
import type { Directory } from "../files/storage.ts";
import type { VitConfig } from "../models/config.ts";
import type { Model } from "../models/model.ts";
import { methodOf } from "../students/methods/lookup.ts";
import { parseBudget } from "../students/search/budget.ts";
import type { Start } from "../students/run-start.ts";
import type { StudentRunOptions } from "../students/run-options.ts";
import { OptionError } from "../utils/errors.ts";
import type { RunResult } from "../workspace/run-folder.ts";
import type { SizedResult } from "../workspace/run-schemas.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { writeStudent, writeStudentCard } from "./student-folder.ts";

/** The sizes of a run, the largest first; none where the run makes one student. */
export function sizesOf({ sizes = [] }: Pick<StudentRunOptions, "sizes">): string[] {
  return [...new Set(sizes)].sort((a, b) => parseBudget(b).most - parseBudget(a).most);
}

/** Throws an OptionError where options say another size, or where students would not be in closed form alone. */
export function checkSizes(options: StudentRunOptions): void {
  const { sizes, budget, agreement, keptBlocks, reductionFactor, mlpWidth, keptHeads, blockShapes, method } = options;
  if (sizes === undefined) return;
  const others = { budget, agreement, keptBlocks, reductionFactor, mlpWidth, keptHeads, blockShapes };
  const [other] = Object.entries(others).filter(([, value]) => value !== undefined);
  if (other) throw new OptionError([(name) => `Give ${name("sizes")} or ${name(other[0])}, not both.`]);
  const { trains, start } = methodOf(method);
  if (trains || (options.start ?? start) !== "analytic")
    throw new OptionError([
      (name) => `${name("sizes")} makes students in closed form alone (--method refit), got the method ${method}.`,
    ]);
}

/** The options of the student of one size; as they are where a run makes one student. */
export const ofSize = <Options extends StudentRunOptions>(options: Options, size: string | undefined): Options =>
  size === undefined ? options : { ...options, budget: size };

/** What the other students of a run are made from. */
interface Others {
  readonly options: StudentRunOptions;
  readonly teacher: Model;
  readonly directory: Directory;
  /** The student of options, in closed form. */
  start(options: StudentRunOptions): Promise<Start>;
  warn(message: string): void;
}

/** A student that was written besides a run's own. */
export interface OtherStudent {
  readonly config: VitConfig;
  /** What a run's result holds of it. */
  readonly result: SizedResult;
}

/** Makes and writes a run's students but for the largest. */
export async function writeOtherSizes({ options, teacher, directory, start, warn }: Others): Promise<OtherStudent[]> {
  const made: OtherStudent[] = [];
  for (const size of sizesOf(options).slice(1)) {
    const { student, keptBlocks = [], widths } = await start(ofSize(options, size));
    if (!student) throw new Error(`no student of the size ${size} was made`);
    const path = `students/${size}`;
    await writeStudent(student, directory.below(path), options, teacher, warn);
    made.push({ config: student.config, result: { size, student: path, keptBlocks, ...widths } });
  }
  return made;
}

/** Writes the model cards of a run's other students: each speaks of its own row alone. */
export async function writeOtherCards(
  others: readonly OtherStudent[],
  directory: Directory,
  options: DistillRunOptions,
  result: RunResult,
): Promise<void> {
  for (const { config, result: sizeResult } of others) {
    const row = rowNameOf(sizeResult);
    const rows = result.results.filter(({ name }) => name === row || !name.startsWith("student"));
    const { mlpWidth, keptHeads, shapes, keptBlocks, student, size } = sizeResult;
    await writeStudentCard(
      directory.below(student),
      { name: `${options.method} student, ${size}`, config, folder: student },
      ofSize({ ...options, sizes: undefined }, size),
      {
        ...{ ...result, mlpWidth, keptHeads, shapes, keptBlocks, comparisons: [] },
        results: rows.map((one) => (one.name === row ? { ...one, name: "student" } : one)),
      },
    );
  }
}

/** How rows of tables call a student. */
export const rowNameOf = ({ size }: Pick<SizedResult, "size">): string => `student ${size}`;
