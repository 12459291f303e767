// ONNX files whose linear maps are in 4 bits, by ONNX Runtime's own MatMulNBits, as transformers.js's conversion makes them:
// blocks of 32 along the inputs. Maps outside of blocks have 8 bits, all other weights are stored as float16. Weights of 2 and
// 3 bits are stored as such, and become numbers of 4 bits when a file is opened.
import { z } from "zod";
import { toHalf } from "../engine/passes/half-precision.ts";
import type { FindPacked } from "../engine/passes/few-bits.ts";
import { packProducts, storeConstantsInHalf, storeInFewerBits } from "../engine/passes/few-bits.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { Model } from "../models/model.ts";
import { packRows } from "../students/bits/pack.ts";
import type { QuantizedModel } from "../students/bits/quantize-weights.ts";
import { compensatedRounding, quantizeWeights } from "../students/bits/quantize-weights.ts";
import { required } from "../utils/required.ts";
import { wholeOf } from "../utils/offloaded.ts";
import { elementBytes } from "../utils/tensor.ts";
import { writeOnnxDirectory } from "./directories.ts";
import type { Tolerance } from "./export-format.ts";
import { defineExport } from "./export-format.ts";
import { checkPlaces, openOnnx } from "./onnx-export.ts";
import type { OnnxVariant } from "./onnx-file.ts";
import { onnxWeightFiles } from "./onnx-file.ts";

/** Options of all exports in few bits. */
const options = {
  bits: z
    .union([z.literal(2), z.literal(3), z.literal(4)])
    .default(4)
    .describe("bits of a weight in 4-bit exports: fewer make smaller files"),
  accuracyLevel: z
    .union([z.literal(0), z.literal(4)])
    .default(0)
    .describe("4-bit products: 0 computes in floats, 4 quantizes them to int8"),
  blockSize: z
    .union([z.literal(32), z.literal(64), z.literal(128)])
    .default(32)
    .describe("4-bit weights that share a scale: more take fewer bytes"),
};
type FewBitsOptions = z.output<z.ZodObject<typeof options>>;
const defaults: FewBitsOptions = z.object(options).parse({});

/** Finds a model's packed maps by where their weights lie: q, k and v are rows of one. */
function packedIn({ definition, maps }: QuantizedModel): FindPacked {
  const places = new Map(
    [...maps.keys()].map((name) => {
      const { whole, offset } = wholeOf(required(definition.weights, name));
      return [whole, { name, offset }] as const;
    }),
  );
  return (matrix, outputs) => {
    const { whole, offset } = wholeOf(matrix);
    const place = places.get(whole);
    if (!place) return undefined;
    const map = required(maps, place.name);
    const from = (offset - place.offset) / (elementBytes.float32 * map.inputs);
    const part = outputs === map.outputs ? place.name : `${place.name}.${from / outputs}`;
    return { weights: packRows(map, from, from + outputs), name: part };
  };
}

interface FewBits<Name extends string> {
  readonly name: Name;
  readonly summary: string;
  readonly dtype: string;
  readonly file: string;
  /** Whether it computes in float16, rather than in float32. */
  readonly half: boolean;
  /** Whether searches try it unasked. */
  readonly searched: boolean;
}

/** Bytes of a weight with its share of scale and zero point, about. */
const bytesPerWeight = ({ bits, blockSize }: Pick<FewBitsOptions, "bits" | "blockSize">): number =>
  (bits + (16 + 4) / blockSize) / 8;

/**
 * About three times what rounding without images does to the demo's teacher in 4 bits, twice in 3. 2 bits are out of bounds
 * without images, which leave a cosine of 0.16 there.
 */
const tolerances: Readonly<Record<FewBitsOptions["bits"], Tolerance>> = {
  4: { relativeDifference: 0.5, cosine: 0.85, reason: "4 bits: 15 steps over the range of a block" },
  3: { relativeDifference: 1, cosine: 0.6, reason: "3 bits: 7 steps over the range of a block" },
  2: { relativeDifference: 1.5, cosine: 0.3, reason: "2 bits that are rounded for images" },
};

/** What searches try: scales of smaller blocks would take as many bytes as more weights do. */
const tried = [
  ...([32, 64, 128] as const).map((blockSize) => ({ bits: 4 as const, blockSize })),
  ...([3, 2] as const).map((bits) => ({ bits, blockSize: 128 as const })),
];

/** An export in few bits. */
export function defineFewBitsExport<const Name extends string>({ half, file, searched, ...rest }: FewBits<Name>) {
  const variantOf = (quantized: QuantizedModel, accuracyLevel: 0 | 4): OnnxVariant => ({
    file,
    weightType: half ? "float16" : "float32",
    prepare: (graph) => packProducts(graph, packedIn(quantized), accuracyLevel),
    convert: (graph) => storeInFewerBits(half ? toHalf(graph) : storeConstantsInHalf(graph)),
  });
  return defineExport({
    ...rest,
    options,
    tolerance: tolerances[defaults.bits],
    toleranceWith: ({ bits }) => tolerances[bits],
    readsImages: true,
    mergesTokens: true,
    check: ({ config }) => checkPlaces(config, rest.name, { weightType: half ? "float16" : "float32" }),
    async write({ model, directory, warn, calibration, signal, options: { bits, accuracyLevel, blockSize } }) {
      const quantized = async (definition: ModelDefinition) => {
        const quantized = await quantizeWeights(definition, {
          bits,
          blockSize,
          ...(signal ? { signal } : {}),
          ...(calibration ? { calibration } : {}),
        });
        return { model: quantized.definition, variant: variantOf(quantized, accuracyLevel) };
      };
      await writeOnnxDirectory(model, directory, quantized, warn);
    },
    search: {
      tried: searched ? tried : [],
      async asComputed(model, { device, options: { bits, blockSize }, calibration, signal }) {
        const { definition } = await quantizeWeights(model, {
          ...{ bits, blockSize },
          ...(signal ? { signal } : {}),
          ...(calibration ? { calibration, ways: [compensatedRounding] } : {}),
        });
        return new Model(definition, device);
      },
    },
    open: (context) => openOnnx(context, { file }),
    files: onnxWeightFiles({ file }),
    bytesPerWeight: (_, given = defaults) => bytesPerWeight(given),
  });
}
