// An export of your own: weights as bare little-endian float32 in one file, with a JSON index beside it. A program in any
// language reads it without a library.
//
//     registerExport(flatWeights);
//     await exportModel({ model: "runs/first", to: "flat-weights" });
//
// The command measures it as it measures its own exports: it is loaded again by `open`, its pooled features are compared
// with the model's, and an export beyond `tolerance` is an error.
import { defineExport, embedderOf, exactTolerance, Model, UserError } from "wecolora";
import type { FloatTensor } from "wecolora";
import { z } from "zod";

const [indexFile, weightsFile] = ["weights.json", "weights.bin"];

const indexSchema = z.array(z.object({ name: z.string(), dims: z.array(z.number()), offset: z.number() }));

export const flatWeights = defineExport({
  name: "flat-weights",
  summary: "bare float32 weights with a JSON index",
  options: {
    alignment: z.number().int().positive().multipleOf(4).default(64).describe("weights begin at multiples of it"),
  },
  async write({ model, directory, options: { alignment } }) {
    const index: z.output<typeof indexSchema> = [];
    const chunks: Uint8Array[] = [];
    let offset = 0;
    for (const [name, { dims, data }] of model.weights) {
      index.push({ name, dims: [...dims], offset });
      const length = Math.ceil((4 * data.length) / alignment) * alignment;
      const chunk = new Uint8Array(length);
      const view = new DataView(chunk.buffer);
      data.forEach((value, i) => view.setFloat32(4 * i, value, true));
      chunks.push(chunk);
      offset += length;
    }
    await directory.write(weightsFile, chunks);
    // The index last: a directory with one is whole.
    await directory.write(indexFile, [new TextEncoder().encode(JSON.stringify(index))]);
  },
  async open({ directory, model }) {
    const read = async (entry: string): Promise<Uint8Array> => {
      const file = await directory.open(entry);
      if (!file) throw new UserError(`There is no ${directory.describe(entry)}.`);
      const bytes = new Uint8Array(file.size);
      await file.readInto(0, bytes).finally(() => file.close());
      return bytes;
    };
    const index = indexSchema.parse(JSON.parse(new TextDecoder().decode(await read(indexFile))));
    const { buffer } = await read(weightsFile);
    const view = new DataView(buffer);
    const weights = new Map(
      index.map(({ name, dims, offset }): [string, FloatTensor] => {
        const length = dims.reduce((product, dim) => product * dim, 1);
        const data = Float32Array.from({ length }, (_, i) => view.getFloat32(offset + 4 * i, true));
        return [name, { type: "float32", dims, data }];
      }),
    );
    // What the files don't hold is the model's: its configuration, and the device to run on.
    return embedderOf(new Model({ ...model, weights }, model.device));
  },
  files: [weightsFile],
  bytesPerWeight: () => 4,
  tolerance: exactTolerance,
});
