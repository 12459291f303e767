// L-BFGS (Nocedal and Wright, algorithms 7.4 and 3.5) on float64 vectors, for objectives that are smooth and few-dimensional
// enough to be minimised to the end.

/** The value at a point, and the gradient there. */
export interface Evaluated {
  readonly value: number;
  readonly gradient: Float64Array;
}

export interface LbfgsOptions {
  /** Stops where no part of the gradient is larger. */
  readonly tolerance: number;
  readonly iterations: number;
  /** Steps that the curvature is taken from. */
  readonly memory: number;
}

export interface Minimum extends Evaluated {
  readonly point: Float64Array;
  readonly iterations: number;
  /** Whether the tolerance was met; else the iterations were used up, or no step went down any more. */
  readonly converged: boolean;
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const largest = (a: Float64Array) => a.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
const moved = (from: Float64Array, along: Float64Array, length: number) => from.map((v, i) => v + length * along[i]);

/** Armijo's and Wolfe's constants, as usual for quasi-Newton directions. */
const [decrease, curvature] = [1e-4, 0.9];
const mostTrials = 20;
/** Share of a value that float32's sums may err by. */
const rounding = 1e-6;

/** Minimises an objective from a point on. */
export async function minimise(
  objective: (point: Float64Array) => Promise<Evaluated>,
  start: Float64Array,
  { tolerance, iterations, memory }: LbfgsOptions,
): Promise<Minimum> {
  let point = start;
  let at = await objective(point);
  const steps: { readonly s: Float64Array; readonly y: Float64Array; readonly rho: number }[] = [];
  for (let i = 0; i < iterations; i++) {
    if (largest(at.gradient) <= tolerance) return { ...at, point, iterations: i, converged: true };
    const direction = newton(at.gradient, steps);
    const slope = dot(direction, at.gradient);
    // The first step has no curvature to go by.
    const first = steps.length === 0 ? Math.min(1, 1 / Math.sqrt(dot(at.gradient, at.gradient))) : 1;
    const result = await search(objective, point, at, direction, slope, first);
    if (!result) return { ...at, point, iterations: i, converged: false };
    const s = result.point.map((v, j) => v - point[j]);
    const y = result.at.gradient.map((v, j) => v - at.gradient[j]);
    const sy = dot(s, y);
    if (sy > 1e-12 * dot(y, y)) {
      steps.push({ s, y, rho: 1 / sy });
      if (steps.length > memory) steps.shift();
    }
    ({ point, at } = result);
  }
  return { ...at, point, iterations, converged: largest(at.gradient) <= tolerance };
}

/** The two-loop recursion: minus the gradient, through the inverse curvature of the last steps. */
function newton(gradient: Float64Array, steps: readonly { s: Float64Array; y: Float64Array; rho: number }[]) {
  let q: Float64Array = gradient.slice();
  const alphas: number[] = [];
  for (let i = steps.length - 1; i >= 0; i--) {
    alphas[i] = steps[i].rho * dot(steps[i].s, q);
    q = moved(q, steps[i].y, -alphas[i]);
  }
  const last = steps.at(-1);
  const scale = last ? dot(last.s, last.y) / dot(last.y, last.y) : 1;
  q = q.map((v) => v * scale);
  for (const [i, { s, y, rho }] of steps.entries()) q = moved(q, s, alphas[i] - rho * dot(y, q));
  return q.map((v) => -v);
}

/** A step that goes down enough and has got flatter, by bisection and doubling. */
async function search(
  objective: (point: Float64Array) => Promise<Evaluated>,
  from: Float64Array,
  at: Evaluated,
  direction: Float64Array,
  slope: number,
  first: number,
): Promise<{ point: Float64Array; at: Evaluated } | undefined> {
  let [low, high, length] = [0, Number.POSITIVE_INFINITY, first];
  let best: { point: Float64Array; at: Evaluated } | undefined;
  for (let trial = 0; trial < mostTrials; trial++) {
    const point = moved(from, direction, length);
    const here = await objective(point);
    const steepness = dot(here.gradient, direction);
    // Near the minimum values differ by less than float32 can tell, and the slope says what they can't (Hager and Zhang
    // 2005, approximate Wolfe conditions).
    const level = here.value <= at.value + rounding * Math.abs(at.value) && steepness <= (2 * decrease - 1) * slope;
    if (!(level || here.value <= at.value + decrease * length * slope)) high = length;
    else {
      if (!best || here.value < best.at.value) best = { point, at: here };
      if (steepness >= curvature * slope) return { point, at: here };
      low = length;
    }
    length = high === Number.POSITIVE_INFINITY ? 2 * length : (low + high) / 2;
  }
  return best;
}
