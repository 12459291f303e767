// The same work on other devices, held against the CPU: differences, seconds, and which nodes fell back to the CPU.
//   node bench/devices.js cuda webgpu
// Each device has a process of its own, since a driver that fails can take the process with it.
import { spawnSync } from "node:child_process";
import {
  analyticDefaults,
  analyticStart,
  createDistillation,
  createNodeDevice,
  Model,
  profiledDevice,
} from "wecolora/node";
import { median, noise, randomModel, offloadedModel, steps } from "./models.js";

const [first, second] = process.argv.slice(2);
if (first !== "--only") {
  for (const name of process.argv.slice(2)) {
    const { status, signal } = spawnSync(process.execPath, [import.meta.filename, "--only", name], {
      stdio: "inherit",
    });
    if (status !== 0) console.log(`${name}: ended with ${signal ?? `exit code ${status}`}`);
  }
  process.exit(0);
}

const say = (what, value) => console.log(`${second} ${what}: ${JSON.stringify(value)}`);
const [cpu, other] = [createNodeDevice(), createNodeDevice({ device: second })];
const seconds = async (action) => {
  const begin = performance.now();
  const result = await action();
  return { result, took: (performance.now() - begin) / 1000 };
};
const meanDifference = (a, b) => a.data.reduce((sum, value, i) => sum + Math.abs(value - b.data[i]), 0) / a.data.length;
/** Mean absolute difference over mean absolute value. */
const relative = (a, b) =>
  meanDifference(a, b) / (a.data.reduce((sum, value) => sum + Math.abs(value), 0) / a.data.length);
/** One that fails must not hide the others. */
async function section(what, action) {
  try {
    say(what, await action());
    return true;
  } catch (error) {
    say(what, `failed: ${String(error.message).slice(0, 600)}`);
    return false;
  }
}
const tiny = { width: 64, heads: 1, depth: 2, imageSize: 32 };
const there = await section("a tiny model", async () => {
  const { blockOutput } = await randomModel(tiny, other).outputs(noise(1, 7, 32), ["blockOutput"]);
  return blockOutput.dims;
});
if (!there) process.exit(1);

for (const [model, { rank, batch, ...shape }] of Object.entries(steps)) {
  const settings = { reductionFactor: 2, rank };
  const pixels = noise(batch);
  await section(`${model} features`, async () => {
    const [here, there] = [randomModel(shape, cpu), await offloadedModel(shape, other)];
    const expected = await here.outputs(pixels, ["blockOutput"]);
    await there.outputs(pixels, ["blockOutput"]);
    const { result, took } = await seconds(() => there.outputs(pixels, ["blockOutput"]));
    await Promise.all([here.dispose(), there.dispose()]);
    return {
      relativeDifference: relative(expected.blockOutput, result.blockOutput),
      secondsPerImage: took / batch,
    };
  });
  await section(`${model} step`, async () => {
    const losses = [];
    for (const device of [cpu, other]) {
      const distillation = await createDistillation(await offloadedModel(shape, device), settings);
      const seen = [];
      for (let i = 0; i < 4; i++) seen.push((await distillation.step([pixels])).loss);
      losses.push(seen);
      await distillation.dispose();
    }
    return { lossesOnTheCpu: losses[0], losses: losses[1] };
  });
  for (const [how, options, many] of [
    ["float32", {}, batch],
    ["float32", {}, 4 * batch],
    ["kept", {}, 4 * batch],
    ["int8", { precision: "int8" }, batch],
  ]) {
    await section(`${model} time of a step, ${how}, batch ${many}`, async () => {
      const distillation = await createDistillation(await offloadedModel(shape, other), { ...settings, ...options });
      const crops = noise(many);
      const shown = how === "kept" ? { pixels: crops, targets: await distillation.targets(crops) } : crops;
      await distillation.step([shown]);
      const times = [];
      for (let i = 0; i < 7; i++) times.push((await seconds(() => distillation.step([shown]))).took / many);
      await distillation.dispose();
      return { secondsPerImage: median(times) };
    });
  }
  await section(`${model} nodes of two steps`, async () => {
    const { device, times } = profiledDevice(other);
    const distillation = await createDistillation(await offloadedModel(shape, device), settings);
    for (let i = 0; i < 3; i++) await distillation.step([pixels]);
    await distillation.dispose();
    return times(true)
      .slice(0, 14)
      .map(({ kind, count, milliseconds }) => `${kind} ${count} ${milliseconds.toFixed(1)}`);
  });
}
await section("start in closed form, ViT-S, 60 images", async () => {
  const { rank: _rank, batch: _batch, ...shape } = steps["vit-s"];
  const kept = Array.from({ length: 12 }, (_, i) => i);
  const widths = { mlpWidth: 0.5, keptHeads: 0.5 };
  const unseen = noise(16, 99);
  const figures = {};
  for (const [name, device] of [
    ["cpu", cpu],
    [second, other],
  ]) {
    const teacher = await offloadedModel(shape, device);
    const batches = [1, 2, 3, 4].map((i) => noise(15, i));
    const { result, took } = await seconds(() =>
      analyticStart(teacher, kept, batches, { ...analyticDefaults, ...widths }),
    );
    const [whole, student] = [randomModel(shape, cpu), new Model(result.student, cpu)];
    const expected = await whole.outputs(unseen, ["blockOutput"]);
    const made = await student.outputs(unseen, ["blockOutput"]);
    figures[name] = { difference: meanDifference(expected.blockOutput, made.blockOutput), seconds: took };
  }
  return figures;
});
process.exit(0);
