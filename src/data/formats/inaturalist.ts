// iNaturalist as the competitions publish it: images below a folder, JSON annotations in COCO's manner.
import { z } from "zod";
import { UserError } from "../../utils/errors.ts";
import { shorten } from "../../utils/quote.ts";
import type { Classified, ListedSet } from "../dataset.ts";
import { listedDataSet } from "../dataset.ts";
import type { Skipped } from "../loader.ts";
import { unusedFile } from "../unused.ts";
import type { Contents } from "./data-format.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import { missingImage } from "./lists.ts";
import type { DataTree } from "./tree.ts";
import { isImageName, pathOf, textOf } from "./tree.ts";

const id = z.union([z.number(), z.string()]);
const annotationSchema = z.object({
  images: z.array(z.object({ id, file_name: z.string() })),
  annotations: z.array(z.object({ image_id: id, category_id: id })),
  categories: z.array(z.object({ id, name: z.string(), supercategory: z.string().optional() })),
});

/** Class names: unique, so the supercategory stands before those that are not. */
function namesOf(categories: z.output<typeof annotationSchema>["categories"]): Map<string | number, string> {
  const counts = new Map<string, number>();
  for (const { name } of categories) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map(
    categories.map(({ id: key, name, supercategory }) => [
      key,
      (counts.get(name) ?? 0) > 1 ? `${supercategory ?? ""}/${name}/${key}` : name,
    ]),
  );
}

interface Annotations {
  readonly train: string;
  readonly val: string;
}

/** A folder's `train*.json` and `val*.json`; undefined where it has not both. */
function annotationsIn({ files }: Contents): Annotations | undefined {
  const file = (part: string) => files.find((name) => new RegExp(`^${part}\\d{4}\\.json$`).test(name));
  const [train, val] = [file("train"), file("val")];
  return train === undefined || val === undefined ? undefined : { train, val };
}

async function openINaturalist(tree: DataTree, { train, val }: Annotations): Promise<ListedSet> {
  const walked = await tree.walk("", isImageName);
  const skipped: Skipped[] = walked.skipped.filter(({ name }) => name !== train && name !== val);
  const present = new Map(walked.names.map((name) => [name.normalize("NFC"), name]));
  const used = new Set<string>();
  let classes: string[] | undefined;
  const part = async (list: string): Promise<Classified[]> => {
    const named = pathOf(tree, list);
    let json: unknown;
    try {
      json = JSON.parse(await textOf(tree, list));
    } catch (error) {
      if (error instanceof UserError) throw error;
      throw new UserError(`${named} is not JSON (${shorten((error as Error).message)})`, { code: "INVALID_DATA" });
    }
    const parsed = annotationSchema.safeParse(json);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new UserError(`${named} is not an annotation file: ${issue.path.join(".")} ${issue.message}`, {
        code: "INVALID_DATA",
      });
    }
    const { images, annotations, categories } = parsed.data;
    const categoryNames = namesOf(categories);
    classes ??= [...categoryNames.values()];
    const categoryOf = new Map(annotations.map((a) => [a.image_id, a.category_id]));
    return images.flatMap(({ id: image, file_name: name }): Classified[] => {
      const category = categoryNames.get(categoryOf.get(image) ?? "");
      if (category === undefined)
        throw new UserError(`${named} has no category for the image ${shorten(name)}`, { code: "INVALID_DATA" });
      const file = present.get(name.normalize("NFC"));
      if (file === undefined) skipped.push(missingImage(list, name));
      else used.add(file);
      return file === undefined ? [] : [{ item: { name: file }, class: category }];
    });
  };
  const parts = { train: await part(train), val: await part(val) };
  for (const name of walked.names) if (!used.has(name)) skipped.push(unusedFile(name, "named in no list"));
  if (parts.train.length === 0)
    throw new UserError(
      `None of the images listed in ${pathOf(tree, train)} are there; paths are relative to ${tree.path}`,
      { code: "INVALID_DATA" },
    );
  return {
    ...listedDataSet(tree.path, { ...parts, skipped }, classes),
    name: train === "train2019.json" ? "inaturalist2019" : undefined,
  };
}

export const format = defineFormat({
  name: "inaturalist",
  summary: "iNaturalist as its competitions publish it",
  extensions: [],
  order: askedAs.published + 20,
  options: {},
  recognise: async (_, contents) => annotationsIn(contents),
  open: openINaturalist,
});
