// The best model for a budget, over several levers at once: shape (the share of the teacher's block weights that is kept),
// tokens (smaller images and merged tokens), and the format that weights are stored and multiplied in.
//
// A grid of all combinations is too large to build: each shape costs a closed-form refit, and each time is a
// measurement. So costs and fidelity are predicted from the levers one by one, and only what is likely to be best is
// built and measured.
//
// - Bytes follow from shape and format; a file is weighed before it is chosen. The time of a combination is predicted as the
//   teacher's time multiplied by the ratio of each lever alone, and by how far this was off for the nearest combination that was
//   timed. Where time is limited, what is chosen was timed.
// - The loss is 1 - the mean cosine similarity of pooled features with the teacher's. Errors of independent levers
//   add up in it. Formats and tokens are measured on the teacher; shapes are refitted when they are asked for, and
//   taken from a power law through those that were. Shapes far from those are hoped to lose little, so that they are tried.
//
// Of the candidates that are predicted to fit, the one with the smallest predicted loss is built. Its measurement
// corrects the prediction for its shape and its levers, until the best prediction is one that was measured.
import { UserError } from "../../utils/errors.ts";
import { costText } from "./budget.ts";

/** What a model costs. */
export interface Cost {
  /** Bytes of the file that is loaded. */
  readonly bytes: number;
  /** Median milliseconds per image, on this machine. */
  readonly milliseconds: number;
  /** Share of the teacher's parameters. */
  readonly share: number;
}

/** How near a model is to the teacher, on images that nothing was fitted on. */
export interface Fidelity {
  /** 1 - the mean cosine similarity of pooled features. */
  readonly loss: number;
  /** Share of images with the teacher's prediction. */
  readonly agreement: number;
}

/** A combination, as places in the space's lists. */
export interface Candidate {
  readonly shape: number;
  readonly tokens: number;
  readonly format: number;
}

/**
 * What there is to choose from. The first entry of each list is the teacher's own: whole, with all tokens, not quantized. Predictions
 * are built on it; it need not be offered.
 */
export interface SearchSpace {
  /** Shares of the teacher's block weights, from 1 downward. */
  readonly shares: readonly number[];
  /** So many settings of tokens; the first leaves all, and neighbours of one kind are alike. */
  readonly tokenSettings: number;
  /** What times of settings have in common: those of one kind are as far off from what their levers' times say. */
  tokenKind(tokens: number): string;
  /** So many formats, about from the most faithful to the least. */
  readonly formats: number;
  /** Whether a combination may be chosen. */
  offers(candidate: Candidate): boolean;
  /** Bytes of the file, about: what lies in it beside the weights is left out. */
  bytes(candidate: Candidate): number;
  /** Bytes of the file. */
  weigh(candidate: Candidate): Promise<number>;
  /** Share of the teacher's parameters that a shape has. */
  parameters(shape: number): number;
  /** Milliseconds per image of combinations, whose weights need not be fitted; measured in turns. */
  time(candidates: readonly Candidate[]): Promise<number[]>;
  /** Builds a combination and measures it; shapes that were refitted are kept. */
  fidelity(candidate: Candidate): Promise<Fidelity>;
}

/** The most that a model may cost; what is left out is free. */
export type Limits = Partial<Cost>;

/** A combination that was built and measured. */
export interface MeasuredCandidate extends Candidate, Cost, Fidelity {}

/** What a search has measured, as plain data: another process goes on from it. */
export interface SearchState {
  /** Combinations that were timed, with the bytes of their files. */
  readonly timed: readonly (Candidate & Pick<Cost, "bytes" | "milliseconds">)[];
  readonly measured: readonly MeasuredCandidate[];
}

/** What a search gives. */
export interface SearchResult {
  readonly best: MeasuredCandidate;
  /** All that were measured, the cheapest first. */
  readonly measured: readonly MeasuredCandidate[];
}

const keyOf = ({ shape, tokens, format }: Candidate) => `${shape} ${tokens} ${format}`;
const placesOf = ({ shape, tokens, format }: Candidate): Candidate => ({ shape, tokens, format });

/** Combinations that are built for one question at most. */
const mostBuilt = 6;

