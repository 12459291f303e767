// The options of tables, which several formats read: lists, parquet files, and metadata files in folders and archives.
import type { z } from "zod";
import { listOption, wordOption } from "../../utils/option-shapes.ts";

export const tableOptions = {
  imageColumn: wordOption.optional().describe("the column of paths in a table (path, file, image, ...)"),
  labelColumns: listOption(wordOption)
    .optional()
    .describe("column of classes in a table, or several columns of 0 and 1")
    .meta({ note: "Several columns of 0 and 1 are labels that may all apply to an image." }),
};

/** The column of paths, or of images; and the column of classes, or several columns of 0 and 1 that may all apply. */
export type ListOptions = z.output<z.ZodObject<typeof tableOptions>>;
