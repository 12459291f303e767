// The worker that decodes images and makes views of them, beside the thread that runs the model.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { workerData } from "node:worker_threads";
import sharp from "sharp";
import type { AugmentedCrop } from "../../data/loader.ts";
import { largestImageFile } from "../../data/image-formats.ts";
import type { ImageContent, Where } from "../../data/image-reader.ts";
import { fileOf, ImageReader } from "../../data/image-reader.ts";
import { PlaceReader } from "../../data/places.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { decodeImage } from "./decode-image.ts";
import { openFile, readWhole } from "./node-files.ts";
import { serve } from "./rpc.ts";

// One thread an image: the cores are needed by the model.
sharp.concurrency(1);
sharp.cache(false);

/** The data set's folder; images that are files of their own are named by their whole paths. */
const folder = workerData as string;
const reader = new ImageReader({
  nameOf: (where) => (typeof where === "string" ? where : join(folder, fileOf(where))),
  sizeOf: async (file) => (await stat(file).catch(() => undefined))?.size,
  read: (file) => readWhole(file, largestImageFile),
  places: new PlaceReader((file) => openFile(join(folder, file))),
  decode: decodeImage,
  hash: (bytes) => createHash("sha256").update(bytes).digest("hex"),
});

const methods = {
  evaluationCrop: (where: Where, preprocessing: Preprocessing) => reader.evaluationCrop(where, preprocessing),
  cropOfImage: (named: string, image: ImageContent, preprocessing: Preprocessing) =>
    reader.cropOfImage(named, image, preprocessing),
  augmentedCrop: (where: Where, name: string, crop: AugmentedCrop) => reader.augmentedCrop(where, name, crop),
  facts: (where: Where) => reader.facts(where),
  fingerprint: (where: Where) => reader.fingerprint(where),
};

serve(methods, (_, value) => (value instanceof Float32Array ? [value.buffer as ArrayBuffer] : []));
