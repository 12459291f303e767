// Named tensors that stay on the device from one run to the next.
import type { FloatTensor } from "../utils/tensor.ts";
import type { Device, DeviceTensor } from "./types.ts";

export type Held = Map<string, DeviceTensor>;

export async function uploadAll(device: Device, tensors: ReadonlyMap<string, FloatTensor>): Promise<Held> {
  const held: Held = new Map();
  for (const [name, tensor] of tensors) held.set(name, await device.upload(tensor));
  return held;
}

export async function downloadAll(device: Device, held: Held): Promise<Map<string, FloatTensor>> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, tensor] of held) tensors.set(name, (await device.download(tensor)) as FloatTensor);
  return tensors;
}
