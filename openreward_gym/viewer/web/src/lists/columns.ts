import { rangeOf } from "../reading/sample";
import { advantageRange, exactly, finite, goodness, seconds, shade, shown } from "../numbers";
import type { Card, Num, Run } from "../types";

/** A column of a list of rollouts; `sort` is its name in the address and in filters. */
export interface Column { key: string; label: string; about: string; sort: string; dot: boolean; value: (card: Card) => Num | undefined; text?: (value: Num | undefined) => string }

const duration = (value: Num | undefined) => seconds(finite(value));
const dollars = (value: Num | undefined) => (finite(value) === null ? shown(value) : `$${shown(value, 2)}`);
const whole = (value: Num | undefined) => (finite(value) === null ? shown(value) : (value as number).toLocaleString("en"));

const FIRST: Column[] = [
  { key: "reward", label: "reward", about: "Return of the episode", sort: "reward", dot: true, value: (card) => card.reward },
  { key: "advantage", label: "advantage", about: "Advantage in the group", sort: "advantage", dot: true, value: (card) => card.advantage },
  { key: "tokens", label: "tokens", about: "Output tokens", sort: "tokens", dot: true, value: (card) => card.tokens, text: (value) => (value == null ? "–" : String(value)) },
  { key: "steps", label: "turns", about: "Turns of the model; in filters `steps`", sort: "steps", dot: true, value: (card) => card.turns },
  { key: "input_tokens", label: "input tokens", about: "Input tokens", sort: "input_tokens", dot: false, value: (card) => card.input_tokens, text: whole },
  { key: "calls", label: "calls", about: "Tool calls", sort: "calls", dot: false, value: (card) => card.calls },
  { key: "errors", label: "errors", about: "Tool results that are errors", sort: "errors", dot: false, value: (card) => card.errors },
  { key: "unnoticed_errors", label: "unnoticed errors", about: "Tool errors after which the model neither called the tool again nor said a word like error, failed or sorry: a heuristic", sort: "unnoticed_errors", dot: false, value: (card) => card.unnoticed_errors },
  { key: "cost", label: "cost", about: "US dollars", sort: "cost", dot: false, value: (card) => card.cost, text: dollars },
  { key: "policy_seconds", label: "policy time", about: "Seconds that the model took", sort: "policy_seconds", dot: false, value: (card) => card.policy_s, text: duration },
  { key: "environment_seconds", label: "environment time", about: "Seconds that the environment took", sort: "environment_seconds", dot: false, value: (card) => card.environment_s, text: duration },
  { key: "duration", label: "duration", about: "Seconds from start to end", sort: "duration", dot: false, value: (card) => card.duration, text: duration },
];
const LAST: Column[] = [
  { key: "rating", label: "rating", about: "Rating by a reader", sort: "rating", dot: false, value: (card) => card.label?.rating, text: (value) => (value == null ? "–" : `★${value}`) },
  { key: "status", label: "status", about: "How the episode ended", sort: "status", dot: false, value: (card) => card.status, text: (value) => String(value ?? "–") },
];
const OWN = new Set([...FIRST, ...LAST].map((column) => column.key));
export const DEFAULT = 4;
/** The column of lists over all steps. */
export const STEP: Column = { key: "step", label: "step", about: "Training step", sort: "step", dot: false, value: (card) => card.step, text: whole };

/** All columns that a run's lists can have: first those of every rollout, then the run's metrics, then labels and status. */
export function columnsOf(run: Run | undefined): Column[] {
  const metrics = (run?.metrics ?? []).map((name): Column => {
    const [range, seen] = [run?.ranges[name], run?.observed?.[name]];
    const about = range ? `from ${range.min} to ${range.max}${range.lower_is_better ? ", lower is better" : ""}` : seen?.min != null ? `from ${shown(seen.min)} to ${shown(seen.max)} in this run; no range was declared` : "no values";
    return { key: OWN.has(name) ? `metric.${name}` : name, label: name || "(no name)", about: `Metric ${name}: ${about}`, sort: `metric.${name}`, dot: true, value: (card) => card.metrics[name] };
  });
  return [...FIRST, ...metrics, ...LAST];
}

/** The text of a value; with `even` also whole numbers have two digits after the point, as the others of their column. */
export function textOf(column: Column, card: Card, even: boolean): string {
  const value = column.value(card);
  if (column.text) return column.text(value);
  const number = finite(value);
  return even && number !== null && Number.isInteger(number) && Math.abs(number) < 1000 ? number.toFixed(2).replace("-", "−") : shown(value, 2);
}

const EVEN = new Set(["reward", "advantage"]);

/** The columns whose numbers have a fraction: rewards always. */
export function fractions(columns: Column[], cards: Card[]): Set<string> {
  const has = (column: Column) => cards.some((card) => { const value = finite(column.value(card)); return value !== null && !Number.isInteger(value); });
  return new Set(columns.filter((column) => !column.text && (EVEN.has(column.key) || has(column))).map((column) => column.key));
}

/** All digits of a value, for tooltips and row names. */
export function exactText(column: Column, card: Card): string {
  return column.text && column.key !== "tokens" ? column.text(column.value(card)) : exactly(column.value(card));
}

/** The class of a value's dot: red to green in its range, tokens grey to the largest number, "blank" without a range. */
export function shadeOf(column: Column, card: Card, run: Run | undefined, samples: number, most: number): string {
  if (column.key === "tokens") return card.tokens === null ? "blank" : `t${Math.round(Math.min(1, card.tokens / most) * 10)}`;
  const value = column.value(card);
  const range = column.key === "advantage" ? advantageRange(samples) : rangeOf(run, column.sort.replace(/^metric\./, ""));
  return shade(finite(value) === null ? null : goodness(value, range));
}
