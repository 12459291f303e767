// Ends a source of images while a reply of its worker is on its way: node tests/support/ending.mjs FOLDER
import { createImageSource, listImages } from "wecolora/node";

const [folder] = process.argv.slice(2);
const { items } = await listImages(folder);
const source = createImageSource(folder, 1);
await source.facts(items[0]);
source.facts(items[0]).catch(() => undefined);
// The reply comes in while this thread is busy, and is seen while the worker ends.
const until = performance.now() + 500;
while (performance.now() < until);
await source.dispose();
console.log("ended");
