// Shapes that options are made of, for schemas whose keys come from registries.
import { z } from "zod";
import { UserError } from "./errors.ts";

/** Options by name: each with its default, and a description that is its help. */
export type OptionShape = Readonly<Record<string, z.ZodType>>;

/** One or several. */
export const listOption = <T extends string>(what: z.ZodType<T, T>) =>
  z.union([what, z.array(what).min(1)]).transform((value): T[] => (Array.isArray(value) ? value : [value]));

/** Text that is no path: help says so. */
export const wordOption = z.string().min(1).meta({ placeholder: "text" });

interface Owner {
  readonly name: string;
  readonly options: OptionShape;
}

/** A schema that takes the own options of `owners` too. Throws a UserError where one of their names is taken. */
export function withOptionsOf<S extends z.ZodObject>(schema: S, owners: readonly Owner[]): S {
  const shape: Record<string, z.ZodType> = {};
  for (const { name, options } of owners)
    for (const [key, option] of Object.entries(options)) {
      const present = shape[key] ?? schema.shape[key];
      if (present !== undefined && present !== option)
        throw new UserError(`${name} has an option ${key}, which means something else already.`);
      shape[key] = option;
    }
  return schema.extend(shape) as S;
}

/** The first option given that some of `owners` have and none of the `chosen` ones, and who has it; a default asks for nothing. */
export function unreadOption(
  given: object,
  owners: readonly Owner[],
  chosen: readonly Owner[],
): { option: string; having: string[] } | undefined {
  for (const [option, value] of Object.entries(given)) {
    if (value === undefined || chosen.some(({ options }) => option in options)) continue;
    const having = owners.filter(({ options }) => option in options);
    if (having.length === 0 || isDefault(having[0].options[option], value)) continue;
    return { option, having: having.map(({ name }) => name) };
  }
  return undefined;
}

function isDefault(option: z.ZodType, value: unknown): boolean {
  const given = option.safeParse(undefined);
  return given.success && given.data !== undefined && JSON.stringify(given.data) === JSON.stringify(value);
}
