// Our own charts as PNG files.
import sharp from "sharp";
import { withDrawings } from "./image-loaders.ts";

/** A chart at twice its size. */
export const encodeSvg = (svg: string): Promise<Uint8Array> =>
  withDrawings(() => sharp(Buffer.from(svg), { density: 144 }).png().toBuffer());
