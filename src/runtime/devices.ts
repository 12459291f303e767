// The devices that graphs can run on: one row each. Whatever differs by device is read from here.

/** Which operators graphs may use: ONNX Runtime's own too, or those of ONNX alone. */
export type OperatorSet = "onnxruntime" | "portable";

/** How many images of a training step are in memory at once where a run is left to choose, and the least that are near enough. */
export interface PartSizes {
  readonly default: number;
  readonly least: number;
}

export interface DeviceRow<Name extends string = string> {
  /** What `--device` takes. */
  readonly name: Name;
  /** Other spellings of it. */
  readonly aliases: readonly string[];
  /** ONNX Runtime's execution provider. */
  readonly provider: string;
  /**
   * `portable` where the provider has no kernels for ONNX Runtime's own operators and would leave them to the CPU, with copies
   * there and back: on WebGPU a step took 18 times as long with them (dev/performance.md).
   */
  readonly operators: OperatorSet;
  /** Whether tensors lie in the process's memory: it has threads, loops over tensors in place, and outputs in memory handed in. */
  readonly inProcess: boolean;
  /** Whether tensors stay in the device's own memory from one run to the next, by copies (gpu-memory.ts). */
  readonly ownMemory: boolean;
  /** Images at once, and with gradient checkpointing, which spares memory. */
  readonly parts: { readonly plain: PartSizes; readonly checkpointing: PartSizes };
  /** What it needs, for the message where it can't be used; left out where it is always there. */
  readonly needs?: string;
}

/** More images at once are no faster on a CPU and take more memory (dev/performance-notes.md). */
const cpuParts = { plain: { default: 8, least: 6 }, checkpointing: { default: 4, least: 3 } };
/** A GPU gains by more at once. */
const gpuParts = { plain: { default: 16, least: 6 }, checkpointing: { default: 16, least: 6 } };
const gpu = { inProcess: false, ownMemory: false, parts: gpuParts } as const;

export const devices = [
  {
    name: "cpu",
    aliases: [],
    provider: "cpu",
    operators: "onnxruntime",
    inProcess: true,
    ownMemory: false,
    parts: cpuParts,
  },
  {
    ...gpu,
    name: "cuda",
    aliases: [],
    provider: "cuda",
    operators: "onnxruntime",
    needs:
      "it needs an NVIDIA GPU, CUDA's libraries, and ONNX Runtime's files for CUDA beside onnxruntime-node's own (npm rebuild onnxruntime-node --ignore-scripts=false fetches them)",
  },
  {
    ...gpu,
    name: "webgpu",
    aliases: [],
    provider: "webgpu",
    operators: "portable",
    ownMemory: true,
    needs: "it needs a GPU with a driver that the system finds (on Linux libvulkan.so.1)",
  },
  { ...gpu, name: "coreml", aliases: [], provider: "coreml", operators: "portable", needs: "it needs macOS" },
  {
    ...gpu,
    name: "dml",
    aliases: ["directml"],
    provider: "dml",
    operators: "onnxruntime",
    needs: "it needs Windows",
  },
] as const satisfies readonly DeviceRow[];

/** Where graphs can run, by the names that ONNX Runtime's users know. */
export type DeviceName = (typeof devices)[number]["name"];
/** The device that is used where none is named. */
export const defaultDeviceName: DeviceName = "cpu";

export type DeviceSpelling = DeviceName | (typeof devices)[number]["aliases"][number];

/** All spellings: names and aliases. */
export const deviceSpellings: readonly DeviceSpelling[] = devices.flatMap(({ name, aliases }): DeviceSpelling[] => [
  name,
  ...aliases,
]);

/** The device of a spelling; undefined where there is none. */
export const findDevice = (spelling: unknown): DeviceRow<DeviceName> | undefined =>
  devices.find(({ name, aliases }: DeviceRow) => name === spelling || aliases.some((alias) => alias === spelling));

/** The device of a name. */
export function deviceOf(name: DeviceName): DeviceRow<DeviceName> {
  const device = findDevice(name);
  if (!device) throw new Error(`there is no device ${name}`);
  return device;
}

/** What is known of an execution provider; of one that is in no row, such as the browser's `wasm`, what holds for most. */
export const providerTraits = (provider: string): Pick<DeviceRow, "operators" | "inProcess" | "ownMemory"> =>
  devices.find((device) => device.provider === provider) ?? {
    operators: "onnxruntime",
    inProcess: false,
    ownMemory: false,
  };
