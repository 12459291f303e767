// The library without a platform: what runs in any JavaScript engine. `wecolora/node` adds files and ONNX Runtime.
export type { DataSet, PictureFolder } from "./data/dataset.ts";
export type { PictureSource } from "./data/loader.ts";
export { evaluationBatches, TrainingLoader } from "./data/loader.ts";
export type { CreateDistillationOptions, Distillation, StepOptions, StepResult } from "./distill/distillation.ts";
export { createDistillation } from "./distill/distillation.ts";
export type { DistillationInput, DistillationOptions } from "./distill/options.ts";
export { copyBlocks, everyNth } from "./distill/weight-copy.ts";
export type { SaveOptions } from "./export/save.ts";
export type { ForwardOptions, ForwardResult } from "./model.ts";
export { Model } from "./model.ts";
export type { VitConfig } from "./models/config.ts";
export type { ModelDefinition } from "./models/definition.ts";
export { createOnnxDevice } from "./runtime/onnxruntime.ts";
export type { Device } from "./runtime/types.ts";
export { RunError, UserError } from "./utils/errors.ts";
export type { Preprocessing } from "./utils/picture.ts";
export type { DataType, FloatTensor, Tensor } from "./utils/tensor.ts";
