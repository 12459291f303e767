// A configuration of a small ViT, for what has to be a model's and runs none.
import type { VitConfig } from "../../src/models/config.ts";
import { plainVit } from "../../src/models/config.ts";

export const smallVit: VitConfig = {
  ...plainVit,
  imageSize: 32,
  patchSize: 8,
  channels: 3,
  width: 32,
  depth: 3,
  heads: 4,
  mlpWidth: 128,
  normEpsilon: 1e-6,
};
