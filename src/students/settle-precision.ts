// Which precision a command's products run in.
import type { ImageSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { adapterPlanOf, methodOf } from "./methods/lookup.ts";
import { Model } from "../models/model.ts";
import type { Int8Options, Precision } from "../models/precision.ts";
import { choosePrecision, productCount, withoutAdapters } from "../models/precision.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import type { RunContext } from "../context/run-context.ts";
import type { StudentRunOptions } from "./run-options.ts";
import { isAnalytic } from "./run-start.ts";

/** Images that features are compared on in both precisions. */
const comparedImages = 8;
/** A start in closed form gains less than half a minute by 8 bits where its images take the teacher fewer products than this. */
const worthRounding = 2e12;

async function someImages(model: Model, source: ImageSource, items: readonly Item[]): Promise<FloatTensor | undefined> {
  const shown = items.slice(0, comparedImages);
  const crops = evaluationBatches(source, shown, comparedImages, model.preprocessing, () => undefined);
  const { value } = await crops.next();
  return value?.pixels;
}

/** Products of a start in closed form and of a distillation in 8 bits, where that is asked for or measures best; says which. */
export async function int8Of(
  { listener }: RunContext,
  options: StudentRunOptions,
  teacher: Model,
  source: ImageSource,
  items: readonly Item[],
): Promise<Int8Options | undefined> {
  const { precision: wanted, int8Parts: parts, method } = options;
  if (wanted === "float32") return undefined;
  if (!methodOf(method).trains && !isAnalytic(options)) {
    listener.info?.(`nothing trains with ${method}, so its precision is float32`);
    return undefined;
  }
  const products = items.length * options.analyticCrops * productCount(teacher);
  if (wanted === "auto" && !methodOf(method).trains && products < worthRounding) {
    listener.info?.(`precision float32, since ${items.length} images gain little by 8 bits`);
    return undefined;
  }
  const pixels = await someImages(teacher, source, items);
  // Where a method has no adapters, their products need not be timed.
  const int8Parts = adapterPlanOf(options) ? parts : withoutAdapters(parts);
  const { int8, reason } = await choosePrecision(teacher, { wanted, parts: int8Parts, pixels });
  listener.info?.(`precision ${reason}`);
  return int8;
}

/** The model as it runs in the precision asked for; says what was chosen. */
export async function inPrecision(
  { listener }: RunContext,
  model: Model,
  wanted: Precision,
  source: ImageSource,
  items: readonly Item[],
): Promise<Model> {
  if (wanted === "float32") return model;
  const { int8, reason } = await choosePrecision(model, { wanted, pixels: await someImages(model, source, items) });
  listener.info?.(`precision ${reason}`);
  return withInt8(model, int8);
}

/** The model with products in 8 bits, where these were settled; the given one is disposed then. */
export async function withInt8(model: Model, int8: Int8Options | undefined): Promise<Model> {
  if (!int8) return model;
  await model.dispose();
  return new Model(model, model.device, { int8 });
}
