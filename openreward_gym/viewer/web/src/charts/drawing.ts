import { ema, evenly, joined, shown, withoutOutliers } from "../numbers";
import { DISCARDED_DASH, type Style, styleOf } from "./colours";
import { COUNTED_NAMES, type Plot, STATISTIC_NAMES, type Which, whichesOf } from "./plots";
import type { Histograms, Series } from "../types";

export interface Line extends Style { label: string; values: (number | null)[]; dim?: boolean; width?: number; interval?: [number, number] | null }
export interface Band { upper: number; lower: number; color: string }

/** A series of a chart, as its legend names it. */
export interface Key extends Style { key: string; label: string; hidden: boolean }

/** What stands at one place of a chart, in words. */
export interface Reading { place: string; rows: (Style & { label: string; value: string; about: string })[] }

/** All that a chart draws and says. */
export interface Drawing {
  x: number[]; lines: Line[]; bands: Band[]; edges: number[] | null; integers: boolean; keys: Key[]; notes: string[];
  reading: (index: number) => Reading; table: { head: string[]; rows: string[][] };
  /** The last value of each series, by its key. */
  lasts: Record<string, number>;
}

/** A share of rollouts or groups is always of all rollouts. */
export function isShare(metric: string): boolean {
  return /^(discarded share|errors share|truncated share|discarded: .*|zero-advantage groups|all-[01] groups)$/s.test(metric);
}

/** What a chart shows of its metric, in words: "mean of all rollouts". */
export function captionOf(plot: Plot, step: number | null = null): string {
  const share = isShare(plot.metric);
  const groups = share && / groups$/.test(plot.metric);
  const whose = groups ? "groups" : share ? "all rollouts" : plot.which === "split" ? "kept and of discarded rollouts" : `${COUNTED_NAMES[plot.which]} rollouts`;
  const what = share && plot.statistic === "mean" ? "share" : STATISTIC_NAMES[plot.statistic];
  const place = plot.statistic !== "histogram" ? "" : step === null ? "" : ` of step ${step}`;
  return `${what} of ${whose}${place}${plot.filter ? ", filtered" : ""}${plot.smooth > 1 && plot.statistic !== "histogram" && plot.statistic !== "distribution" ? ", smoothed" : ""}`;
}

/** The series of a chart: each run's, or each run's kept and discarded rollouts. */
export function keysOf(plot: Plot, runs: string[]): (Key & { run: string; which: Which })[] {
  const whiches = isShare(plot.metric) ? (["all"] as Which[]) : whichesOf(plot);
  return runs.flatMap((run, place) => whiches.map((which, part) => {
    const split = whiches.length > 1;
    const style = split ? { color: styleOf(runs.length > 1 ? place : part).color, dash: which === "discarded" ? DISCARDED_DASH : [] } : styleOf(place);
    const label = !split ? run : runs.length > 1 ? `${run}, ${which}` : which;
    const key = `${run} ${which}`;
    return { ...style, key, label, run, which, hidden: plot.hidden.includes(key) };
  }));
}

const QUANTILES = [["p95", "95 %"], ["p75", "75 %"], ["p50", "median"], ["p25", "25 %"], ["p05", "5 %"]] as const;

function cut(plot: Plot, series: Series, values: (number | null)[]) {
  const kept = plot.first ? values.map((value, index) => (index === 0 ? null : value)) : values;
  return { steps: series.steps, values: plot.outliers ? withoutOutliers(kept) : kept };
}

/** The drawing of a metric over the steps. `all` has the series of each key; null for one that is not there yet. */
export function overSteps(plot: Plot, keys: Key[], all: (Series | null)[]): Drawing {
  const drawn = keys.flatMap((key, index) => (all[index]?.steps.length && !key.hidden ? [{ key, series: all[index]! }] : []));
  const counts = joined(drawn.map(({ series }) => ({ steps: series.steps, values: series.count }))).values;
  const notes = notesOf(keys, all);
  return plot.statistic === "distribution" ? ofQuantiles(plot, keys, drawn, counts, notes) : ofFigures(plot, plot.statistic === "histogram" ? "mean" : plot.statistic, keys, drawn, counts, notes);
}

