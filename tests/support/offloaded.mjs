// Weights that rest in a file and are let go of, as lines of JSON: node offloaded.mjs [hold]. With `hold` the process waits to be killed.
import { existsSync, readdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createNodeDevice } from "wecolora/node";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const scratch = tmpdir();
const files = () =>
  existsSync(scratch) ? readdirSync(scratch, { recursive: true }).filter((name) => /weights-/.test(name)) : [];
const say = (facts) => console.log(JSON.stringify(facts));

const device = createNodeDevice({ threads: 1 });
const weight = { type: "float32", dims: [64, 64], data: Float32Array.from({ length: 4096 }, (_, i) => i) };
let offloaded = await device.offload(new Map([["weight", weight]]));
say({
  modes: files().map((name) => (statSync(join(scratch, name)).mode & 0o777).toString(8)),
  last: offloaded.get("weight").data[4095],
  same: offloaded.get("weight") === weight,
});
if (process.argv[2] === "hold") setInterval(() => undefined, 1000);
else {
  offloaded = undefined;
  for (let i = 0; i < 50 && files().length > 0; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  say({ left: files().length });
  await device.dispose();
}
