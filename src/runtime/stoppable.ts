// A device that stops when a signal fires: the one place where runs of sessions check it.
import type { Device, RunRequest, Session } from "./device.ts";

/**
 * The device, with sessions that don't begin a run after the signal has fired: they reject with the signal's reason. Runs
 * that must not stop half-way (an optimizer's update) say `mustFinish`. Tensors can be read and released all the same, so
 * that a run can save its state.
 */
export function stoppable(device: Device, signal: AbortSignal): Device {
  let sibling: Device | undefined;
  const wrapped = (session: Session): Session => ({
    outputNames: session.outputNames,
    async run(request: RunRequest) {
      if (!request.mustFinish) signal.throwIfAborted();
      return session.run(request);
    },
    dispose: () => session.dispose(),
  });
  const { sibling: openSibling, createLoop, offload, allowOffload } = device;
  return {
    operators: device.operators,
    name: device.name,
    threads: device.threads,
    ...(openSibling ? { sibling: () => (sibling ??= stoppable(openSibling.call(device), signal)) } : {}),
    async createSession(source, options) {
      signal.throwIfAborted();
      return wrapped(await device.createSession(source, options));
    },
    ...(createLoop ? { createLoop: (source) => createLoop.call(device, source) } : {}),
    ...(offload ? { offload: (weights) => offload.call(device, weights) } : {}),
    upload: (tensor, mayTake) => device.upload(tensor, mayTake),
    download: (tensor, take) => device.download(tensor, take),
    release: (tensors) => device.release(tensors),
    ...(allowOffload ? { allowOffload: (tensor, most) => allowOffload.call(device, tensor, most) } : {}),
    trim: () => device.trim(),
    dispose: () => device.dispose(),
  };
}
