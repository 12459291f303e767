// Named tensors that stay on the device from one run to the next.
import type { FloatTensor } from "../utils/tensor.ts";
import type { Device, DeviceTensor } from "./device.ts";

export type DeviceTensors = Map<string, DeviceTensor>;

/** `own` says that the device may have the tensors' memory. */
export async function uploadAll(
  device: Device,
  tensors: ReadonlyMap<string, FloatTensor>,
  mayTake = false,
): Promise<DeviceTensors> {
  const upload = async ([name, tensor]: [string, FloatTensor]) => [name, await device.upload(tensor, mayTake)] as const;
  if (mayTake) return new Map(await Promise.all([...tensors].map(upload)));
  // Copies on their way take memory: one at a time.
  const tensorsOnDevice: DeviceTensors = new Map();
  for (const [name, tensor] of tensors) tensorsOnDevice.set(name, (await upload([name, tensor]))[1]);
  return tensorsOnDevice;
}

/** `take` says that they are released by this. */
export async function downloadAll(
  device: Device,
  tensorsOnDevice: DeviceTensors,
  take = false,
): Promise<Map<string, FloatTensor>> {
  return new Map(
    await Promise.all(
      [...tensorsOnDevice].map(
        async ([name, tensor]) => [name, (await device.download(tensor, take)) as FloatTensor] as const,
      ),
    ),
  );
}