/** Predictions over a space, corrected by what was measured. */
export class LeverSearch {
  private readonly space: SearchSpace;
  private readonly candidates: readonly Candidate[];
  private readonly times = new Map<string, Candidate & Pick<Cost, "milliseconds">>();
  /** Of files that were weighed, here or by another process. */
  private readonly weighed = new Map<string, number>();
  private readonly measured = new Map<string, MeasuredCandidate>();

  private constructor(space: SearchSpace, candidates: readonly Candidate[]) {
    this.space = space;
    this.candidates = candidates;
  }

  /** Times each lever alone, or takes up what another process has measured. */
  static async open(space: SearchSpace, timed: boolean, state?: SearchState): Promise<LeverSearch> {
    const { shares, tokenSettings, formats } = space;
    const all = shares.flatMap((_, shape) =>
      count(tokenSettings).flatMap((tokens) => count(formats).map((format) => ({ shape, tokens, format }))),
    );
    const search = new LeverSearch(
      space,
      all.filter((candidate) => space.offers(candidate)),
    );
    for (const one of state?.timed ?? []) {
      search.times.set(keyOf(one), one);
      search.weighed.set(keyOf(one), one.bytes);
    }
    if (state) search.take(state.measured);
    else if (timed) await search.timeEach(all.filter(movesOneLever));
    return search;
  }

  /** What was measured so far. */
  state(): SearchState {
    const timed = [...this.times.values()].map((one) => ({ ...one, bytes: this.bytesOf(one) }));
    return { timed, measured: [...this.measured.values()] };
  }

  /** Takes combinations that another process has built and measured. */
  take(measured: readonly MeasuredCandidate[]): void {
    for (const one of measured) {
      this.measured.set(keyOf(one), one);
      this.weighed.set(keyOf(one), one.bytes);
    }
  }

  private async timeEach(candidates: readonly Candidate[]): Promise<void> {
    const unknown = candidates.filter((candidate) => !this.times.has(keyOf(candidate)));
    const times = await this.space.time(unknown);
    for (const [i, candidate] of unknown.entries()) {
      this.times.set(keyOf(candidate), { ...placesOf(candidate), milliseconds: times[i] });
      // What was timed was written.
      await this.weigh(candidate);
    }
  }

  /** Measured, or predicted. NaN where no times were asked for. */
  private milliseconds(candidate: Candidate): number {
    return this.timeOf(candidate) ?? this.productOfRatios(candidate) * this.timeExcess(candidate);
  }

  private timeOf(candidate: Candidate): number | undefined {
    return this.times.get(keyOf(candidate))?.milliseconds;
  }

  /** The teacher's time by the ratio of each lever alone. */
  private productOfRatios(candidate: Candidate): number {
    const base = this.timeOf(whole) ?? NaN;
    const ratio = (lever: Candidate) => (this.timeOf(lever) ?? NaN) / base;
    return aloneOf(candidate).reduce((time, lever) => time * ratio(lever), base);
  }

  /**
   * How much longer combinations of levers take than the product of their ratios says: as the nearest that was timed, of the same format
   * and kind of tokens, of the nearest setting of tokens and then of the nearest shape.
   */
  private timeExcess({ shape, tokens, format }: Candidate): number {
    let nearest: { one: Candidate & Pick<Cost, "milliseconds">; far: number } | undefined;
    for (const one of this.times.values()) {
      const isAlike = one.format === format && this.space.tokenKind(one.tokens) === this.space.tokenKind(tokens);
      if (!isAlike || movesOneLever(one)) continue;
      const far = Math.abs(one.tokens - tokens) * this.space.shares.length + Math.abs(one.shape - shape);
      if (!nearest || far < nearest.far || (far === nearest.far && one.shape < nearest.one.shape))
        nearest = { one, far };
    }
    return nearest === undefined ? 1 : nearest.one.milliseconds / this.productOfRatios(nearest.one);
  }

  /** Bytes of a file; until it was weighed about, as much more than expected as another file of its format has. */
  private bytesOf(candidate: Candidate): number {
    const weighed = this.weighed.get(keyOf(candidate));
    return weighed ?? this.space.bytes(placesOf(candidate)) * this.excess(candidate.format);
  }

