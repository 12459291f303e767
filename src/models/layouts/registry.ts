// All layouts, and which one a checkpoint has. A new one is a file that exports its `group`; `npm run generate` lists it.
import { nearestName, UserError } from "../../utils/errors.ts";
import { quote } from "../../utils/quote.ts";
import { groups } from "./layout-groups.ts";
import type { Json, Layout } from "./layout.ts";

export type { Evidence, Json, Layout } from "./layout.ts";
export { timm } from "./timm-layout.ts";

const ordered = [...groups].sort((a, b) => a.order - b.order);

/** All layouts, in the order in which they are tried. */
export const layouts: readonly Layout[] = ordered.flatMap((group) => group.layouts);

const modelTypes = ordered.flatMap((group) => group.modelTypes);

/** The layout of a config.json. Throws a UserError that says what is supported. */
export function findLayout(config: Json, file: string): Layout {
  for (const key of ["model_type", "architecture"]) {
    const value = config[key] ?? "";
    if (typeof value !== "string")
      throw new UserError(`${key} in ${file} must be a name, got ${quote(value)}`, { code: "NOT_A_VIT" });
  }
  const layout = layouts.find((candidate) => candidate.matches(config));
  if (layout) return layout;
  const name = config.model_type ?? config.architecture;
  if (name === undefined || name === null) {
    throw new UserError(
      `${file} names neither a model_type (Hugging Face) nor an architecture (timm), so this is not a vision transformer that can be read here`,
      { code: "NOT_A_VIT" },
    );
  }
  const near = nearestName(String(name), modelTypes);
  throw new UserError(
    `${file} is of a ${quote(name)} model, which is not a vision transformer that can be read here${near ? ` (did you mean ${near}?)` : ""}; supported are ${modelTypes.join(", ")} and timm's ViTs`,
    { code: "NOT_A_VIT" },
  );
}
