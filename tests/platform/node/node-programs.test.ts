// Programs of this machine: what they print is bounded.
import { expect, test } from "vitest";
import { nodePrograms } from "../../../src/platform/node/node-programs.ts";

const { run } = nodePrograms(1);
const node = (script: string) => run(process.execPath, ["-e", script]);

test("what a program prints, and its exit code", async () => {
  expect(await node("console.log('waits'); console.error('warns'); process.exitCode = 3")).toEqual({
    ...{ code: 3, out: "waits\n", err: "warns\n" },
  });
});

test("a program that prints without an end is ended", async () => {
  const endless = "const more = () => process.stdout.write('x'.repeat(2 ** 20), more); more();";
  await expect(node(endless)).rejects.toThrow(/printed more than 64 MiB and was ended\.$/);
});

test("a program that is not there", async () => {
  await expect(run("wecolora-has-no-such-program", [])).rejects.toThrow(
    "There is no program wecolora-has-no-such-program here.",
  );
});
