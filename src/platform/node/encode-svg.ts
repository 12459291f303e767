// Our own charts as PNG files. The image workers take libvips's loader of SVG away for the whole process (decode-image.ts),
// so that no image can pass for a drawing; it is given back only while a chart is drawn.
import sharp from "sharp";

const loader = { operation: ["VipsForeignLoadSvg"] };
let drawing = 0;

/** A chart at twice its size. */
export async function encodeSvg(svg: string): Promise<Uint8Array> {
  if (drawing++ === 0) sharp.unblock(loader);
  try {
    return await sharp(Buffer.from(svg), { density: 144 }).png().toBuffer();
  } finally {
    if (--drawing === 0) sharp.block(loader);
  }
}
