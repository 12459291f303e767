// A data set as downloaded: what it is, is seen from its files. Formats are asked in their order (lookup.ts).
import { z } from "zod";
import { UserError } from "../../utils/errors.ts";
import { withOptionsOf } from "../../utils/option-shapes.ts";
import { parseOptions } from "../../utils/parse-options.ts";
import type { DataSet, ListedSet } from "../dataset.ts";
import { unusedOf } from "../dataset.ts";
import type { DataSetName } from "../protocols.ts";
import { dataSetNames, protocols } from "../protocols.ts";
import { splitHeldOut } from "../sampling.ts";
import { countUnused } from "../unused.ts";
import { contentsOf } from "./contents.ts";
import { NoImages } from "./data-format.ts";
import { allFormats, fileEndings } from "./lookup.ts";
import { dataFormatOptions } from "./registry.ts";
import type { DataTree } from "./tree.ts";
import { shownImageEndings } from "./tree.ts";

const openSchema = z.strictObject({
  dataSet: z.enum(dataSetNames).optional().describe("which published set it is, where it does not show"),
  seed: z.number().int().default(0).describe("seed of a split that the set comes without"),
  ...dataFormatOptions,
});

/** What `openDataSet` takes: options of all formats, of those that are registered too. */
export type OpenOptions = z.input<typeof openSchema> & Readonly<Record<string, unknown>>;

/** Opens a data set by the first format that recognises it. Throws a UserError that names what is wrong where. */
export async function openDataSetIn(tree: DataTree, input: OpenOptions = {}): Promise<DataSet> {
  const options = parseOptions(withOptionsOf(openSchema, allFormats()), input, "options of openDataSet");
  const dataSet = await openFormat(tree, options);
  const name = options.dataSet ?? dataSet.name;
  const set = name === undefined ? dataSet : withProtocol({ ...dataSet, name }, options.seed);
  return { ...set, unused: countUnused(unusedOf(set)) };
}

async function openFormat(tree: DataTree, options: z.output<typeof openSchema>): Promise<ListedSet> {
  const { file } = tree;
  const formats =
    file === undefined
      ? allFormats()
      : allFormats().filter(({ extensions }) => extensions.some((ending) => file.toLowerCase().endsWith(ending)));
  const contents = await contentsOf(tree);
  for (const format of formats) {
    const seen = await format.recognise(tree, contents, options);
    if (seen === undefined) continue;
    try {
      return await format.open(tree, seen, options);
    } catch (error) {
      if (!(error instanceof NoImages)) throw error;
      throw new UserError(`${error.message} Supported are ${shownImageEndings}, and ${fileEndings()}.`, {
        code: "NO_IMAGES",
      });
    }
  }
  throw new UserError(`${tree.path}/${file} is a file; a folder of images is needed, or a ${fileEndings()}.`, {
    code: "INVALID_DATA",
  });
}

/** What the published protocol adds: a split by class, where the set comes without one. */
function withProtocol(data: ListedSet & { readonly name: DataSetName }, seed: number): ListedSet {
  const { trainShare } = protocols[data.name];
  if (trainShare === undefined || data.test) return data;
  const { rest, heldOut } = splitHeldOut(data.train.items, 1 - trainShare, Number.POSITIVE_INFINITY, seed);
  return { ...data, train: { ...data.train, items: rest }, test: { ...data.train, items: heldOut, skipped: [] } };
}
