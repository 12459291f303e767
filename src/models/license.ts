// The licence of a model, as its model card states it: YAML between two lines of `---` at the top of README.md.
// See https://huggingface.co/docs/hub/model-cards#model-card-metadata
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";

export interface License {
  /** An identifier of the hub, such as `apache-2.0`, or `other`. */
  readonly id: string;
  /** Where the identifier is `other`. */
  readonly name?: string;
  readonly link?: string;
}

/** Longer values are no names of licences. */
const longestValue = 300;

/** The licence that a model card states; undefined where it states none, or in a form that is not one line of text. */
export function licenseIn(card: string): License | undefined {
  const [, block] = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card) ?? [];
  const valueOf = (key: string): string | undefined => {
    const line = new RegExp(`^${key}:[ \\t]*(\\S.*)$`, "m").exec(block ?? "")?.[1].trim();
    const value = line?.replace(/^(["'])(.*)\1$/, "$2").trim();
    return value !== undefined && value.length <= longestValue && /^[\w./(]/.test(value) ? value : undefined;
  };
  const id = valueOf("license");
  if (id === undefined || !/^[\w.-]+$/.test(id)) return undefined;
  const [name, link] = [valueOf("license_name"), valueOf("license_link")];
  return { id, ...(name === undefined ? {} : { name }), ...(link === undefined ? {} : { link }) };
}

/** The licence that the card in a model's folder states; undefined where there is no card that can be read. */
export async function readLicense(directory: Directory): Promise<License | undefined> {
  try {
    return licenseIn((await readText(directory, "README.md")) ?? "");
  } catch (error) {
    // A card is beside the point: a model is read without one.
    if (error instanceof UserError) return undefined;
    throw error;
  }
}
