// The worker that decodes pictures and makes views of them, beside the thread that runs the model.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { workerData } from "node:worker_threads";
import sharp from "sharp";
import type { AugmentedView } from "../../data/loader.ts";
import { largestImageFile } from "../../data/image-formats.ts";
import type { ImageContent, Where } from "../../data/picture-reader.ts";
import { fileOf, PictureReader } from "../../data/picture-reader.ts";
import { PlaceReader } from "../../data/places.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { decodeImage } from "./decode-image.ts";
import { openFile, readWhole } from "./node-files.ts";
import { serve } from "./rpc.ts";

// One thread a picture: the cores are needed by the model.
sharp.concurrency(1);
sharp.cache(false);

/** The data set's folder; images that are files of their own are named by their whole paths. */
const folder = workerData as string;
const reader = new PictureReader({
  nameOf: (where) => (typeof where === "string" ? where : join(folder, fileOf(where))),
  sizeOf: async (file) => (await stat(file).catch(() => undefined))?.size,
  read: (file) => readWhole(file, largestImageFile),
  places: new PlaceReader((file) => openFile(join(folder, file))),
  decode: decodeImage,
  hash: (bytes) => createHash("sha256").update(bytes).digest("hex"),
});

const methods = {
  evaluationView: (where: Where, preprocessing: Preprocessing) => reader.evaluationView(where, preprocessing),
  viewOfImage: (named: string, image: ImageContent, preprocessing: Preprocessing) =>
    reader.viewOfImage(named, image, preprocessing),
  augmentedView: (where: Where, name: string, view: AugmentedView) => reader.augmentedView(where, name, view),
  facts: (where: Where) => reader.facts(where),
  fingerprint: (where: Where) => reader.fingerprint(where),
};

serve(methods, (_, value) => (value instanceof Float32Array ? [value.buffer as ArrayBuffer] : []));
