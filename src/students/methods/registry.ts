// All of the methods, from the files of this folder. Made by `npm run generate`; don't edit it.
import { method as deitMethod } from "./deit.ts";
import { method as dmaeMethod } from "./dmae.ts";
import { method as doraMethod } from "./dora.ts";
import { method as kdMethod } from "./kd.ts";
import { method as loraMethod } from "./lora.ts";
import { method as minivitMethod } from "./minivit.ts";
import { method as refitMethod } from "./refit.ts";
import { method as topPruningMethod } from "./top-pruning.ts";
import { method as wecoKdMethod } from "./weco-kd.ts";
import { method as wecoloraMethod } from "./wecolora.ts";
import { method as weightCopyMethod } from "./weight-copy.ts";

export const methods = [
  deitMethod,
  dmaeMethod,
  doraMethod,
  kdMethod,
  loraMethod,
  minivitMethod,
  refitMethod,
  topPruningMethod,
  wecoKdMethod,
  wecoloraMethod,
  weightCopyMethod,
] as const;

/** The options of all, by name. */
export const methodOptions = {
  ...deitMethod.options,
  ...dmaeMethod.options,
  ...doraMethod.options,
  ...kdMethod.options,
  ...loraMethod.options,
  ...minivitMethod.options,
  ...refitMethod.options,
  ...topPruningMethod.options,
  ...wecoKdMethod.options,
  ...wecoloraMethod.options,
  ...weightCopyMethod.options,
};
