// Imported before anything that starts a worker: ONNX Runtime 1.30 stores a device id, writes a log into the temporary
// folder and sends the names of graphs and processes to its makers, on Linux too.

/**
 * Turns ONNX Runtime's telemetry off, unless the user has set ORT_DISABLE_TELEMETRY to something. ONNX Runtime reads the
 * process's environment: setting it works in the main thread alone, and workers that start later see it.
 */
export function disableTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
}

disableTelemetry();
