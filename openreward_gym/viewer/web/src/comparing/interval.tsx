import { COLOURS } from "../charts/plots";
import { shown } from "../numbers";
import type { Range } from "../types";

export type Interval = [number, number];

const WIDTH = 120;
const HEIGHT = 12;

/** The scale of several intervals: as wide as all of them, and as the range. */
export function spanOf(all: [Interval | null, number | null][], range: Range): Interval {
  const values = all.flatMap(([interval, value]) => [...(interval ?? []), value]).filter((value): value is number => value !== null);
  const [low, high] = [Math.min(range.min, ...values), Math.max(range.max, ...values)];
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}

/** An interval as a bar with its mean, and as text; without one, that there are too few tasks. */
export function IntervalBar({ interval, value, span, index, few, sign = false, zero = false }: {
  interval: Interval | null; value: number | null; span: Interval; index: number; few: number; sign?: boolean; zero?: boolean;
}) {
  if (!interval) return <span class="note">{value === null ? "–" : few < 5 ? "too few tasks for an interval" : "the rewards are too large for an interval"}</span>;
  const x = (number: number) => 4 + ((number - span[0]) / (span[1] - span[0])) * (WIDTH - 8);
  const text = (number: number) => `${sign && number > 0 ? "+" : ""}${fixed(number)}`;
  return (
    <span class="interval-bar">
      <svg width={WIDTH} height={HEIGHT} aria-hidden="true">
        {zero && <line class="zero" x1={x(0)} x2={x(0)} y1="0" y2={HEIGHT} />}
        <line class="whole" x1="4" x2={WIDTH - 4} y1={HEIGHT / 2} y2={HEIGHT / 2} />
        <line x1={x(interval[0])} x2={Math.max(x(interval[1]), x(interval[0]) + 1)} y1={HEIGHT / 2} y2={HEIGHT / 2} stroke={COLOURS[index]} stroke-width="3" />
        {value !== null && <circle cx={x(value)} cy={HEIGHT / 2} r="4" fill={COLOURS[index]} />}
      </svg>
      <span>{text(interval[0])} to {text(interval[1])}</span>
    </span>
  );
}

function fixed(number: number): string {
  return Math.abs(number) < 1000 ? number.toFixed(3).replace("-", "−") : shown(number);
}
