// Separable natural evolution strategies (SNES: Schaul, Glasmachers and Schmidhuber 2011): xNES with one deviation a parameter
// instead of a whole covariance.
import type { RandomStream } from "../../utils/random.ts";

export interface Evolution {
  readonly parameters: number;
  readonly generations: number;
  readonly random: RandomStream;
  /** What a candidate is worth: more is better. */
  worth(candidate: Float64Array): Promise<number>;
  readonly progress?: (generation: number) => void;
}

/** Candidates of a generation: 4 + 3 ln d, as the authors have it. */
const populationOf = (parameters: number) => 4 + Math.floor(3 * Math.log(parameters));

/** The authors' utilities: the better half counts, by the logarithm of its rank; they add up to zero. */
function utilities(count: number): number[] {
  const raw = Array.from({ length: count }, (_, i) => Math.max(0, Math.log(count / 2 + 1) - Math.log(i + 1)));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((value) => value / sum - 1 / count);
}

/** The best candidate met, beginning with zeros and a deviation of 1 for each parameter. */
export async function evolve(evolution: Evolution): Promise<{ best: Float64Array; worth: number }> {
  const { parameters, generations, random, worth, progress } = evolution;
  const count = populationOf(parameters);
  const weights = utilities(count);
  const deviationRate = (3 + Math.log(parameters)) / (5 * Math.sqrt(parameters));
  const mean = new Float64Array(parameters);
  const deviation = new Float64Array(parameters).fill(1);
  let best = { best: mean.slice(), worth: await worth(mean) };
  for (let generation = 0; generation < generations; generation++) {
    const drawn: { steps: Float64Array; worth: number }[] = [];
    for (let i = 0; i < count; i++) {
      const steps = Float64Array.from({ length: parameters }, () => random.normal());
      const candidate = steps.map((step, p) => mean[p] + deviation[p] * step);
      const score = await worth(candidate);
      if (score > best.worth) best = { best: candidate, worth: score };
      drawn.push({ steps, worth: score });
    }
    drawn.sort((a, b) => b.worth - a.worth);
    for (let p = 0; p < parameters; p++) {
      let [shift, spread] = [0, 0];
      drawn.forEach(({ steps }, rank) => {
        shift += weights[rank] * steps[p];
        spread += weights[rank] * (steps[p] ** 2 - 1);
      });
      mean[p] += deviation[p] * shift;
      deviation[p] *= Math.exp((deviationRate / 2) * spread);
    }
    progress?.(generation + 1);
  }
  return best;
}
