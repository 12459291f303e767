// The search over shapes, token merging and formats, against exhaustion over spaces whose costs and losses are known.
import { describe, expect, test } from "vitest";
import type { Candidate, SearchSpace } from "../../../src/students/search/lever-search.ts";
import { LeverSearch } from "../../../src/students/search/lever-search.ts";
import { randomStream } from "../../../src/utils/random.ts";

const shares = [1, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];
const bytesPerWeight = [4, 1, 0.56, 0.3];
const formatTime = [1, 0.56, 1.05, 1.1];
const formatLoss = [0, 0.02, 0.028, 0.3];
const mergingTime = [1, 0.85, 0.69, 0.55];
const mergingLoss = [0, 0.004, 0.012, 0.03];

const coarse = { shares, mergingTime, mergingLoss };

const bytesOf = ({ shape, format }: Candidate, of = shares) => 22e6 * of[shape] * bytesPerWeight[format];

/** Losses add up and times multiply but for a disturbance of each combination by up to this share. */
function spaceOf(disturbance: number, { shares, mergingTime, mergingLoss } = coarse) {
  const built: Candidate[] = [];
  const disturb = (what: string, { shape, tokens, format }: Candidate) =>
    1 + disturbance * (2 * randomStream(1, what, shape, tokens, format).uniform() - 1);
  const lossOf = (c: Candidate) =>
    (0.5 * (1 - shares[c.shape]) ** 1.5 + mergingLoss[c.tokens] + formatLoss[c.format]) * disturb("loss", c);
  const timeOf = (c: Candidate) =>
    20 * (0.1 + 0.9 * shares[c.shape]) * mergingTime[c.tokens] * formatTime[c.format] * disturb("time", c);
  const space: SearchSpace = {
    shares,
    tokenSettings: mergingTime.length,
    tokenKind: (tokens) => (tokens > 0 ? "merged" : "whole"),
    formats: formatTime.length,
    offers: () => true,
    // An estimate is a tenth too low.
    bytes: (candidate) => 0.9 * bytesOf(candidate, shares),
    weigh: (candidate) => Promise.resolve(bytesOf(candidate, shares)),
    parameters: (shape) => shares[shape],
    time: (candidates) => Promise.resolve(candidates.map(timeOf)),
    fidelity(candidate) {
      built.push(candidate);
      const loss = lossOf(candidate);
      return Promise.resolve({ loss, agreement: Math.max(0, 1 - 2 * loss) });
    },
  };
  const all = shares.flatMap((_, shape) =>
    mergingTime.flatMap((_, tokens) => formatTime.map((_, format) => ({ shape, tokens, format }))),
  );
  return { space, all, built, lossOf, timeOf };
}

/** Shapes that were refitted: what a search costs. */
const refits = (built: readonly Candidate[]) =>
  new Set(built.map(({ shape }) => shape).filter((shape) => shape > 0)).size;

test("where levers together save less time than their ratios say, few combinations are timed in vain", async () => {
  const levels = (count: number, of: (i: number) => number) => Array.from({ length: count }, (_, i) => of(i));
  const { space, all, lossOf, timeOf } = spaceOf(0, {
    shares: levels(21, (i) => 1 - 0.04 * i),
    mergingTime: levels(12, (i) => 0.95 ** i),
    mergingLoss: levels(12, (i) => 0.0003 * i * i),
  });
  const slower = (c: Candidate) => timeOf(c) * (c.tokens > 0 && c.format === 1 ? 1.3 : 1);
  const timed: Candidate[] = [];
  const time = (candidates: readonly Candidate[]) => {
    timed.push(...candidates);
    return Promise.resolve(candidates.map(slower));
  };
  const { best } = await (await LeverSearch.open({ ...space, time }, true)).within({ milliseconds: 6 });
  const fitting = all.filter((candidate) => slower(candidate) <= 6);
  expect(best.loss).toBeCloseTo(Math.min(...fitting.map(lossOf)), 12);
  // 1 + 20 + 11 + 3 move one lever at most.
  expect(timed.length - 35).toBeLessThanOrEqual(8);
});

