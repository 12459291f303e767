/**
 * What a page needs of the library that runs in its worker, without the library itself.
 * @module wecolora/web/client
 */
export type { ProgressEvent, RunControls } from "../../context/progress.ts";
export { RunError, UserError } from "../../utils/errors.ts";
export type { MessageEnd } from "./channel.ts";
export { connectWecolora } from "./connect.ts";
export type { AttentionMaps, StudentSize } from "./insights.ts";
export type { RunReport } from "../../report/run-report.ts";
export type { ResultRow } from "../../report/results.ts";
export type { FrontierPoint } from "../../students/search/frontier.ts";
export type { MemoryNeeded } from "./memory.ts";
export { memoryNeeded, mostWasmBytes } from "./memory.ts";
export type { OutputTarget } from "./output.ts";
export { WebOutput } from "./output.ts";
export type { FileTree } from "./web-files.ts";
export type { PixelImage, WebImage } from "./web-images.ts";
export type { DirectoryInput, WebImages } from "./web-inputs.ts";
export type { WebModel, WebModelInput, WebPretrainedOptions, WebProgress } from "./web-models.ts";
export type {
  AnyModel,
  OutputControls,
  WebAttentionOptions,
  WebDistillOptions,
  WebDistillResult,
  Wecolora,
  WebEvaluateOptions,
  WebEvaluateResult,
  WebExportOptions,
  WebExportResult,
  WebFeaturesOptions,
  WebFeaturesResult,
  WebPredictOptions,
  WebReport,
  WebReportOptions,
} from "./local-wecolora.ts";
