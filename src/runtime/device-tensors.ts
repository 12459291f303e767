// Named tensors that stay on the device from one run to the next.
import type { FloatTensor } from "../utils/tensor.ts";
import type { Device, DeviceTensor } from "./device.ts";

export type Held = Map<string, DeviceTensor>;

/** `own` says that the device may have the tensors' memory. */
export async function uploadAll(device: Device, tensors: ReadonlyMap<string, FloatTensor>, own = false): Promise<Held> {
  const upload = async ([name, tensor]: [string, FloatTensor]) => [name, await device.upload(tensor, own)] as const;
  if (own) return new Map(await Promise.all([...tensors].map(upload)));
  // Copies on their way take memory: one at a time.
  const held: Held = new Map();
  for (const [name, tensor] of tensors) held.set(name, (await upload([name, tensor]))[1]);
  return held;
}

/** `take` says that they are released by this. */
export async function downloadAll(device: Device, held: Held, take = false): Promise<Map<string, FloatTensor>> {
  return new Map(
    await Promise.all(
      [...held].map(async ([name, tensor]) => [name, (await device.download(tensor, take)) as FloatTensor] as const),
    ),
  );
}