test("settings of another kind are not taken to be as slow", async () => {
  // Two mergings that take longer in 8 bits, and two smaller images that don't.
  const [mergingTime, mergingLoss] = [
    [1, 0.7, 0.5, 0.7, 0.5],
    [0, 0.004, 0.03, 0.005, 0.031],
  ];
  const { space, lossOf, timeOf, all } = spaceOf(0, { shares: [1, 0.6, 0.3], mergingTime, mergingLoss });
  const isMerged = ({ tokens }: Candidate) => tokens === 1 || tokens === 2;
  const slower = (c: Candidate) => timeOf(c) * (isMerged(c) && c.format === 1 ? 1.5 : 1);
  const time = (candidates: readonly Candidate[]) => Promise.resolve(candidates.map(slower));
  const tokenKind = (tokens: number) => (tokens === 1 || tokens === 2 ? "merged" : "whole");
  const { best } = await (await LeverSearch.open({ ...space, time, tokenKind }, true)).within({ milliseconds: 8 });
  const fitting = all.filter((candidate) => slower(candidate) <= 8);
  expect(best).toMatchObject({ shape: 0, tokens: 3, format: 1 });
  expect(best.loss).toBeCloseTo(Math.min(...fitting.map(lossOf)), 12);
});

describe("within a budget", () => {
  test.each([60, 20, 12.5, 7, 4.5])("of %d MB: the best of all combinations", async (megabytes) => {
    const { space, all, lossOf, built } = spaceOf(0);
    const { best } = await (await LeverSearch.open(space, false)).within({ bytes: megabytes * 1e6 });
    const fitting = all.filter((candidate) => bytesOf(candidate) <= megabytes * 1e6);
    expect(best.loss).toBeCloseTo(Math.min(...fitting.map(lossOf)), 12);
    expect(best.bytes).toBeLessThanOrEqual(megabytes * 1e6);
    expect(refits(built)).toBeLessThanOrEqual(5);
  });

  test("measures no format on the teacher that a more faithful one makes needless", async () => {
    const { space, built } = spaceOf(0);
    const { best } = await (await LeverSearch.open(space, false)).within({ bytes: 20e6 });
    expect(best).toMatchObject({ shape: 0, format: 2 });
    expect(built.filter(({ shape }) => shape === 0).map(({ format }) => format)).not.toContain(3);
  });

  test("one shape that loses much keeps no other from being tried", async () => {
    // As measured on a ViT-S: removing a little loses nearly nothing, but with the fewest bits any refit does.
    const fine = { shares: Array.from({ length: 21 }, (_, i) => 1 - 0.04 * i), mergingTime: [1], mergingLoss: [0] };
    const { space, all, built } = spaceOf(0, fine);
    const few = [0, 0.005, 0.03, 0.13];
    const lossOf = ({ shape, format }: Candidate) =>
      0.55 * (1 - fine.shares[shape]) ** 2.8 + few[format] + (shape > 0 && format === 3 ? 0.02 : 0);
    const fidelity = (candidate: Candidate) => {
      built.push(candidate);
      return Promise.resolve({ loss: lossOf(candidate), agreement: 1 - lossOf(candidate) });
    };
    const { best } = await (await LeverSearch.open({ ...space, fidelity }, false)).within({ bytes: 8e6 });
    const fitting = all.filter((candidate) => bytesOf(candidate, fine.shares) <= 8e6);
    expect(best).toMatchObject({ format: 2 });
    expect(best.loss).toBeCloseTo(Math.min(...fitting.map(lossOf)), 12);
    expect(refits(built)).toBeLessThanOrEqual(5);
  });

  test.each([15, 10, 6.6, 4])("of %d ms: the best of all combinations", async (milliseconds) => {
    const { space, all, lossOf, timeOf, built } = spaceOf(0);
    const { best } = await (await LeverSearch.open(space, true)).within({ milliseconds });
    const fitting = all.filter((candidate) => timeOf(candidate) <= milliseconds);
    expect(best.loss).toBeCloseTo(Math.min(...fitting.map(lossOf)), 12);
    expect(refits(built)).toBeLessThanOrEqual(5);
  });

  test("of both: neither is exceeded, where times and losses are other than predicted", async () => {
    const { space, all, lossOf, timeOf } = spaceOf(0.1);
    const limits = { bytes: 12.5e6, milliseconds: 8 };
    const { best } = await (await LeverSearch.open(space, true)).within(limits);
    expect(best.bytes).toBeLessThanOrEqual(limits.bytes);
    expect(timeOf(best)).toBeLessThanOrEqual(limits.milliseconds);
    const fitting = all.filter(
      (candidate) => bytesOf(candidate) <= limits.bytes && timeOf(candidate) <= limits.milliseconds,
    );
    // Losses differ by up to a tenth from their predictions: so may the choice, twice.
    expect(best.loss).toBeLessThanOrEqual(1.2 * Math.min(...fitting.map(lossOf)));
  });

  test("and exports that are named: the best of these, though predictions are built on another", async () => {
    const { space, all, lossOf } = spaceOf(0);
    const isNamed = ({ format }: Candidate) => format >= 2;
    const limits = { bytes: 20e6, milliseconds: 12 };
    const search = await LeverSearch.open({ ...space, offers: isNamed }, true);
    const { best } = await search.within(limits);
    expect(isNamed(best)).toBe(true);
    expect(best.bytes).toBeLessThanOrEqual(limits.bytes);
    const timeOf = (await space.time(all)).map((time, i) => [all[i], time] as const);
    const fitting = timeOf.filter(([one, time]) => isNamed(one) && bytesOf(one) <= 20e6 && time <= 12);
    expect(best.loss).toBeCloseTo(Math.min(...fitting.map(([one]) => lossOf(one))), 12);
    const kept = await search.agreeing(0.9, {});
    expect(isNamed(kept.best)).toBe(true);
  });

  test("that nothing fits is refused with the least that there is", async () => {
    const { space } = spaceOf(0);
    const search = await LeverSearch.open(space, true);
    await expect(search.within({ bytes: 1e6 })).rejects.toThrow(
      "No model fits the budget of 1.0 MB (the smallest is 1.3 MB).",
    );
    await expect(search.within({ milliseconds: 0.1 })).rejects.toThrow("0.1 ms (the smallest is");
  });
});

