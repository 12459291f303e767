// Exports of one ONNX file beside its settings, and how other runtimes see them.
import { longestFile, readFile } from "../files/storage.ts";
import type { VitConfig } from "../models/config.ts";
import { prefixCount, tokenCount } from "../models/config.ts";
import { mergesTokens } from "../models/token-merging.ts";
import { RunError, UserError } from "../utils/errors.ts";
import type { OptionShape } from "../utils/option-shapes.ts";
import { elementBytes, zeros } from "../utils/tensor.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { writeOnnxDirectory } from "./directories.ts";
import type { Embedder, ExportFormat, OpenContext } from "./export-format.ts";
import { defineExport } from "./export-format.ts";
import type { OnnxVariant } from "./onnx-file.ts";
import { onnxWeightFiles } from "./onnx-file.ts";
import { badOutput } from "../models/finite-outputs.ts";

type OnnxExport<Name extends string> = Pick<
  ExportFormat<OptionShape, Name>,
  "name" | "summary" | "tolerance" | "search"
> & {
  readonly dtype: string;
  readonly variant: OnnxVariant;
  /** Where linear maps are in 8 bits; else as the variant's weights. */
  readonly bytesPerWeight?: number;
};

/** An export that is a variant's ONNX file. */
export const defineOnnxExport = <const Name extends string>({
  variant,
  bytesPerWeight = elementBytes[variant.weightType],
  ...rest
}: OnnxExport<Name>) =>
  defineExport({
    ...rest,
    options: {},
    mergesTokens: true,
    check: ({ config }) => checkPlaces(config, rest.name, variant),
    write: ({ model, directory, warn }) => writeOnnxDirectory(model, directory, variant, warn),
    open: (context) => openOnnx(context, variant),
    files: onnxWeightFiles(variant),
    bytesPerWeight: () => bytesPerWeight,
  });

/** Whole numbers that half precision can hold: what merging counts places with. */
const mostPlacesInHalf = 2048;

/** Throws a UserError where half precision can't count a merging model's tokens. */
export function checkPlaces(config: VitConfig, name: string, { weightType }: Pick<OnnxVariant, "weightType">): void {
  const tokens = tokenCount(config);
  if (weightType === "float16" && mergesTokens(config) && tokens > mostPlacesInHalf)
    throw new UserError(
      `${name} can't merge the tokens of this model: half precision counts ${mostPlacesInHalf} tokens at most, and an image has ${tokens}.`,
    );
}

/** Opens a variant's file as other runtimes do. */
export async function openOnnx(
  { directory, model: { device, config } }: OpenContext,
  { file }: Pick<OnnxVariant, "file">,
): Promise<Embedder> {
  const model = await readFile(directory, `onnx/${file}`, longestFile.graph);
  if (!model) throw new RunError(`${directory.describe(`onnx/${file}`)} is gone`, { code: "FILE_NOT_FOUND" });
  const dataFile = await readFile(directory, `onnx/${file}_data`, longestFile.graph);
  const externalData = dataFile ? [{ location: `${file}_data`, chunks: [dataFile] }] : [];
  // As other runtimes open it, so that the time is theirs.
  const session = await device.createSession({ model, externalData }, { packWeights: true });
  return {
    async pooled(pixels, images) {
      const name = hasPooledOutput(config) ? "pooler_output" : "last_hidden_state";
      const { tensors } = await session.run({ feeds: { pixel_values: pixels }, fetch: [name] });
      const tensor = tensors[name] as FloatTensor;
      const bad = badOutput({ [name]: tensor }, images);
      if (bad)
        throw new RunError(
          `The export in ${directory.describe(`onnx/${file}`)} gives ${bad.value} in ${name} for the image ${bad.image}, where the model's own features are finite.`,
          { code: "NOT_FINITE" },
        );
      return tensor.dims.length === 2 ? tensor : pooledTokens(tensor, config);
    },
    dispose: () => session.dispose(),
  };
}

/** Whether the ONNX file's `pooler_output` is what stands for an image. */
const hasPooledOutput = (config: VitConfig) => config.pooling === "attention" || config.finalNorm === "pooled";

/** Class token or mean of the patches, of `[B, N, D]`. */
function pooledTokens({ dims, data }: FloatTensor, config: VitConfig): FloatTensor {
  const [batch, count, width] = dims;
  const [from, to] = config.pooling === "mean" ? [prefixCount(config), count] : [0, 1];
  const out = zeros([batch, width]);
  for (let b = 0; b < batch; b++) {
    for (let n = from; n < to; n++) {
      for (let d = 0; d < width; d++) out.data[b * width + d] += data[(b * count + n) * width + d] / (to - from);
    }
  }
  return out;
}
