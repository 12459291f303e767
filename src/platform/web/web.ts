/**
 * The library in browsers, and wherever else onnxruntime-web runs: Node, Deno, Electron's renderers.
 * @module wecolora/web
 */
export * from "../../index.ts";
export type { ProgressEvent, RunControls } from "../../context/progress.ts";
export type { Decode } from "../../data/image-reader.ts";
export { connectWecolora } from "./connect.ts";
export { serveWecolora } from "./serve.ts";
export type { MessageEnd } from "./channel.ts";
export type { EncodeSvg, ImageEncoder } from "./drawing.ts";
export { packageVersion } from "./web-environment.ts";
export type { HubOptions } from "./hub.ts";
export type { AttentionMaps, StudentSize } from "./insights.ts";
export type { RunReport } from "../../report/run-report.ts";
export type { ResultRow } from "../../report/results.ts";
export type { FrontierPoint } from "../../students/search/frontier.ts";
export type { MemoryNeeded } from "./memory.ts";
export { memoryNeeded, mostWasmBytes } from "./memory.ts";
export type { OutputTarget } from "./output.ts";
export { WebOutput } from "./output.ts";
export type { RuntimeSource, WebDeviceName, WebDeviceOption, WebRuntime } from "./web-device.ts";
export { createWebDevice } from "./web-device.ts";
export { blobDirectory, fileListDirectory, handleDirectory } from "./web-files.ts";
export type { PixelImage, WebImage } from "./web-images.ts";
export type { FileTree } from "./web-files.ts";
export type { DirectoryInput, WebImages } from "./web-inputs.ts";
export type { WebModel, WebModelInput, WebPretrainedOptions, WebProgress } from "./web-models.ts";
export type {
  AnyModel,
  OutputControls,
  WebDistillOptions,
  WebDistillResult,
  Wecolora,
  WecoloraOptions,
  WebEvaluateOptions,
  WebEvaluateResult,
  WebExportOptions,
  WebExportResult,
  WebFeaturesOptions,
  WebFeaturesResult,
  WebAttentionOptions,
  WebPredictOptions,
  WebReport,
  WebReportOptions,
} from "./local-wecolora.ts";
export { createWecolora } from "./local-wecolora.ts";
export { preload } from "./preload.ts";