describe("with an agreement to keep", () => {
  test.each([0.98, 0.95, 0.9, 0.7])("of %d: near the cheapest of all combinations", async (least) => {
    const { space, all, lossOf, timeOf } = spaceOf(0);
    const { best } = await (await LeverSearch.open(space, true)).agreeing(least, {});
    expect(best.agreement).toBeGreaterThanOrEqual(least);
    const cheapness = (c: Candidate) => bytesOf(c) * timeOf(c);
    const cheapest = Math.min(...all.filter((c) => 1 - 2 * lossOf(c) >= least).map(cheapness));
    // The steps between combinations along the frontier are up to a fifth.
    expect(cheapness(best)).toBeLessThanOrEqual(1.25 * cheapest);
  });

  test("measures no format on the teacher beyond the first that does not keep it", async () => {
    const { space, built } = spaceOf(0);
    await (await LeverSearch.open(space, true)).agreeing(0.95, {});
    expect(new Set(built.map(({ format }) => format))).toEqual(new Set([0, 1, 2]));
  });

  test("that none keeps is refused with the best there is", async () => {
    const { space } = spaceOf(0);
    const never = { ...space, fidelity: () => Promise.resolve({ loss: 0.4, agreement: 0.3 }) };
    await expect((await LeverSearch.open(never, true)).agreeing(0.9, {})).rejects.toThrow("agrees on 30.0 %");
  });
});

test("the frontier has as many points as were asked for, from the teacher to the cheapest", async () => {
  const { space } = spaceOf(0);
  const search = await LeverSearch.open(space, true);
  for (const candidate of await search.toBuild(6)) await search.measure(candidate);
  const points = search.sorted();
  expect(points.length).toBeGreaterThanOrEqual(6);
  const rest = points.map(({ shape, tokens, format }) => shape + tokens + format);
  expect(rest).toContain(0);
  expect(points.some(({ shape }) => shape === shares.length - 1)).toBe(true);
});

test("a search that another process goes on with measures nothing twice, and ends with the same", async () => {
  // Each process weighs files for itself.
  const timed = () => spaceOf(0.1).space;
  const untimed = () => ({ ...timed(), time: () => Promise.reject(new Error("timed again")) });
  const whole = await LeverSearch.open(timed(), true);
  for (const candidate of await whole.toBuild(6)) await whole.measure(candidate);
  const first = await LeverSearch.open(timed(), true);
  const candidates = await first.toBuild(6);
  const state = JSON.parse(JSON.stringify(first.state()));
  const others = await Promise.all(
    candidates.map(async (candidate) => (await LeverSearch.open(untimed(), true, state)).measure(candidate)),
  );
  const last = await LeverSearch.open(untimed(), true, state);
  last.take(others.reverse());
  expect(last.sorted()).toEqual(whole.sorted());
  const limits = { bytes: 12.5e6 };
  expect(await last.within(limits)).toEqual(await whole.within(limits));
});
