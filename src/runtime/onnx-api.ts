// The part of ONNX Runtime's JavaScript API that is used; onnxruntime-node and onnxruntime-web both have it.

/** The package. */
export interface OnnxRuntime {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: Record<string, unknown>): Promise<OnnxSession>;
  };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => OnnxTensor;
}

export interface OnnxTensor {
  readonly type: string;
  readonly dims: readonly number[];
  /** Throws where the tensor is in a GPU's memory. */
  readonly data: unknown;
  readonly location?: string;
  dispose?(): void;
}

export interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly outputMetadata: readonly {
    readonly name: string;
    readonly type?: string;
    readonly shape?: readonly (number | string)[];
  }[];
  run(
    feeds: Record<string, OnnxTensor>,
    fetches: Record<string, OnnxTensor | null>,
  ): Promise<Record<string, OnnxTensor>>;
  release(): Promise<void>;
  endProfiling?(): void;
}
