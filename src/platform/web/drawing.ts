// Images and charts as files, and the document that charts are drawn in.
import { RunError } from "../../utils/errors.ts";
import type { RgbImage } from "../../utils/image.ts";
import { chartDocument } from "./svg-document.ts";

/** Images as PNG and JPEG files. */
export interface ImageEncoder {
  encodePng(image: RgbImage): Promise<Uint8Array>;
  encodeJpeg(image: RgbImage): Promise<Uint8Array>;
}

async function encode({ width, height, data }: RgbImage, options: ImageEncodeOptions): Promise<Uint8Array> {
  if (typeof OffscreenCanvas !== "function")
    throw new RunError("There is no canvas here to write images with: hand in encoder (wecolora/web).");
  const context = new OffscreenCanvas(width, height).getContext("2d");
  if (!context) throw new RunError("This browser gives no canvas to write images with.");
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) rgba.set(data.subarray(from, from + 3), to);
  context.putImageData(new ImageData(rgba, width, height), 0, 0);
  return new Uint8Array(await (await context.canvas.convertToBlob(options)).arrayBuffer());
}

/** By the browser's canvas; at the quality that Node's files have. */
export const canvasEncoder: ImageEncoder = {
  encodePng: (image) => encode(image, { type: "image/png" }),
  encodeJpeg: (image) => encode(image, { type: "image/jpeg", quality: 0.78 }),
};

/** Draws an SVG as a PNG file at twice its size. Browsers do it where there is a page, so workers ask theirs. */
export type EncodeSvg = (svg: string) => Promise<Uint8Array>;

/** By a page's own image element. */
export const encodeSvgOnPage: EncodeSvg = async (svg) => {
  const image = new Image();
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * image.naturalWidth, 2 * image.naturalHeight];
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new RunError("This browser can't draw a chart as PNG.");
    return new Uint8Array(await blob.arrayBuffer());
  } finally {
    URL.revokeObjectURL(url);
  }
};

/** What makes empty documents: the page's own, or one for charts alone where there is no page. */
export const documentMaker = (): (() => Document) =>
  typeof document === "object" ? () => document.implementation.createHTMLDocument() : chartDocument;
