// Errors of ONNX Runtime in our words.
import { RunError } from "../utils/errors.ts";

/** ONNX Runtime's own errors carry file paths of its sources; its running out of memory deserves plain words. */
export async function translateErrors<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (/alloc|out of memory/i.test(message)) {
      throw new RunError(`ONNX Runtime ran out of memory: use a smaller batch. (${message})`, {
        code: "OUT_OF_MEMORY",
        cause: error,
      });
    }
    throw new RunError(`ONNX Runtime could not run the graph: ${message}`, { cause: error });
  }
}
