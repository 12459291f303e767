// Which of libvips's loaders may open an image. Each image is checked by itself (`checkLoader`). A process of our own, the
// command line, also blocks all other loaders (`blockOtherLoaders`). An application that imports wecolora keeps its own.
import type { Sharp } from "sharp";
import sharp from "sharp";
import type { ImageFormat } from "../../data/image-formats.ts";

/** The formats that are decoded, as sharp names them; bitmaps are read by our own code. */
const sharpNames: Readonly<Partial<Record<ImageFormat, string>>> = {
  JPEG: "jpeg",
  PNG: "png",
  WebP: "webp",
  AVIF: "heif",
  TIFF: "tiff",
  GIF: "gif",
};
const loaders = ["Jpeg", "Png", "Webp", "Heif", "Tiff", "Nsgif"];
const drawingLoader = { operation: ["VipsForeignLoadSvg"] };

/**
 * Throws an Error where libvips opens an image as another format than its first bytes say: a file can begin like a GIF and be
 * an SVG drawing to libvips. Only the header is read, nothing is rendered.
 */
export async function checkLoader(image: Sharp, format: ImageFormat): Promise<void> {
  const { format: opened } = await image.metadata();
  if (opened !== sharpNames[format]) throw new Error(`libvips takes it for ${opened}`);
}

let blocked = false;
let drawing = 0;

/** Blocks all loaders that are not used here. libvips knows one list for the whole process, so only its owner may do this. */
export function blockOtherLoaders(): void {
  // Once: while all are blocked, an image that another thread decodes would be refused.
  if (blocked) return;
  blocked = true;
  sharp.block({ operation: ["VipsForeignLoad"] });
  sharp.unblock({ operation: loaders.map((name) => `VipsForeignLoad${name}`) });
}

/** Runs something that draws our own SVG: its loader is there meanwhile, and blocked again where it was. */
export async function withDrawings<T>(draw: () => Promise<T>): Promise<T> {
  if (!blocked) return draw();
  if (drawing++ === 0) sharp.unblock(drawingLoader);
  try {
    return await draw();
  } finally {
    if (--drawing === 0) sharp.block(drawingLoader);
  }
}
