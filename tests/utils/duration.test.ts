import { expect, test } from "vitest";
import { durationText } from "../../src/utils/duration.ts";

test.each([
  [-1, "0 s"],
  [0.04, "0 s"],
  [0.44, "0.4 s"],
  [4, "4 s"],
  [9.94, "9.9 s"],
  [9.96, "10 s"],
  [59.4, "59 s"],
  [59.6, "1 min 00 s"],
  [206.1, "3 min 26 s"],
  [3599.6, "1 h 00 min"],
  [3725, "1 h 02 min"],
])("%d s is written as %s", (seconds, text) => {
  expect(durationText(seconds)).toBe(text);
});
