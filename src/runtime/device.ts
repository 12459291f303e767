// What the project asks of a runtime. Platforms hand in implementations; nothing here knows which one runs.
import type { LoopSource } from "../utils/loop-source.ts";
import type { OffloadedFile } from "../utils/offloaded.ts";
import type { FloatTensor, Tensor } from "../utils/tensor.ts";
import type { DeviceName, OperatorSet } from "./devices.ts";
import type { LoopArguments } from "./loop-runner.ts";

export type { DeviceName };

/** A model ready to be run: ONNX bytes, and weights that stand outside of it by location, or in files of one folder by name. */
export interface ModelSource {
  readonly model: Uint8Array;
  readonly externalData?: readonly { readonly location: string; readonly chunks: readonly Uint8Array[] }[];
  readonly offloadedFiles?: readonly OffloadedFile[];
}

/** A tensor that stays on the device between runs: adapters, optimizer state, accumulated gradients. */
export interface DeviceTensor {
  readonly kind: "device";
  readonly id: number;
  readonly dims: readonly number[];
}

export type Feed = Tensor | DeviceTensor;

export interface RunRequest {
  readonly feeds: Readonly<Record<string, Feed>>;
  /** Outputs to bring back as tensors. */
  readonly fetch?: readonly string[];
  /** Outputs to leave on the device. */
  readonly keep?: readonly string[];
  /** Begins even where the run that it belongs to is being stopped: half an update would spoil the state to be saved. */
  readonly mustFinish?: boolean;
}

export interface RunResult {
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly kept: Readonly<Record<string, DeviceTensor>>;
}

export interface Session {
  readonly outputNames: readonly string[];
  run(request: RunRequest): Promise<RunResult>;
  dispose(): Promise<void>;
}

/** Goes over tensors of the device element by element and changes some of them in place. */
export interface Loop {
  run(calls: readonly LoopArguments<DeviceTensor>[]): Promise<void>;
  dispose(): Promise<void>;
}

export interface SessionOptions {
  /** Threads that one operator may use; the device's where left out. */
  readonly threads?: number;
  /** Whether a session keeps memory for its next run (it does where left out); else each run asks the system for it. */
  readonly keepMemory?: boolean;
  /** Outputs of float32, which may stay in a GPU's memory. */
  readonly floats?: readonly string[];
  /** Whether weights are copied into the order that products read them in. Those in 8 bits are, where this is left out. */
  readonly packWeights?: boolean;
  /** Where ONNX Runtime writes a profile, for finding out what a step costs. */
  readonly profilePrefix?: string;
}

/** Where graphs run: a worker with ONNX Runtime on the CPU, a GPU, a browser. */
export interface Device {
  /** Which operators graphs may use: ONNX Runtime's own too where left out. */
  readonly operators?: OperatorSet;
  /** Which one it is; the CPU where left out. */
  readonly name?: DeviceName;
  /** Threads that one operator may use, where the device runs on the CPU. */
  readonly threads?: number;
  /** Another device of the same kind, with sessions and tensors of its own: the same one each time. What it runs runs beside this one's. */
  sibling?(): Device;
  createSession(source: ModelSource, options?: SessionOptions): Promise<Session>;
  /** Where tensors of the device lie in memory that can be changed in place. */
  createLoop?(source: LoopSource): Promise<Loop>;
  /**
   * Lays weights into a file that sessions read in place, where the device can: what comes back reads its numbers from there when
   * they are asked for. Small ones, and all where there is no room on the disk, come back as they are.
   */
  offload?(weights: ReadonlyMap<string, FloatTensor>): Promise<Map<string, FloatTensor>>;
  /** The tensor's memory may be changed afterwards; `own` says that the device may have it. */
  upload(tensor: Tensor, mayTake?: boolean): Promise<DeviceTensor>;
  /** A copy; or the tensor itself, released by this, where it says `take`. */
  download(tensor: DeviceTensor, take?: boolean): Promise<Tensor>;
  release(tensors: readonly DeviceTensor[]): Promise<void>;
  /**
   * Says that a tensor may lie in a file, from which runs read it. It does where all tensors in memory of which this was said would
   * take more than `most` bytes, and there is room on the disk.
   */
  allowOffload?(tensor: DeviceTensor, most: number): Promise<void>;
  /** Gives back memory that is held for tensors to come. */
  trim(): Promise<void>;
  /** Ends all sessions and frees what is held; the device can't be used afterwards. */
  dispose(): Promise<void>;
}