type Drawn = { key: Key; series: Series }[];
type Counts = (number | null)[][];

function ofQuantiles(plot: Plot, keys: Key[], drawn: Drawn, counts: Counts, notes: string[]): Drawing {
  const { steps, values } = joined(drawn.flatMap(({ series }) => QUANTILES.map(([name]) => cut(plot, series, series[name]))));
  const lines = values.map((row, index): Line => {
    const { key } = drawn[Math.floor(index / 5)]!;
    const median = index % 5 === 2;
    return { label: `${key.label} ${QUANTILES[index % 5]![1]}`, color: key.color, dash: median ? key.dash : [], values: row, width: median ? 2 : 0.5 };
  });
  const bands = drawn.flatMap(({ key: { color } }, place) => [{ upper: place * 5 + 1, lower: place * 5 + 5, color: `${color}22` }, { upper: place * 5 + 2, lower: place * 5 + 4, color: `${color}33` }]);
  const several = drawn.length > 1;
  const reading = (index: number) => read(`step ${steps[index]}`, drawn.flatMap(({ key, series }, place) => QUANTILES.map(([, name], part) => ({
      color: key.color, dash: key.dash, label: several ? `${key.label}, ${name}` : name, value: values[place * 5 + part]![index] ?? null, about: part === 0 ? counted(counts[place]![index], unitOf(series)) : "",
  }))));
  const head = ["step", ...drawn.flatMap(({ key, series }) => [...QUANTILES.map(([, name]) => (several ? `${key.label}, ${name}` : name)), several ? `${key.label}, ${unitOf(series)}` : unitOf(series)])];
  const rows = steps.map((step, index) => [String(step), ...drawn.flatMap((_, place) => [...QUANTILES.map((_, part) => figure(values[place * 5 + part]![index])), figure(counts[place]![index])])]);
  return { x: steps, lines, bands, edges: null, integers: true, keys, notes, reading, table: { head, rows }, lasts: lastsOf(drawn, (place) => values[place * 5 + 2]!) };
}

function ofFigures(plot: Plot, statistic: "mean" | "std" | "min" | "max" | "p50", keys: Key[], drawn: Drawn, counts: Counts, notes: string[]): Drawing {
  const { steps, values } = joined(drawn.map(({ series }) => cut(plot, series, series[statistic])));
  const smooth = plot.smooth > 1;
  const smoothed = smooth ? values.map((row) => ema(row, plot.smooth)) : values;
  const alone = steps.length === 1 && statistic === "mean";
  const lines = values.flatMap((row, place): Line[] => {
    const { key: { label, color, dash }, series } = drawn[place]!;
    const [low, high] = [series.p05[0], series.p95[0]];
    const interval: [number, number] | null = alone && low != null && high != null && row[0] !== null ? [low, high] : null;
    const raw = { label, color, dash, values: row, dim: smooth, interval };
    return smooth ? [raw, { label: `${label} smoothed`, color, dash, values: smoothed[place]! }] : [raw];
  });
  const name = isShare(plot.metric) && statistic === "mean" ? "share" : STATISTIC_NAMES[statistic];
  const several = keys.length > 1;
  const reading = (index: number) => read(`step ${steps[index]}`, drawn.map(({ key, series }, place) => ({
      color: key.color, dash: key.dash, label: several ? key.label : name, value: values[place]![index] ?? null,
      about: [smooth ? `smoothed ${shown(smoothed[place]![index], 4)}` : "", counted(counts[place]![index], unitOf(series)), alone ? `5 % to 95 %: ${shown(series.p05[0])} to ${shown(series.p95[0])}` : ""].filter(Boolean).join(", "),
  })));
  const titled = (label: string, what: string) => (several ? `${label}, ${what}` : what);
  const head = ["step", ...drawn.flatMap(({ key, series }) => [titled(key.label, name), ...(smooth ? [titled(key.label, "smoothed")] : []), titled(key.label, unitOf(series))])];
  const rows = steps.map((step, index) => [String(step), ...drawn.flatMap((_, place) => [figure(values[place]![index]), ...(smooth ? [figure(smoothed[place]![index])] : []), figure(counts[place]![index])])]);
  return { x: steps, lines, bands: [], edges: null, integers: true, keys, notes, reading, table: { head, rows }, lasts: lastsOf(drawn, (place) => values[place]!) };
}

