// How fast features are taken from images in each format, against the model alone; and what memory a long list takes.
//
//     node bench/formats.js          the demo's images as folder, zip, tar and parquet; the model alone
//     node bench/formats.js memory   100,000 synthetic images in CIFAR's format through a small model
import { execFileSync } from "node:child_process";
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync, closeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createImageSource, extractFeatures, listImages, loadModel } from "../dist/node.js";

const root = new URL("..", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "wecolora-formats-"));
const rate = (count, begin) => (count / ((performance.now() - begin) / 1000)).toFixed(1);

/** A tar archive with each image and its class beside it. */
function writeTar(path, images) {
  const out = openSync(path, "w");
  const entry = (name, data) => {
    const header = Buffer.alloc(512);
    header.write(name, 0, 100);
    header.write("0000644\0", 100);
    header.write(`${data.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write("0", 156);
    header.write("        ", 148);
    header.write(
      `${header
        .reduce((a, b) => a + b, 0)
        .toString(8)
        .padStart(6, "0")}\0 `,
      148,
    );
    writeSync(out, header);
    writeSync(out, data);
    writeSync(out, Buffer.alloc((512 - (data.length % 512)) % 512));
  };
  images.forEach(({ bytes, label }, i) => {
    entry(`${String(i).padStart(6, "0")}.jpg`, bytes);
    entry(`${String(i).padStart(6, "0")}.cls`, Buffer.from(String(label)));
  });
  writeSync(out, Buffer.alloc(1024));
  closeSync(out);
}

async function formats() {
  const train = join(root, "demo/pictures/train");
  const classes = readdirSync(train).sort();
  const images = classes.flatMap((name, label) =>
    readdirSync(join(train, name)).map((file) => ({ bytes: readFileSync(join(train, name, file)), label })),
  );
  writeTar(join(folder, "pictures.tar"), images);
  execFileSync("zip", ["-qr", join(folder, "pictures.zip"), "."], { cwd: train });
  const model = await loadModel(join(root, "demo/teacher"));
  const batch = 32;
  const pixels = { type: "float32", dims: [batch, 3, 224, 224], data: new Float32Array(batch * 3 * 224 * 224) };
  const alone = async () => {
    const begin = performance.now();
    for (let i = 0; i < 8; i++) await model.outputs(pixels, ["pooled"]);
    return rate(8 * batch, begin);
  };
  await alone();
  console.log(`the model alone: ${await alone()} images a second`);
  for (const path of [train, join(folder, "pictures.zip"), join(folder, "pictures.tar")]) {
    const data = await listImages(path);
    const source = createImageSource(data.path);
    const begin = performance.now();
    const { items } = await extractFeatures(model, source, data.items.slice(0, 320), { batch });
    console.log(`${path.slice(path.lastIndexOf("/") + 1)}: ${rate(items.length, begin)}`);
    await source.dispose();
  }
  console.log(`the model alone: ${await alone()}`);
  await model.dispose();
}

async function memory() {
  const count = 100_000;
  const record = 3074;
  const block = Buffer.alloc(1000 * record, 100);
  for (let i = 0; i < 1000; i++) block.writeUInt16LE(0, i * record);
  for (const [name, blocks] of [
    ["train.bin", count / 1000 - 1],
    ["test.bin", 1],
  ]) {
    const out = openSync(join(folder, name), "w");
    for (let i = 0; i < blocks; i++) writeSync(out, block);
    closeSync(out);
  }
  writeFileSync(join(folder, "fine_label_names.txt"), "grey\nother\n");
  const model = await loadModel(join(root, "tests/reference/teachers/timm-vit"));
  const data = await listImages(folder);
  const source = createImageSource(data.path);
  const begin = performance.now();
  const seen = [];
  let next = 10_000;
  await extractFeatures(model, source, data.items, {
    batch: 64,
    progress(done) {
      if (done < next) return;
      next += 10_000;
      globalThis.gc?.();
      seen.push(Math.round(process.memoryUsage().rss / 2 ** 20));
    },
  });
  console.log(
    `${data.items.length} images, ${rate(data.items.length, begin)} a second; MiB after each 10,000: ${seen.join(" ")}`,
  );
  await source.dispose();
  await model.dispose();
}

try {
  await (process.argv[2] === "memory" ? memory() : formats());
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);
