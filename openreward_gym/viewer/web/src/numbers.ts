import type { Num, Range } from "./types";

/** Format a number. A missing value is a dash and NaN is NaN, never 0. */
export function shown(value: Num | undefined, digits = 3): string {
  if (value === null || value === undefined) return "–";
  const number = typeof value === "string" ? Number(value.replace(/^(-?)inf(inity)?$/i, "$1Infinity").replace(/^nan$/i, "NaN")) : value;
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  if (Number.isInteger(number)) return Math.abs(number) < 1e6 ? String(number).replace("-", "−") : number.toPrecision(4);
  const size = Math.abs(number);
  const text = size >= 1000 || size < 10 ** -digits ? number.toPrecision(digits) : number.toFixed(digits);
  return text.replace("-", "−");
}

/** Format a reward: whole numbers have three decimals too, as those beside them. */
export function three(value: Num | undefined): string {
  const number = finite(value);
  return number !== null && Number.isInteger(number) && Math.abs(number) < 1000 ? number.toFixed(3).replace("-", "−") : shown(value);
}

/** Format a number with all its digits, for tooltips. */
export function exactly(value: Num | undefined): string {
  if (value === null || value === undefined) return "none (not recorded)";
  return typeof value === "string" ? shown(value) : String(value);
}

/** Format a number in few characters: beyond 100 with one decimal. */
export function brief(value: number): string {
  return Math.abs(value) >= 100 && Math.abs(value) < 10_000 && !Number.isInteger(value) ? value.toFixed(1).replace("-", "−") : shown(value);
}

/** Format numbers that stand under each other: all with the same number of decimals; a missing one is a dash. */
export function evenly(values: (number | null | undefined)[]): string[] {
  const known = values.filter((value): value is number => value != null && Number.isFinite(value));
  const most = Math.max(0, ...known.map(Math.abs));
  const whole = known.every(Number.isInteger);
  const tiny = !whole && most < 0.001;
  const digits = whole ? 0 : most >= 10_000 ? 0 : most >= 100 ? 2 : 4;
  return values.map((value) => (value == null || !Number.isFinite(value) ? shown(value, 4) : tiny || Math.abs(value) >= 1e12 ? shown(value, 4) : value.toFixed(digits).replace("-", "−")));
}

export function finite(value: Num | undefined): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Map a value in its range to 0 (bad) to 1 (good); null without a value or a range. */
export function goodness(value: Num | undefined, range: Range | null): number | null {
  const number = finite(value);
  if (number === null || range === null || !(range.max > range.min)) return null;
  const share = Math.min(1, Math.max(0, (number - range.min) / (range.max - range.min)));
  return range.lower_is_better ? 1 - share : share;
}

export const UNIT: Range = { min: 0, max: 1, lower_is_better: false };

/** The range of an advantage: normalised by the standard deviation of n samples, it is within ±√(n-1). */
export function advantageRange(samples: number): Range {
  const bound = Math.sqrt(Math.max(1, samples - 1));
  return { min: -bound, max: bound, lower_is_better: false };
}

/** The class of a dot: one of 11 steps from red to green, or "blank". */
export function shade(good: number | null): string {
  return good === null ? "blank" : `g${Math.round(good * 10)}`;
}

export function compact(count: number | null | undefined): string {
  if (count === null || count === undefined) return "–";
  if (count < 1000) return String(count);
  if (count < 1e6) return `${(count / 1000).toFixed(count < 1e4 ? 1 : 0)}k`;
  return `${(count / 1e6).toFixed(1)}M`;
}

export function seconds(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${value.toFixed(1)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

/** Convert `max_async` to "Max Async". */
export function titleCase(reason: string): string {
  return reason
    .split(/[\s_-]+/)
    .filter(Boolean)
    .map((word) => word[0]!.toUpperCase() + word.slice(1).toLowerCase())
    .join(" ");
}

/** The exponential moving average with alpha = 2 / (span + 1). Gaps stay gaps and do not reset the average. */
export function ema(values: (number | null)[], span: number): (number | null)[] {
  const alpha = 2 / (span + 1);
  let state: number | null = null;
  return values.map((value) => {
    if (value === null) return null;
    state = state === null ? value : alpha * value + (1 - alpha) * state;
    return state;
  });
}

/** Replace values beyond 1.5 interquartile ranges by null. */
export function withoutOutliers(values: (number | null)[]): (number | null)[] {
  const sorted = values.filter((value): value is number => value !== null).sort((a, b) => a - b);
  if (sorted.length < 4) return values;
  const at = (share: number) => {
    const place = share * (sorted.length - 1);
    const low = Math.floor(place);
    return sorted[low]! + (place - low) * ((sorted[low + 1] ?? sorted[low]!) - sorted[low]!);
  };
  const spread = at(0.75) - at(0.25);
  const [low, high] = [at(0.25) - 1.5 * spread, at(0.75) + 1.5 * spread];
  return values.map((value) => (value !== null && (value < low || value > high) ? null : value));
}

/** Align several series on the union of their steps; gaps are null. */
export function joined(all: { steps: number[]; values: (number | null)[] }[]): { steps: number[]; values: (number | null)[][] } {
  const steps = [...new Set(all.flatMap((one) => one.steps))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  const values = all.map((one) => {
    const row: (number | null)[] = new Array(steps.length).fill(null);
    one.steps.forEach((step, index) => {
      row[place.get(step)!] = one.values[index] ?? null;
    });
    return row;
  });
  return { steps, values };
}
