// A run's student in its folder: its files, and the card beside them.
import type { Directory } from "../files/storage.ts";
import type { Warn } from "../exports/export-format.ts";
import type { ModelCard } from "../exports/model-card.ts";
import { modelCard } from "../exports/model-card.ts";
import { defaultFormat, writeModel } from "../exports/save.ts";
import { loadingFacts, weightsFiles } from "../exports/weights-files.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { StudentRunOptions } from "../students/run-options.ts";
import { textChunks } from "../workspace/output-files.ts";
import type { RunResult } from "../workspace/run-folder.ts";
import type { DistillRunOptions } from "./distill-options.ts";
import { cardOrigin } from "./run-card.ts";

/** Writes a student with the type of weights that a run asks for, or its teacher's. */
export function writeStudent(
  student: ModelDefinition,
  directory: Directory,
  { weightType }: Pick<StudentRunOptions, "weightType">,
  { origin }: Pick<ModelDefinition, "origin">,
  warn: Warn,
): Promise<void> {
  const settings = { weightType: weightType ?? origin.weightType, format: defaultFormat(student) };
  return writeModel(student, directory, settings, warn);
}

/** Writes a student's model card beside its files, with what its run came to. */
export async function writeStudentCard(
  directory: Directory,
  about: Pick<ModelCard, "name" | "config" | "folder">,
  options: DistillRunOptions,
  result: RunResult,
): Promise<void> {
  const files = await weightsFiles(directory, loadingFacts(about.config).inTransformers);
  const card = modelCard({ ...about, files, origin: cardOrigin(options, result), notes: [] });
  await directory.write("README.md", textChunks(card));
}
