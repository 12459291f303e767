// All of the methods, from the files of this folder. Made by `npm run generate`; don't edit it.
import { method as corpMethod } from "./corp.ts";
import { method as deitMethod } from "./deit.ts";
import { method as dmaeMethod } from "./dmae.ts";
import { method as doraMethod } from "./dora.ts";
import { method as grailMethod } from "./grail.ts";
import { method as kdMethod } from "./kd.ts";
import { method as loraMethod } from "./lora.ts";
import { method as magnitudeMethod } from "./magnitude.ts";
import { method as minivitMethod } from "./minivit.ts";
import { method as refitMethod } from "./refit.ts";
import { method as snapvitMethod } from "./snapvit.ts";
import { method as taylorMethod } from "./taylor.ts";
import { method as topPruningMethod } from "./top-pruning.ts";
import { method as wandaMethod } from "./wanda.ts";
import { method as wecoKdMethod } from "./weco-kd.ts";
import { method as wecoloraMethod } from "./wecolora.ts";
import { method as weightCopyMethod } from "./weight-copy.ts";

export const methods = [
  corpMethod,
  deitMethod,
  dmaeMethod,
  doraMethod,
  grailMethod,
  kdMethod,
  loraMethod,
  magnitudeMethod,
  minivitMethod,
  refitMethod,
  snapvitMethod,
  taylorMethod,
  topPruningMethod,
  wandaMethod,
  wecoKdMethod,
  wecoloraMethod,
  weightCopyMethod,
] as const;

/** The options of all, by name. */
export const methodOptions = {
  ...corpMethod.options,
  ...deitMethod.options,
  ...dmaeMethod.options,
  ...doraMethod.options,
  ...grailMethod.options,
  ...kdMethod.options,
  ...loraMethod.options,
  ...magnitudeMethod.options,
  ...minivitMethod.options,
  ...refitMethod.options,
  ...snapvitMethod.options,
  ...taylorMethod.options,
  ...topPruningMethod.options,
  ...wandaMethod.options,
  ...wecoKdMethod.options,
  ...wecoloraMethod.options,
  ...weightCopyMethod.options,
};