/** The drawing of histograms, whose bins are the same for all. */
export function ofHistograms(keys: Key[], found: Histograms | null): Drawing {
  const edges = found?.edges ?? [];
  const integers = found?.integers ?? false;
  const drawn = found ? keys.flatMap((key, index) => (found.histograms[index] && !key.hidden ? [{ key, counts: found.histograms[index]!.counts }] : [])) : [];
  const x = edges.slice(1).map((edge, index) => (edges[index]! + edge) / 2);
  const lines = drawn.map(({ key, counts }): Line => ({ label: key.label, color: key.color, dash: key.dash, values: counts }));
  const unit = found?.unit ?? "rollouts";
  const place = (index: number) => {
    const [low, high] = integers ? [edges[index]! + 0.5, edges[index + 1]! - 0.5] : [edges[index]!, edges[index + 1]!];
    // As many digits as tell one bin from the next.
    const digits = integers ? 0 : Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(high - low))));
    const text = (value: number) => (Math.abs(value) >= 1e12 ? shown(value, 4) : value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−"));
    return low === high ? text(low) : `${text(low)} to ${text(high)}`;
  };
  const reading = (index: number): Reading => ({
    place: place(index), rows: drawn.map(({ key, counts }) => ({ color: key.color, dash: key.dash, label: keys.length > 1 ? key.label : unit, value: String(counts[index] ?? 0), about: "" })),
  });
  const head = ["values", ...drawn.map(({ key }) => (keys.length > 1 ? `${key.label}, ${unit}` : unit))];
  const rows = x.map((_, index) => [place(index), ...drawn.map(({ counts }) => String(counts[index] ?? 0))]);
  return { x, lines, bands: [], edges, integers, keys, notes: notesOf(keys, found?.histograms ?? []), reading, table: { head, rows }, lasts: {} };
}

/** A reading of the values that are there, with even digits. */
function read(place: string, rows: (Style & { label: string; value: number | null; about: string })[]): Reading {
  const known = rows.filter((row) => row.value !== null);
  const texts = evenly(known.map((row) => row.value));
  return { place, rows: known.map((row, index) => ({ ...row, value: texts[index]! })) };
}

/** What is not drawn, because it is no number, in words. */
function notesOf(keys: Key[], all: ({ nan: number; infinite: number } | null)[]): string[] {
  return keys.flatMap(({ label, hidden }, index) => {
    const { nan = 0, infinite = 0 } = all[index] ?? {};
    if (hidden || !(nan || infinite)) return [];
    const parts = [nan ? `${nan} ${nan === 1 ? "value is" : "values are"} NaN` : "", infinite ? `${infinite} ${infinite === 1 ? "value is" : "values are"} infinite` : ""].filter(Boolean).join(" and ");
    return [`${keys.length > 1 ? `${label}: ` : ""}${parts}, and not in the chart.`];
  });
}

function counted(count: number | null | undefined, unit: string): string {
  return count == null ? "" : `${count} ${count === 1 ? unit.replace(/s$/, "") : unit}`;
}

function unitOf(series: Series): string {
  return series.unit ?? "rollouts";
}

function figure(value: number | null | undefined): string {
  return value == null ? "" : String(value);
}

function lastsOf(drawn: Drawn, values: (place: number) => (number | null)[]): Record<string, number> {
  return Object.fromEntries(drawn.flatMap(({ key }, place) => {
    const last = values(place).findLast((value) => value !== null);
    return last == null ? [] : [[key.key, last]];
  }));
}

/** A table as CSV. A text that a spreadsheet would take for a formula gets an apostrophe. */
export function csvOf({ head, rows }: Drawing["table"]): string {
  const cell = (text: string) => {
    const safe = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [head, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");
}
