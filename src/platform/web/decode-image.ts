// Encoded images to 8-bit RGB by the browser's own decoder: numbers as stored, colour profiles ignored, alpha dropped, turned by
// EXIF. What is decoded is decided by content, as on Node.
//
// A canvas keeps colours multiplied with alpha, which loses those behind transparency; images with any are read through
// WebGL, which does not.
import { bmpHeader, decodeBmp } from "../../data/bmp.ts";
import type { ImageFormat, ImageHeader } from "../../data/image-formats.ts";
import { readableHeaders } from "../../data/image-headers.ts";
import { describeContent, gifHeader, imageFormat, mostPixels } from "../../data/image-formats.ts";
import type { Decode } from "../../data/image-reader.ts";
import { UserError } from "../../utils/errors.ts";
import type { RgbImage } from "../../utils/image.ts";
import { plain } from "./web-files.ts";

const formats = "JPEG, PNG, WebP, AVIF, GIF and BMP";
const mimeTypes: Readonly<Record<ImageFormat, string>> = {
  JPEG: "image/jpeg",
  PNG: "image/png",
  WebP: "image/webp",
  AVIF: "image/avif",
  TIFF: "image/tiff",
  BMP: "image/bmp",
  GIF: "image/gif",
};

/** RGBA to RGB. */
function rgbOf(width: number, height: number, rgba: Uint8Array | Uint8ClampedArray): RgbImage {
  const data = new Uint8Array(3 * width * height);
  for (let to = 0, from = 0; to < data.length; to += 3, from += 4) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { width, height, data };
}

function isOpaque(rgba: Uint8ClampedArray): boolean {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return false;
  return true;
}

/** Pixels through WebGL, which keeps colours behind transparency; undefined where there is no WebGL, or it is too small. */
function readThroughWebgl(image: ImageBitmap): Uint8Array | undefined {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  const { width, height } = image;
  if (!gl || Math.max(width, height) > Number(gl.getParameter(gl.MAX_TEXTURE_SIZE))) return undefined;
  try {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    const texture = gl.getParameter(gl.TEXTURE_BINDING_2D) as WebGLTexture;
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) return undefined;
    const rgba = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    return gl.getError() === gl.NO_ERROR ? rgba : undefined;
  } finally {
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

async function pixelsOf(image: ImageBitmap): Promise<RgbImage> {
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new Error("this browser gives no canvas to read it from");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height, { colorSpace: "srgb" });
  if (isOpaque(data)) return rgbOf(width, height, data);
  const whole = readThroughWebgl(image);
  if (!whole) throw new Error("it is transparent in parts, and this browser does not give the colours behind that");
  return rgbOf(width, height, whole);
}

const withoutConversion: ImageBitmapOptions = {
  colorSpaceConversion: "none",
  premultiplyAlpha: "none",
  imageOrientation: "from-image",
};

async function decodeByBrowser(bytes: Uint8Array, format: ImageFormat): Promise<RgbImage> {
  const image = await createImageBitmap(new Blob([plain(bytes)], { type: mimeTypes[format] }), withoutConversion);
  try {
    return await pixelsOf(image);
  } finally {
    image.close();
  }
}

/** What an image says of itself, without its pixels; TIFF is refused, and of AVIF only the decoder knows. */
const headerOf = (format: ImageFormat, bytes: Uint8Array): ImageHeader | undefined =>
  format === "AVIF" || format === "TIFF" ? undefined : readableHeaders[format](bytes);

/** Whether a browser's decoder is there: not on Node and Deno, where one is handed in. */
export const hasImageDecoder = (): boolean =>
  typeof createImageBitmap === "function" && typeof OffscreenCanvas === "function";

/** Throws where the browser would give other numbers than those that models were trained behind. */
function refuse(format: ImageFormat, header: ImageHeader | undefined): void {
  if (format === "TIFF") throw new Error("browsers don't read TIFF; save it as PNG");
  if (header?.isGrey16) throw new Error("it has grey of 16 bits, which browsers read otherwise; save it with 8 bits");
  if (header?.isCmyk) throw new Error("it has inks (CMYK), which browsers read otherwise; save it as RGB");
}

/** Decodes by the browser: see `Decode`. */
export const decodeImage: Decode = async (named, bytes, pixels) => {
  const format = imageFormat(bytes);
  if (!format)
    throw new UserError(`${named} is ${describeContent(bytes)}; images are ${formats}`, { code: "NOT_AN_IMAGE" });
  if (!hasImageDecoder())
    throw new UserError("There is no image decoder here. Hand one in: decode (wecolora/web) takes bytes to pixels.", {
      code: "INVALID_OPTION",
    });
  try {
    const header = headerOf(format, bytes);
    refuse(format, header);
    const { width, height } = header ?? { width: 1, height: 1 };
    if (!(width > 0 && height > 0)) throw new Error(`it is ${width} x ${height} pixels large`);
    if (width * height > mostPixels)
      throw new UserError(
        `${named} has ${width} x ${height} pixels, more than the ${mostPixels} that are decoded; make it smaller first`,
      );
    return await pixels.take(header ? width * height : mostPixels / 4, async () => {
      if (format === "BMP") return decodeBmp(bytes, bmpHeader(bytes));
      return decodeByBrowser(format === "GIF" ? gifHeader(bytes).first : bytes, format);
    });
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { name, message } = error as Error;
    const reason = name === "InvalidStateError" || name === "EncodingError" ? "it is damaged or cut off" : message;
    throw new UserError(`${named} can't be decoded as ${format}: ${reason}`, { code: "NOT_AN_IMAGE", cause: error });
  }
};
