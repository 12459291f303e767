// What tests of refitted students share: teachers, and how far a student is from one.
import type { FloatTensor, Model } from "wecolora/node";
import { noise } from "./noise.ts";

/** Teachers whose MLPs can lose channels. */
export const narrowableTeachers = [
  "hf-dinov2",
  "hf-dinov2-registers",
  "hf-vit",
  "hf-deit",
  "hf-clip-vision",
  "timm-vit",
  "timm-vit-reg",
  "timm-deit3-ls",
  "more-hf-dinov3",
  "fewer-hf-vit",
] as const;

/** The sum of absolute differences of the last blocks' outputs. */
export async function differenceTo(teacher: Model, student: Model, pixels: FloatTensor): Promise<number> {
  const [a, b] = [await teacher.outputs(pixels, ["blockOutput"]), await student.outputs(pixels, ["blockOutput"])];
  return a.blockOutput.data.reduce((sum, v, i) => sum + Math.abs(v - b.blockOutput.data[i]), 0);
}

/** Images that students of small teachers are compared on, `[4, 3, 32, 32]`, and batches of others that they are refitted on. */
export const comparedImages = (): FloatTensor => noise([4, 3, 32, 32], 9, "pictures");
export const refittedBatches = (): FloatTensor[] =>
  Array.from({ length: 6 }, (_, i) => noise([8, 3, 32, 32], i, "pictures"));
