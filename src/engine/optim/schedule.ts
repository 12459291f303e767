// Learning rates by iteration.

export interface Schedule {
  /** How the rate falls after the warm-up: half a cosine, or a straight line. */
  readonly kind: "cosine" | "linear";
  /** The learning rate at the end of the warm-up. */
  readonly baseLearningRate: number;
  /** May be a fraction. */
  readonly warmupEpochs: number;
  readonly epochs: number;
  readonly iterationsPerEpoch: number;
}

/** The rate at an iteration (from 0): linear warm-up from 0, then down to 0. */
export function learningRateAt(schedule: Schedule, iteration: number): number {
  const { baseLearningRate, warmupEpochs, epochs, iterationsPerEpoch } = schedule;
  const epoch = iteration / iterationsPerEpoch;
  if (epoch < warmupEpochs) return (baseLearningRate * epoch) / warmupEpochs;
  if (epoch >= epochs) return 0;
  const gone = (epoch - warmupEpochs) / (epochs - warmupEpochs);
  return baseLearningRate * (schedule.kind === "linear" ? 1 - gone : 0.5 * (1 + Math.cos(Math.PI * gone)));
}
