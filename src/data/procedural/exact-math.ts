// Functions whose last bits differ between JavaScript engines (Math.sin, Math.exp, Math.pow, ...), made of additions,
// products and divisions alone, which IEEE 754 fixes to the bit: an image is the same on each platform.

/** In turns: `sineOfTurns(0.25)` is 1. The error stays below 1e-9. */
export function sineOfTurns(turns: number): number {
  let t = turns - Math.floor(turns);
  let sign = 1;
  if (t >= 0.5) {
    t -= 0.5;
    sign = -1;
  }
  if (t > 0.25) t = 0.5 - t;
  const x = t * 6.283185307179586;
  const s = x * x;
  // Taylor's series to x^13; x is at most pi / 2.
  const series =
    1 + s * (-1 / 6 + s * (1 / 120 + s * (-1 / 5040 + s * (1 / 362880 + s * (-1 / 39916800 + s / 6227020800)))));
  return sign * x * series;
}

export const cosineOfTurns = (turns: number): number => sineOfTurns(turns + 0.25);

const ln2 = 0.6931471805599453;

/** 2 to the power x, from -1000 to 1000. The relative error stays below 1e-10. */
export function exp2(x: number): number {
  const whole = Math.floor(x + 0.5);
  const r = (x - whole) * ln2;
  let term = 1;
  let sum = 1;
  for (let i = 1; i <= 9; i++) {
    term *= r / i;
    sum += term;
  }
  for (let i = 0; i < whole; i++) sum *= 2;
  for (let i = 0; i > whole; i--) sum /= 2;
  return sum;
}

/** The logarithm to base 2 of a number above 0. The error stays below 1e-10. */
export function log2(x: number): number {
  let whole = 0;
  for (; x > 1.4142135623730951; x /= 2) whole++;
  for (; x < 0.7071067811865476; x *= 2) whole--;
  // ln x = 2 artanh((x - 1) / (x + 1)).
  const u = (x - 1) / (x + 1);
  const s = u * u;
  let sum = 0;
  for (let k = 13; k >= 0; k--) sum = sum * s + 1 / (2 * k + 1);
  return whole + (2 * u * sum) / ln2;
}

/** `base` above 0 to a power. */
export const power = (base: number, exponent: number): number => exp2(exponent * log2(base));
