// In place of platform/node/worker-files.ts: workers built from the source by build-workers.ts, and the
// built command line.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export const workerFile = (name: string): URL =>
  name === "cli"
    ? new URL("../../dist/cli.js", import.meta.url)
    : pathToFileURL(join(process.env.WECOLORA_TEST_WORKERS ?? "", `${name}.js`));
