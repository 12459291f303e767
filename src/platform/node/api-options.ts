// How the API's functions take a command's options: images by that name, models that are loaded already, methods of one's own.
import type { z } from "zod";
import type { DistillOptions } from "../../commands/options.generated.ts";
import type { Model } from "../../models/model.ts";
import type { Method, OptionShape } from "../../students/methods/method.ts";
import { UserError } from "../../utils/errors.ts";
import { PretrainedModel } from "./pretrained.ts";

/** Where a path to a model may stand, a model of `fromPretrained` may, too; the run decides on device and precision anew. */
type OrModel<T> =
  T | PretrainedModel | (Extract<T, readonly string[]> extends never ? never : (string | PretrainedModel)[]);

type Fields<Options> = {
  [K in keyof Options as K extends "data" ? never : K]: K extends "teacher" | "model"
    ? OrModel<Options[K]>
    : Options[K];
};

/** The images: `data` by another name, where a command has no option `images` of its own; one of the two is given. */
type ImagesOf<Options> = "images" extends keyof Options
  ? Pick<Options, Extract<keyof Options, "data">>
  : Options extends { data: string }
    ? { data: string; images?: undefined } | { images: string; data?: undefined }
    : "data" extends keyof Options
      ? { data?: string; images?: string }
      : unknown;

/** A command's options as functions take them: `images` may stand for `data`, and loaded models for paths. */
export type ApiOptions<Options> = Fields<Options> & ImagesOf<Options>;

/** Options of `distill` with a method of the caller's, and the method's own options. */
export type DistillWithMethod<Own extends OptionShape> = ApiOptions<Omit<DistillOptions, "method">> & {
  readonly method: Method<Own>;
} & z.input<z.ZodObject<Own>>;

/**
 * The options as the command takes them, and the models that they hold by the names that stand for them. `own` are the
 * names of the command's options.
 */
export function commandOptions(
  given: object,
  apiOptions: object,
): {
  readonly options: Record<string, unknown>;
  readonly models: ReadonlyMap<string, Model>;
} {
  const models = new Map<string, Model>();
  const named = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(named);
    if (!(value instanceof PretrainedModel)) return value;
    const other = models.get(value.source);
    if (other && other !== value)
      throw new UserError(`Two different models that were loaded from ${value.source} can't be told apart in one run.`);
    models.set(value.source, value);
    return value.source;
  };
  const all = "images" in apiOptions ? { ...given } : imagesAsData(given);
  return {
    options: Object.fromEntries(
      Object.entries(all).map(([name, value]) => [name, name === "teacher" || name === "model" ? named(value) : value]),
    ),
    models,
  };
}

/** Options with `images` under the name that commands have for them. */
function imagesAsData(given: object): Record<string, unknown> {
  const { images, ...rest } = given as Record<string, unknown>;
  if (images === undefined) return rest;
  if (rest.data !== undefined)
    throw new UserError("Give images or data, not both: they name the same.", { code: "INVALID_OPTION" });
  return { ...rest, data: images };
}
