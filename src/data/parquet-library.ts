// What parquet files are read with, in a module of its own: it is large, and loaded when the first such file is met.
export { parquetMetadataAsync, parquetReadObjects } from "hyparquet";
export { boundedCompressors } from "./parquet-pages.ts";
