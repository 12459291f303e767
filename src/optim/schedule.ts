// Learning rates by iteration.

export interface CosineSchedule {
  readonly kind: "cosine";
  /** The learning rate at the end of the warm-up. */
  readonly baseLearningRate: number;
  /** May be a fraction. */
  readonly warmupEpochs: number;
  readonly epochs: number;
  readonly iterationsPerEpoch: number;
}

export type Schedule = CosineSchedule;

/** The rate at an iteration (from 0): linear warm-up from 0, then half a cosine to 0. */
export function learningRateAt(schedule: Schedule, iteration: number): number {
  const { baseLearningRate, warmupEpochs, epochs, iterationsPerEpoch } = schedule;
  const epoch = iteration / iterationsPerEpoch;
  if (epoch < warmupEpochs) return (baseLearningRate * epoch) / warmupEpochs;
  if (epoch >= epochs) return 0;
  return baseLearningRate * 0.5 * (1 + Math.cos((Math.PI * (epoch - warmupEpochs)) / (epochs - warmupEpochs)));
}
