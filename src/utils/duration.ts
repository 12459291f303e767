/** A duration as people read it: `0.4 s`, `45 s`, `3 min 20 s`, `1 h 02 min`. */
export function durationText(seconds: number): string {
  const exact = Math.max(0, seconds);
  if (exact < 9.95) return `${Number(exact.toFixed(1))} s`;
  const s = Math.round(exact);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}
