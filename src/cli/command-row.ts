// What the command line must know of a command before it runs: made from the commands' schemas by `npm run generate`
// (command-table.ts), so that help, versions and mistakes in options need not load the commands.

/** A property of JSON Schema, as far as the command line reads it. */
export interface Property {
  readonly type?: string;
  readonly description?: string;
  /** What stands for its value in help: `text` where it is no path. */
  readonly placeholder?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly items?: Property;
  readonly prefixItems?: readonly Property[];
  readonly anyOf?: readonly Property[];
  readonly oneOf?: readonly Property[];
}

export interface CommandRow {
  readonly name: string;
  readonly summary: string;
  /** Options that may stand behind the command's name without a flag, in this order. */
  readonly positional: readonly string[];
  /** Options by name (camelCase). */
  readonly options: Readonly<Record<string, Property>>;
  /** Options that can't be left out, unless `insteadOfAll` is given. */
  readonly required: readonly string[];
  readonly insteadOfAll?: string;
  /** By recipe, the defaults that it sets; the first is the default recipe's. */
  readonly recipes?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** What help says behind the options: lists that registries give. */
  readonly details?: string;
}
