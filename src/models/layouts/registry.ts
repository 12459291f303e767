// All layouts, and which one a checkpoint has.
import { nearestName, UserError } from "../../utils/errors.ts";
import { quote } from "../../utils/quote.ts";
import { clip, siglip } from "./clip-layouts.ts";
import {
  deit,
  dinov2,
  dinov2Gated,
  dinov2Registers,
  dinov2RegistersGated,
  dinov3,
  dinov3Gated,
  ijepa,
  vit,
  vitMae,
} from "./transformers-layouts.ts";
import { native } from "./native-layout.ts";
import { timm, timmEva } from "./timm-layout.ts";
import type { Json, Layout } from "./layout.ts";

export type { Evidence, Json, Layout } from "./layout.ts";
export { timm } from "./timm-layout.ts";

/** All layouts, in the order in which they are tried. */
export const layouts: readonly Layout[] = [
  dinov2,
  dinov2Gated,
  dinov2Registers,
  dinov2RegistersGated,
  dinov3Gated,
  dinov3,
  vitMae,
  deit,
  vit,
  ijepa,
  clip,
  siglip,
  native,
  timmEva,
  timm,
];

const modelTypes = [
  "vit",
  "deit",
  "vit_mae",
  "ijepa",
  "dinov2",
  "dinov2_with_registers",
  "dinov3_vit",
  "clip",
  "clip_vision_model",
  "siglip",
  "siglip_vision_model",
];

/** The layout of a config.json. Throws a UserError that says what is supported. */
export function findLayout(config: Json, file: string): Layout {
  for (const key of ["model_type", "architecture"]) {
    const value = config[key] ?? "";
    if (typeof value !== "string")
      throw new UserError(`${key} in ${file} must be a name, got ${quote(value)}`, { code: "NOT_A_VIT" });
  }
  const layout = layouts.find((candidate) => candidate.matches(config));
  if (layout) return layout;
  const found = config.model_type ?? config.architecture;
  if (found === undefined || found === null) {
    throw new UserError(
      `${file} names neither a model_type (Hugging Face) nor an architecture (timm), so this is no vision transformer that can be read here`,
      { code: "NOT_A_VIT" },
    );
  }
  const near = nearestName(String(found), modelTypes);
  throw new UserError(
    `${file} is of a ${quote(found)} model, which is no vision transformer that can be read here${near ? ` (did you mean ${near}?)` : ""}; known are ${modelTypes.join(", ")} and timm's ViTs`,
    { code: "NOT_A_VIT" },
  );
}
