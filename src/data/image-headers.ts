// What an image says of itself, without its pixels.
import { bmpHeader } from "./bmp.ts";
import type { ImageFormat, ImageHeader } from "./image-formats.ts";
import { gifHeader, jpegHeader, pngHeader, tiffHeader, webpHeader } from "./image-formats.ts";

/** By format, its header; of AVIF only a decoder knows. */
export const readableHeaders: Readonly<Record<Exclude<ImageFormat, "AVIF">, (bytes: Uint8Array) => ImageHeader>> = {
  JPEG: jpegHeader,
  PNG: pngHeader,
  TIFF: tiffHeader,
  GIF: gifHeader,
  BMP: bmpHeader,
  WebP: webpHeader,
};
