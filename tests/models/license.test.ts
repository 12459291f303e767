// The licence that a model card states.
import { expect, test } from "vitest";
import { licenseIn } from "../../src/models/license.ts";

const card = (...lines: string[]) => `---\n${lines.join("\n")}\n---\n\n# A model\n\nlicense: mit\n`;

test("is read from the metadata alone", () => {
  expect(licenseIn(card("license: apache-2.0", "tags:", "- vision"))).toEqual({ id: "apache-2.0" });
  expect(licenseIn(card('license: "mit"'))).toEqual({ id: "mit" });
  expect(licenseIn(card("license: apache-2.0").replaceAll("\n", "\r\n"))).toEqual({ id: "apache-2.0" });
  expect(licenseIn(card("license: other", "license_name: dinov3-license", "license_link: https://x.org/l"))).toEqual({
    id: "other",
    name: "dinov3-license",
    link: "https://x.org/l",
  });
});

test("is unknown where a card doesn't state it in a line", () => {
  for (const lines of [
    ["tags: [a]"],
    ["license:", "- mit"],
    ["license: [mit]"],
    ["license: a b"],
    ["license: |", "  mit"],
  ])
    expect(licenseIn(card(...lines)), lines.join()).toBeUndefined();
  expect(licenseIn("license: mit")).toBeUndefined();
  expect(licenseIn("")).toBeUndefined();
});