  /** Of the largest file of a format that was weighed, so that processes with the same measurements predict the same. */
  private excess(format: number): number {
    for (const shape of count(this.space.shares.length)) {
      const bytes = this.weighed.get(keyOf({ ...whole, shape, format }));
      if (bytes !== undefined) return bytes / this.space.bytes({ ...whole, shape, format });
    }
    return 1;
  }

  private async weigh(candidate: Candidate): Promise<void> {
    if (this.weighed.has(keyOf(candidate))) return;
    this.weighed.set(keyOf(candidate), await this.space.weigh(placesOf(candidate)));
  }

  /** What a combination costs, as far as that is known. */
  private costOf(candidate: Candidate): Cost {
    return {
      bytes: this.bytesOf(candidate),
      milliseconds: this.milliseconds(candidate),
      share: this.space.parameters(candidate.shape),
    };
  }

  /** Builds and measures a combination, once. */
  async measure(candidate: Candidate): Promise<MeasuredCandidate> {
    const key = keyOf(candidate);
    const measurement = this.measured.get(key);
    if (measurement) return measurement;
    await this.weigh(candidate);
    const fidelity = await this.space.fidelity(placesOf(candidate));
    const result = { ...placesOf(candidate), ...this.costOf(candidate), ...fidelity };
    this.measured.set(key, result);
    return result;
  }

  /** Measured, or the sum of each lever's own. */
  private lossOf(candidate: Candidate): number {
    const measurement = this.measured.get(keyOf(candidate));
    if (measurement) return measurement.loss;
    return this.freeLoss(candidate) + this.shapeLoss(candidate.shape);
  }

  /** Of a format and a setting of tokens, which need no refit. */
  private freeLoss({ format, tokens }: Candidate): number {
    return this.formatLoss(format) + (this.measured.get(keyOf({ ...whole, tokens }))?.loss ?? 0);
  }

  /** Of a format alone: measured on the teacher, or no less than that of formats before it. */
  private formatLoss(format: number): number {
    for (let i = format; i > 0; i--) {
      const measurement = this.measured.get(keyOf({ ...whole, format: i }));
      if (measurement) return measurement.loss;
    }
    return 0;
  }

  /**
   * Of a shape alone: what combinations with it were measured to lose beyond their other levers, and between and beyond
   * those shapes a power of the share that is removed. Far from all that were refitted it is a guess, and hoped to be low: else one shape
   * that lost much, for what its other levers do to it, would keep all others from being tried.
   */
  private shapeLoss(shape: number): number {
    const removed = (index: number) => 1 - this.space.shares[index];
    if (shape === 0) return 0;
    const points = new Map<number, number>();
    for (const one of this.measured.values())
      if (one.shape > 0) points.set(removed(one.shape), Math.max(leastLoss, one.loss - this.freeLoss(one)));
    const x = removed(shape);
    if (points.size === 0) return hopedLoss(x);
    const fitted = powerLaw(
      x,
      [...points].sort(([a], [b]) => a - b),
    );
    const isNear = [...points.keys()].some((point) => x <= nearRatio * point && point <= nearRatio * x);
    if (isNear) return fitted;
    // What removes more loses no less.
    const floor = Math.max(0, ...[...points].filter(([point]) => point < x).map(([, loss]) => loss));
    return Math.max(floor, Math.min(fitted, hopedLoss(x)));
  }

  /** Measures formats and tokens on the teacher: they need no refit. */
  private async measureFree(fits: (candidate: Candidate) => boolean): Promise<void> {
    const used = this.candidates.filter(fits);
    for (const lever of ["format", "tokens"] as const) {
      for (const level of new Set(used.map((candidate) => candidate[lever])))
        if (level > 0) await this.measure({ ...whole, [lever]: level });
    }
  }

