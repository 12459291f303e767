// A contact sheet of the kinds of procedural images, a row of kinds in turn: node scripts/procedural-sheet.js out.png [seed] [of each]
// Takes the built library (npm run build). Prints how long each kind takes.
import sharp from "sharp";
import { paintedKind, proceduralImage, proceduralKinds } from "wecolora/node";

const [path = "procedural.png", seed = "0", each = "4"] = process.argv.slice(2);
const [size, across] = [128, 4 * Number(each)];
const tiles = [];
for (const kind of proceduralKinds) {
  const begin = performance.now();
  for (let i = 0; i < Number(each); i++) {
    const { width, height, data } = paintedKind(kind, Number(seed), i);
    const input = await sharp(data, { raw: { width, height, channels: 3 } })
      .resize(size - 4)
      .png()
      .toBuffer();
    tiles.push(input);
  }
  console.log(kind.padEnd(20), `${((performance.now() - begin) / Number(each)).toFixed(0)} ms`);
}
const rows = Math.ceil(tiles.length / across);
await sharp({ create: { width: across * size, height: rows * size, channels: 3, background: "#888" } })
  .composite(
    tiles.map((input, i) => ({ input, left: (i % across) * size + 2, top: Math.floor(i / across) * size + 2 })),
  )
  .png()
  .toFile(path);
const begin = performance.now();
for (let i = 0; i < 100; i++) proceduralImage(Number(seed), i);
console.log(`100 images of the mix: ${((performance.now() - begin) / 1000).toFixed(2)} s`);
