// What `wecolora demo` distils with.
import { describe, expect, test } from "vitest";
import { demoOptions } from "../../src/cli/demo.ts";
import { demoSchema } from "../../src/cli/demo-options.ts";
import { distillOptions } from "../../src/commands/distill-options.ts";

const given = async (options: object) =>
  distillOptions(await demoOptions(demoSchema.parse({ out: "somewhere", ...options })));

describe("the demo", () => {
  test("halves the block weights, from three images of each class", async () => {
    expect(await given({})).toMatchObject({ method: "refit", reductionFactor: 2, fewShotCount: 3 });
  });

  test.each([{ budget: "12MB" }, { agreement: 0.95 }, { sizes: ["0.3x", "0.6x"] }])(
    "has the size that is asked for: %j",
    async (asked) => {
      const options = await given(asked);
      expect(options).toMatchObject(asked);
      expect(options.reductionFactor).toBeUndefined();
    },
  );
});
