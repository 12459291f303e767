// What the figures of a run allow to be said, in words.

/** Two models on the same images: the accuracy of one less that of the other, as shares, with its 95 % confidence interval. */
export interface Comparison {
  readonly metric: "knn" | "probe" | "head";
  readonly model: string;
  readonly than: string;
  readonly difference: number;
  readonly interval?: readonly [number, number];
}

const names = { knn: "k-NN accuracy", probe: "Linear-probe accuracy", head: "Classifier accuracy" } as const;
const points = (share: number) => Math.abs(100 * share).toFixed(1);

/** "26.3 points below the teacher (95 % confidence interval 21.0 to 31.7)", or that nothing can be told apart. */
function phrase({ than, difference, interval }: Comparison): string {
  const direction = difference < 0 ? "below" : "above";
  const text = difference === 0 ? `equal to the ${than}` : `${points(difference)} points ${direction} the ${than}`;
  if (!interval) return text;
  const [low, high] = interval;
  if (low > 0 || high < 0) {
    const [near, far] = [Math.min(Math.abs(low), Math.abs(high)), Math.max(Math.abs(low), Math.abs(high))];
    return `${text} (95 % confidence interval ${points(near)} to ${points(far)})`;
  }
  if (low === high) return `${text} on each image`;
  const side = (share: number) => (points(share) === "0.0" ? "0" : `${points(share)} ${share < 0 ? "below" : "above"}`);
  return `${text} (95 % confidence interval ${side(low)} to ${side(high)}: no difference shown on these images)`;
}

/** One sentence a metric: the student beside the teacher and beside the weight copy. */
export function findings(comparisons: readonly Comparison[]): string[] {
  return (["knn", "probe", "head"] as const).flatMap((metric) => {
    const ofMetric = comparisons.filter((c) => c.metric === metric);
    if (ofMetric.length === 0) return [];
    return [`${names[metric]}: the ${ofMetric[0].model} is ${ofMetric.map(phrase).join(", and ")}.`];
  });
}
