// Features on disk, in the user's cache folder: safetensors with the pictures' names and stamps beside them.
import { join } from "node:path";
import { readSafetensors, writeSafetensors } from "../../checkpoints/safetensors.ts";
import type { FeatureStore } from "../../evaluation/feature-store.ts";
import { UserError } from "../../utils/errors.ts";
import type { FloatTensor, Tensor } from "../../utils/tensor.ts";
import { openFile, writeFileSafely } from "./node-files.ts";
import { userCacheFolder } from "./user-folders.ts";

function usualFolder(): string {
  return join(userCacheFolder(), "wecolora", "features");
}

/** A folder of features, one file a model and data set. */
export function nodeFeatureStore(folder: string = usualFolder()): FeatureStore {
  const pathOf = (key: string) => join(folder, `${key.slice(0, 32)}.safetensors`);
  return {
    async load(key) {
      const file = await openFile(pathOf(key));
      if (!file) return undefined;
      try {
        const { tensors } = await readSafetensors(file);
        const texts = (name: string) =>
          JSON.parse(new TextDecoder().decode(tensors.get(name)?.data as Uint8Array | undefined)) as string[];
        const [names, stamps] = [texts("names"), texts("stamps")];
        const features = tensors.get("features") as FloatTensor | undefined;
        if (features?.dims.length !== 2 || features.dims[0] !== names.length || stamps.length !== names.length)
          return undefined;
        return { names, stamps, features };
      } catch (error) {
        // A file that is cut off, or of another version, is written anew.
        if (error instanceof UserError || error instanceof SyntaxError) return undefined;
        throw error;
      } finally {
        await file.close();
      }
    },
    async save(key, { names, stamps, features }) {
      const texts = (list: readonly string[]): Tensor => {
        const data = new TextEncoder().encode(JSON.stringify(list));
        return { type: "uint8", dims: [data.length], data };
      };
      // Names stand in tensors of their own: a header of millions of them would be too long for other readers.
      const tensors = new Map<string, Tensor>([
        ["features", features],
        ["names", texts(names)],
        ["stamps", texts(stamps)],
      ]);
      await writeFileSafely(pathOf(key), writeSafetensors(tensors));
    },
  };
}
