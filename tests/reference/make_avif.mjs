// AVIF of 8, 10 and 12 bits as libheif writes it, which says nothing of colours in its container; for make_images.py.
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sharp from "sharp";

const folder = fileURLToPath(new URL("images/formats/", import.meta.url));
mkdirSync(folder, { recursive: true });
for (const bitdepth of [8, 10, 12])
  for (const chromaSubsampling of ["4:2:0", "4:4:4"])
    await sharp(fileURLToPath(new URL("images/source.png", import.meta.url)))
      .resize(37, 23)
      .avif({ bitdepth, chromaSubsampling, quality: 80 })
      .toFile(`${folder}/libheif-${chromaSubsampling.replaceAll(":", "")}-${bitdepth}.avif`);
