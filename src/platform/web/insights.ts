// What a page shows beside a run: what a size would cost, a run's report as data, and where models look in any image.
import type { RunContext } from "../../context/run-context.ts";
import { SkippedImages } from "../../context/run-context.ts";
import { attentionOverlays } from "../../evaluation/attention-overlays.ts";
import type { Model } from "../../models/model.ts";
import { parameterCount } from "../../models/definition.ts";
import type { RunReport } from "../../report/run-report.ts";
import { searchItems, searchCrops } from "../../students/run-start.ts";
import { plainFormat } from "../../students/search/budget.ts";
import { evidenceParts } from "../../students/search/evidence.ts";
import type { FrontierPoint } from "../../students/search/frontier.ts";
import { frontierOf, defaultSizes } from "../../students/search/frontier.ts";
import { blankOf, shapeFor } from "../../students/search/shape.ts";
import { elementBytes } from "../../utils/tensor.ts";
import { withOutput } from "../../workspace/output-folder.ts";
import { RunFolder } from "../../workspace/run-folder.ts";

/** A size that a student may have. */
export interface StudentSize {
  /** It has as many weights as so many of the teacher's blocks, about. */
  readonly wholeBlocks: number;
  readonly parameters: number;
  /** Weights on disk, about. */
  readonly bytes: number;
  /** The share of the teacher's weights, and the budget that gives a student of this size. */
  readonly share: number;
  readonly budget: string;
}

/** All sizes that the closed form's students of a teacher have, the smallest first. Nothing is run. */
export function studentSizes(teacher: Model): StudentSize[] {
  const { depth } = teacher.config;
  const all = parameterCount(teacher);
  return Array.from({ length: depth - 1 }, (_, i) => {
    const parameters = parameterCount(blankOf(teacher, shapeFor(teacher, i + 1, "balanced")));
    const share = parameters / all;
    // Rounded upwards: the next size is far beyond the last digit.
    const budget = `${(Math.ceil(share * 1e4) / 1e4).toFixed(4)}x`;
    return {
      wholeBlocks: i + 1,
      parameters,
      bytes: parameters * elementBytes[teacher.origin.weightType],
      share,
      budget,
    };
  });
}

/** Images that a prediction looks at: few, as students of several sizes are refitted on them. */
const predictedOn = 24;

/** Refits students of some sizes on a few of the images, and measures what each costs and gives up. */
export async function predictStudents(
  context: RunContext,
  teacher: Model,
  data: string,
  sizes: readonly number[] = defaultSizes(teacher),
): Promise<FrontierPoint[]> {
  const { environment } = context;
  const folder = await environment.openImages(data);
  const source = environment.createImageSource(folder.path);
  try {
    const items = searchItems(folder.items, predictedOn, 0);
    const crops = searchCrops(source, items, teacher, 0, evidenceParts);
    const { weightType } = teacher.origin;
    const formats = [{ name: weightType, ...plainFormat(teacher, weightType) }];
    return await frontierOf(teacher, sizes, formats, crops, context);
  } finally {
    await source.dispose();
  }
}

/** Makes a run's report, writes it into the run's folder, and gives what it is made of. */
export async function reportOfRun(context: RunContext, path: string): Promise<RunReport> {
  return withOutput(context, { path, kind: "run", inputs: [] }, async (output) => {
    const { makeRunReport } = await import("../../commands/report.ts");
    const { report } = await makeRunReport(context, new RunFolder(output));
    return report;
  });
}

/** An image as models see it, and where each looks in it, as JPEG files. */
export interface AttentionMaps {
  readonly name: string;
  readonly image: Blob;
  readonly models: Readonly<Record<string, Blob>>;
}

/** Where models look in images. Throws a UserError where one can't be read. */
export async function attentionMaps(
  { environment, listener }: RunContext,
  models: ReadonlyMap<string, Model>,
  data: string,
): Promise<AttentionMaps[]> {
  const folder = await environment.openImages(data);
  const source = environment.createImageSource(folder.path);
  const skipped = new SkippedImages(true);
  const drawn: AttentionMaps[] = [];
  const jpeg = async (image: Parameters<typeof environment.encodeJpeg>[0]) =>
    new Blob([new Uint8Array(await environment.encodeJpeg(image))], { type: "image/jpeg" });
  try {
    listener.stage?.("drawing where models look", folder.items.length);
    for await (const one of attentionOverlays(models, source, folder.items, undefined, skipped.add)) {
      const overlays: [string, Blob][] = [];
      for (const [name, overlay] of one.overlays) overlays.push([name, await jpeg(overlay)]);
      drawn.push({ name: one.item.name, image: await jpeg(one.image), models: Object.fromEntries(overlays) });
      listener.progress?.(drawn.length);
    }
    return drawn;
  } finally {
    await source.dispose();
  }
}