  /** The combination that loses least within limits. Throws a UserError where none fits. */
  async within(limits: Limits): Promise<SearchResult> {
    const fits = (candidate: Candidate) => isWithin(this.costOf(candidate), limits);
    if (!this.candidates.some(fits)) throw this.nothingFits(limits);
    for (let built = 0; built < mostBuilt; built++) {
      const next = await this.settledBest(fits, limits);
      if (!next || this.measured.has(keyOf(next))) break;
      await this.measure(next);
    }
    const measured = this.sorted();
    const fitting = measured.filter((candidate) => this.space.offers(candidate) && isWithin(candidate, limits));
    if (fitting.length === 0) throw this.nothingFits(limits);
    return { best: fitting.reduce((best, one) => (one.loss < best.loss ? one : best)), measured };
  }

  /**
   * The best prediction whose bytes and time, where they are limited, were measured to fit, and whose format and tokens were measured
   * on the teacher. Until they are, they count as no worse than those before them: what is never the best is never measured.
   */
  private async settledBest(fits: (candidate: Candidate) => boolean, limits: Limits): Promise<Candidate | undefined> {
    for (;;) {
      const next = this.bestPredicted(fits);
      if (!next) return undefined;
      if (limits.bytes !== undefined) await this.weigh(next);
      const timed = limits.milliseconds === undefined || this.times.has(keyOf(next));
      if (!timed) await this.timeEach([next]);
      if (!fits(next)) continue;
      const [unknown] = aloneOf(next).filter((lever) => lever.shape === 0 && !this.measured.has(keyOf(lever)));
      if (!unknown) return next;
      await this.measure(unknown);
    }
  }

  /**
   * The cheapest combination, by the product of its bytes and its time, that agrees with the teacher on at least this
   * share of images, within limits. Throws a UserError where none that was built does.
   */
  async agreeing(least: number, limits: Limits): Promise<SearchResult> {
    const affordable = (candidate: Candidate) => isWithin(this.costOf(candidate), limits);
    const failing = await this.firstFailing(least, affordable);
    const fits = (candidate: Candidate) => candidate.format < failing && affordable(candidate);
    await this.measureFree(fits);
    await this.measureAlong(this.frontier(fits), least);
    // What was measured has corrected what other combinations are predicted to lose and take.
    await this.measureAlong(this.frontier(fits), least);
    const measured = this.sorted();
    const keeping = measured.filter((one) => this.space.offers(one) && one.agreement >= least && isWithin(one, limits));
    if (keeping.length === 0)
      throw new UserError(
        `No model that was tried agrees with the teacher on ${percent(least)} % of images; the best agrees on ${percent(Math.max(0, ...measured.map(({ agreement }) => agreement)))} %.`,
        { code: "INVALID_OPTION" },
      );
    return { best: keeping.reduce((best, one) => (this.cheapness(one) < this.cheapness(best) ? one : best)), measured };
  }

  /** Measures along a frontier until it is known where it agrees too little. */
  private async measureAlong(steps: readonly Candidate[], least: number): Promise<void> {
    // Agreement falls along the frontier: halves are enough, as each step may cost a refit.
    let [keeps, fails] = [-1, steps.length];
    while (fails - keeps > 1) {
      const middle = Math.floor((keeps + fails) / 2);
      if (this.times.size > 0) await this.timeEach([steps[middle]]);
      const { agreement } = await this.measure(steps[middle]);
      if (agreement >= least) keeps = middle;
      else fails = middle;
    }
  }

  /**
   * The first format that agrees too little on the teacher itself, or their number; those behind it are not measured. The first of all
   * is the teacher.
   */
  private async firstFailing(least: number, fits: (candidate: Candidate) => boolean): Promise<number> {
    const used = new Set(this.candidates.filter(fits).map(({ format }) => format));
    for (let format = 1; format < this.space.formats; format++)
      if (used.has(format) && (await this.measure({ ...whole, format })).agreement < least) return format;
    return this.space.formats;
  }

  /**
   * So many combinations along the predicted frontier, evenly from the dearest to the cheapest, without those that are measured.
   * Formats and tokens are measured on the teacher for it.
   */
  async toBuild(points: number): Promise<Candidate[]> {
    await this.measureFree(() => true);
    const steps = this.frontier(() => true);
    const last = steps.length - 1;
    const places = new Set(
      count(Math.min(points, steps.length)).map((i) => Math.round((i * last) / Math.max(1, points - 1))),
    );
    const chosen = [...places].map((place) => steps[Math.min(place, last)]);
    return chosen.filter((one) => !this.measured.has(keyOf(one))).map(placesOf);
  }

