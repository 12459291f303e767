// The library without a platform: what runs in any JavaScript engine. `wecolora/node` adds files and ONNX Runtime.
export type { DataSet, OtherSplit, ImageFolder } from "./data/dataset.ts";
export type { UnusedFiles } from "./data/unused.ts";
export type { ImageSource } from "./data/loader.ts";
export { evaluationBatches, TrainingLoader } from "./data/loader.ts";
export type { AnalyticOptions, AnalyticStart } from "./students/closed-form/closed-form.ts";
export type { Calibration, QuantizedModel, QuantizeOptions } from "./students/bits/quantize-weights.ts";
export { quantizeDefaults, quantizeWeights } from "./students/bits/quantize-weights.ts";
export { analyticDefaults, analyticDefaultsFor, analyticStart } from "./students/closed-form/closed-form.ts";
export type { MergedRefit, MergedRefitOptions } from "./students/closed-form/refit-merged.ts";
export { mergedRefitDefaults, refitMerged } from "./students/closed-form/refit-merged.ts";
export type {
  MergingChoice,
  MergingPoint,
  MergingSearchOptions,
  MergingTarget,
} from "./students/search/merging-search.ts";
export { blockOperations, chooseMerging } from "./students/search/merging-search.ts";
export { mergingOf } from "./models/token-merging.ts";
export { rankCuts } from "./students/search/cut-costs.ts";
export { blockBudget, studentsOfSizes } from "./students/search/sizes.ts";
export { budgetDefaults, shapeForBudget, wholeBudget } from "./students/search/shape-for-budget.ts";
export type {
  CreateDistillationOptions,
  Distillation,
  StepOptions,
  StepResult,
} from "./students/training/distillation.ts";
export { createDistillation } from "./students/training/distillation.ts";
export type { DistillationInput, DistillationOptions } from "./students/distillation-options.ts";
export type { Method, MethodContext, MethodOptions, OptionShape } from "./students/methods/method.ts";
export { defineMethod } from "./students/methods/method.ts";
export * as methodParts from "./students/methods/parts.ts";
export { registerMethod } from "./students/methods/lookup.ts";
export { weightTrainables } from "./students/training/weights-trainables.ts";
export { copyBlocks, everyNth } from "./students/kept-blocks.ts";
export type { SaveOptions } from "./exports/save.ts";
export type {
  Embedder,
  ExportFormat,
  OpenContext,
  RunOrigin,
  Tolerance,
  WriteContext,
} from "./exports/export-format.ts";
export { defineExport, embedderOf, exactTolerance } from "./exports/export-format.ts";
export { registerExport } from "./exports/lookup.ts";
export type { Contents, DataFormat } from "./data/formats/data-format.ts";
export { askedAs, defineFormat } from "./data/formats/data-format.ts";
export { registerFormat } from "./data/formats/lookup.ts";
export type { DataTree } from "./data/formats/tree.ts";
export { textOf } from "./data/formats/tree.ts";
export type { Classified, ListedSet } from "./data/dataset.ts";
export { listedDataSet } from "./data/dataset.ts";
export { writeModel } from "./exports/save.ts";
export { memoryDirectory } from "./files/memory-directory.ts";
export type { Directory, FileHandle } from "./files/storage.ts";
export type { ForwardOptions, ForwardResult } from "./models/model.ts";
export { Model } from "./models/model.ts";
export type { VitConfig } from "./models/config.ts";
export { plainVit } from "./models/config.ts";
export type { ModelDefinition, ReadOptions } from "./models/definition.ts";
export { readModel } from "./models/definition.ts";
export { resamplePositions } from "./models/positions.ts";
export type { Int8Options, PrecisionChoice, PrecisionQuestion } from "./models/precision.ts";
export { choosePrecision } from "./models/precision.ts";
export type { OnnxRuntime } from "./runtime/onnx-api.ts";
export type { OnnxDeviceOptions } from "./runtime/onnxruntime.ts";
export { createOnnxDevice } from "./runtime/onnxruntime.ts";
export type { Device } from "./runtime/device.ts";
export { RunError, UserError } from "./utils/errors.ts";
export type { Preprocessing } from "./utils/image.ts";
export type { DataType, FloatTensor, Tensor } from "./utils/tensor.ts";
export type { Features } from "./evaluation/extract-features.ts";
export { extractFeatures } from "./evaluation/extract-features.ts";
export {
  paintedKind,
  proceduralImage,
  proceduralKinds,
  proceduralVersion,
} from "./data/procedural/procedural-image.ts";
