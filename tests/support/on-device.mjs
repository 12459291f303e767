// What a device makes of a small teacher, as JSON: node on-device.mjs DEVICE TEACHER. Steps of a distillation with two
// micro-batches, a student's features, a start in closed form, and a device that ends with tensors still on it.
import { analyticDefaults, analyticStart, createDistillation, createNodeDevice, loadModel, Model } from "wecolora/node";

const [name, directory] = process.argv.slice(2);
const device = createNodeDevice({ device: name });
const teacher = await loadModel(directory, { device });
const { imageSize, channels } = teacher.config;
let state = 1;
const images = (count) => {
  const data = Float32Array.from({ length: count * channels * imageSize ** 2 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  });
  return { type: "float32", dims: [count, channels, imageSize, imageSize], data };
};
const pixels = images(3);
const settings = { reductionFactor: 2, rank: 4, accumulation: 2 };
const distillation = await createDistillation(teacher, settings);
const losses = [];
let last;
for (let i = 0; i < 4; i++) {
  last = await distillation.step([pixels, images(3)], { gradients: true });
  losses.push(last.loss);
}
const student = await distillation.student();
const { blockOutput: trained } = await student.outputs(pixels, ["blockOutput"]);
await student.dispose();

const kept = Array.from({ length: teacher.config.depth }, (_, i) => i);
const batches = Array.from({ length: 4 }, () => images(8));
const start = await analyticStart(teacher, kept, batches, { ...analyticDefaults, mlpWidth: 0.5 });
const refitted = new Model(start.student, device);
const { blockOutput: started } = await refitted.outputs(pixels, ["blockOutput"]);

console.log(
  JSON.stringify({
    losses,
    gradients: [...last.gradients.values()].map(({ data }) => [...data]),
    trained: [...trained.data],
    started: [...started.data],
  }),
);
// The distillation's state is still on the device.
await device.dispose();