  /** Bytes times milliseconds: who halves either halves it. */
  private cheapness(candidate: Candidate): number {
    const { bytes, milliseconds } = this.costOf(candidate);
    return Number.isNaN(milliseconds) ? bytes : bytes * milliseconds;
  }

  /** Combinations that nothing beats in both cheapness and predicted loss; the dearest first. */
  private frontier(fits: (candidate: Candidate) => boolean): Candidate[] {
    const sorted = this.candidates.filter(fits).sort((a, b) => this.cheapness(a) - this.cheapness(b));
    const kept: Candidate[] = [];
    let best = Infinity;
    for (const candidate of sorted) {
      const loss = this.lossOf(candidate);
      if (loss >= best) continue;
      best = loss;
      kept.push(candidate);
    }
    return kept.reverse();
  }

  private bestPredicted(fits: (candidate: Candidate) => boolean): Candidate | undefined {
    return this.candidates
      .filter(fits)
      .reduce<Candidate | undefined>(
        (best, one) => (best === undefined || this.lossOf(one) < this.lossOf(best) ? one : best),
        undefined,
      );
  }

  /** All that were measured, the smallest first. */
  sorted(): MeasuredCandidate[] {
    return [...this.measured.values()].sort((a, b) => a.bytes - b.bytes || a.milliseconds - b.milliseconds);
  }

  private nothingFits(limits: Limits): UserError {
    const costs = this.candidates.map((candidate) => this.costOf(candidate));
    const least = (kind: keyof Cost) => Math.min(...costs.map((cost) => cost[kind]));
    const parts = costKinds.flatMap((kind) =>
      limits[kind] === undefined
        ? []
        : [`${costText[kind](limits[kind])} (the smallest is ${costText[kind](least(kind))})`],
    );
    return new UserError(`No model fits the budget of ${parts.join(" and ")}.`, { code: "INVALID_OPTION" });
  }
}

/** The teacher as it is. */
const whole: Candidate = { shape: 0, tokens: 0, format: 0 };

const levers = ["shape", "tokens", "format"] as const;

const movesOneLever = (candidate: Candidate) => levers.filter((lever) => candidate[lever] > 0).length <= 1;

/** Each lever of a combination alone. */
const aloneOf = (candidate: Candidate): Candidate[] =>
  levers.filter((lever) => candidate[lever] > 0).map((lever) => ({ ...whole, [lever]: candidate[lever] }));

const count = (length: number) => Array.from({ length }, (_, i) => i);

const costKinds = ["bytes", "milliseconds", "share"] as const satisfies readonly (keyof Cost)[];

/** Whether nothing costs more than its limit. */
function isWithin(cost: Cost, limits: Limits): boolean {
  return costKinds.every((kind) => limits[kind] === undefined || cost[kind] <= limits[kind]);
}

const percent = (share: number) => (100 * share).toFixed(1);

/** What removing a share loses where it loses little: about as with shapes by block of a ViT-S (dev/shape.md). */
const hopedLoss = (removed: number): number => 0.5 * removed ** 3;
/** Shapes whose removed shares are within this ratio of one that was refitted are predicted from it. */
const nearRatio = 1.6;
/** The power with which losses grow, where one was measured. */
const defaultPower = 2.5;
const leastLoss = 1e-6;

/** `y` at `x` by powers through the two nearest of these points, which are sorted by `x`; through one by the default power. */
function powerLaw(x: number, points: readonly (readonly [number, number])[]): number {
  if (points.length === 1) {
    const [[x0, y0]] = points;
    return y0 * (x / x0) ** defaultPower;
  }
  const after = points.findIndex(([cost]) => cost >= x);
  const first = Math.min(points.length - 2, Math.max(0, (after === -1 ? points.length : after) - 1));
  const [[x0, y0], [x1, y1]] = [points[first], points[first + 1]];
  return y0 * (x / x0) ** (Math.log(y1 / y0) / Math.log(x1 / x0));
}
