// Labels of axes: even digits along an axis, thousands and millions in short.

const UNITS = [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const;

/** Increments of an axis that has integers only. */
export const INTEGERS = [1, 2, 5].flatMap((digit) => Array.from({ length: 13 }, (_, power) => digit * 10 ** power)).sort((a, b) => a - b);

function decimalsOf(increment: number): number {
  for (let digits = 0; digits < 12; digits++) {
    const scaled = increment * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return digits;
  }
  return 12;
}

/** The labels of an axis' ticks, which are `increment` apart. */
export function tickLabels(ticks: number[], increment: number): string[] {
  const most = Math.max(...ticks.map(Math.abs), 0);
  if (most >= 1e12 || (most > 0 && most < 1e-4)) return ticks.map((tick) => (tick === 0 ? "0" : tick.toExponential(1).replaceAll("-", "−")));
  const [unit, sign] = UNITS.find(([size]) => most >= 10 * size || (size > 1e3 && most >= size)) ?? [1, ""];
  const digits = decimalsOf(increment / unit);
  return ticks.map((tick) => (Math.abs(tick) < increment / 1e6 ? "0" : `${(tick / unit).toFixed(digits)}${sign}`.replace("-", "−")));
}
