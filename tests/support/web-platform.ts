// onnxruntime-web on Node, with Node's decoders: the library for browsers where there is none.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import * as runtime from "onnxruntime-web";
import sharp from "sharp";
import { decodeImage } from "../../src/platform/node/decode-image.ts";
import { encodeSvg } from "../../src/platform/node/encode-svg.ts";
import type { ImageEncoder, Wecolora, WecoloraOptions } from "../../src/platform/web/web.ts";
import { createWecolora } from "../../src/platform/web/web.ts";
import type { RgbImage } from "../../src/utils/image.ts";

const raw = ({ width, height, data }: RgbImage) => sharp(data, { raw: { width, height, channels: 3 } });
const encoder: ImageEncoder = {
  encodePng: (image) => raw(image).png().toBuffer(),
  encodeJpeg: (image) => raw(image).jpeg({ quality: 78 }).toBuffer(),
};

export const webOnNode = (options: Partial<WecoloraOptions> = {}): Wecolora =>
  createWecolora({ runtime, device: "cpu", threads: 2, decode: decodeImage, encoder, encodeSvg, ...options });

/** A folder's files as a browser gives those of a folder that was chosen. */
export async function filesBelow(folder: string, name = folder.split("/").at(-1) ?? "folder"): Promise<File[]> {
  const files: File[] = [];
  const walk = async (inner: string) => {
    for (const entry of await readdir(join(folder, inner), { withFileTypes: true })) {
      const path = inner === "" ? entry.name : `${inner}/${entry.name}`;
      if (entry.isDirectory()) await walk(path);
      else {
        const file = new File([await readFile(join(folder, path))], entry.name);
        Object.defineProperty(file, "webkitRelativePath", { value: `${name}/${path}` });
        files.push(file);
      }
    }
  };
  await walk("");
  return files;
}
