// `wecolora/web` in Chromium, in a worker, does what `wecolora/node` does: on WASM with threads and without, and on WebGPU.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserPath } from "../../support/browser.ts";
import type { BrowserApp } from "../../support/platforms.ts";
import { chromiumPlatform, openBrowserApp } from "../../support/platforms.ts";
import { describePlatform } from "../../support/same-behaviour.ts";
import type { Under } from "../../support/web-app/page.ts";
import { hasSwiftShader } from "../../support/webgpu.ts";

declare const under: Under;

let app: BrowserApp;
beforeAll(async () => {
  // WebGPU on SwiftShader, which computes on the processor.
  if (browserPath) app = await openBrowserApp(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);
});
afterAll(() => app?.close());

describe.skipIf(!browserPath)("in Chromium", () => {
  const near = { features: 1e-5, student: 1e-3 };

  describePlatform(
    "isolated, with threads",
    (folders) => chromiumPlatform(app, folders, "threads", { device: "cpu", threads: 2 }),
    near,
  );

  describePlatform(
    "not isolated, without threads",
    (folders) => chromiumPlatform(app, folders, "one thread", { device: "auto", isolated: false }),
    near,
  );

  describe.runIf(hasSwiftShader)("WebGPU", () => {
    // Its exp and erf are approximations; the closed form enlarges that.
    describePlatform(
      "on SwiftShader",
      (folders) => chromiumPlatform(app, folders, "webgpu", { device: "webgpu", threads: 2 }),
      { features: 1e-4, student: 1e-2 },
    );
  });

  test("says which device it took, and why", async () => {
    const server = await app.serve({ isolated: false });
    const page = await app.open(server);
    const taken = await page.evaluate(async () => {
      const warnings: string[] = [];
      const web = under.connect({ device: "auto" });
      const device = await web.device((warning) => warnings.push(warning));
      return { device, warnings };
    });
    expect(taken.device).toEqual({ name: "cpu", threads: 1 });
    expect(taken.warnings.join()).toMatch(/^WebGPU is not used: .*\. The run uses WASM with 1 threads\.$/);
    await page.close();
  });
});
