// A model's outputs are the same bits whatever else is asked for, with them or before them: work in tasks asks in another order.
import { readdirSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { Model, nodeEnvironment } from "wecolora/node";
import type { OutputName } from "../../src/models/model.ts";
import { noise } from "../support/noise.ts";
import { referencePath } from "../support/reference.ts";

const environment = nodeEnvironment({ threads: 1 });
afterAll(() => environment.dispose());

test.each(readdirSync(referencePath("teachers")).filter((name) => /^(hf|timm)-/.test(name)))("%s", async (name) => {
  const loaded = await environment.loadModel(referencePath(`teachers/${name}`), { warn: () => undefined });
  const { imageSize, channels, head } = loaded.config;
  const pixels = noise([3, channels, imageSize, imageSize], 1, name);
  const pooledOf = async (names: readonly OutputName[], before?: (model: Model) => Promise<unknown>) => {
    const model = new Model(loaded, loaded.device);
    try {
      await before?.(model);
      return (await model.outputs(pixels, names)).pooled;
    } finally {
      await model.dispose();
    }
  };
  const alone = await pooledOf(["pooled"]);
  const all: OutputName[] = ["pooled", "blockOutput", "lastHiddenState", ...(head ? (["logits"] as const) : [])];
  expect(await pooledOf(all)).toEqual(alone);
  expect(await pooledOf(["pooled"], (model) => model.outputs(pixels, all))).toEqual(alone);
  expect(await pooledOf(["pooled"], (model) => model.forward(pixels, { hiddenStates: true }))).toEqual(alone);
});
