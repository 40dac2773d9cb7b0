import { persisted } from "../settings";
import { isShare } from "./drawing";

export { COLOURS, MAX_RUNS } from "./colours";

export const STATISTICS = ["mean", "std", "min", "max", "p50", "distribution", "histogram"] as const;
export type Statistic = (typeof STATISTICS)[number];

export const STATISTIC_NAMES: Record<Statistic, string> = {
  mean: "mean", std: "standard deviation", min: "minimum", max: "maximum", p50: "median", distribution: "distribution over time", histogram: "histogram",
};

/** The rollouts that a chart counts; "split" draws kept and discarded ones as two series. */
export const COUNTED = ["all", "kept", "discarded", "split"] as const;
export type Counted = (typeof COUNTED)[number];
export type Which = Exclude<Counted, "split">;

export const COUNTED_NAMES: Record<Counted, string> = { all: "all", kept: "kept", discarded: "discarded", split: "kept and discarded" };

/** A chart with its settings, which stay with it when it is moved. */
export interface Plot {
  id: string; metric: string; statistic: Statistic; which: Counted; outliers: boolean; first: boolean; low: number | null; high: number | null;
  /** The metric and statistic that the range from low to high was set for. */
  rangeFor: string;
  smooth: number; filter: string;
  /** The keys of the series that are not drawn. */
  hidden: string[];
  table: boolean;
}

export function plotOf(metric: string, statistic: Statistic = "mean"): Plot {
  const id = Math.random().toString(36).slice(2, 10);
  return { id, metric, statistic, which: "all", outliers: false, first: false, low: null, high: null, rangeFor: "", smooth: 1, filter: "", hidden: [], table: false };
}

/** The series of a plot's rollouts: one, or two if kept and discarded ones are drawn apart. */
export function whichesOf(plot: Plot): Which[] {
  return plot.which === "split" ? ["kept", "discarded"] : [plot.which];
}

/** The name under which a manual range belongs to a plot's metric and statistic. */
export function rangeName(plot: Plot): string {
  return `${plot.statistic} ${plot.metric}`;
}

/** The range that was set by hand for what the plot shows now; counts of histograms always begin at 0. */
export function rangeOf(plot: Plot): [number | null, number | null] {
  // Charts that were stored before ranges had a name are of the first kind.
  const own = plot.rangeFor ? plot.rangeFor === rangeName(plot) : plot.statistic !== "histogram";
  return own ? [plot.statistic === "histogram" ? null : plot.low, plot.high] : [null, null];
}

/** A plot with another metric or statistic: it loses the range that was set for the one before. */
export function showing(plot: Plot, change: Partial<Pick<Plot, "metric" | "statistic">>): Plot {
  const next = { ...plot, ...change };
  return rangeName(next) === rangeName(plot) ? next : { ...next, low: null, high: null, rangeFor: "" };
}

const isNumber = (value: unknown) => value === null || (typeof value === "number" && Number.isFinite(value));

/** A stored or imported chart, with what it lacks; null if it is none. */
export function plotFrom(value: unknown): Plot | null {
  const given = value as Partial<Plot> | null;
  if (typeof given !== "object" || given === null || typeof given.id !== "string" || typeof given.metric !== "string") return null;
  if (!STATISTICS.includes(given.statistic as Statistic)) return null;
  const plot: Plot = { ...plotOf(given.metric, given.statistic), id: given.id };
  if (COUNTED.includes(given.which as Counted)) plot.which = given.which!;
  if (isNumber(given.low)) plot.low = given.low ?? null;
  if (isNumber(given.high)) plot.high = given.high ?? null;
  if (typeof given.rangeFor === "string") plot.rangeFor = given.rangeFor;
  if (typeof given.smooth === "number" && given.smooth >= 1 && given.smooth <= 100) plot.smooth = given.smooth;
  if (typeof given.filter === "string") plot.filter = given.filter;
  if (Array.isArray(given.hidden)) plot.hidden = given.hidden.filter((key) => typeof key === "string");
  return { ...plot, outliers: given.outliers === true, first: given.first === true, table: given.table === true };
}

const valid = (value: unknown) => value === null || (Array.isArray(value) && value.every((plot) => plotFrom(plot) !== null));

/** The charts beside the rollouts and those of the Metrics page; null until a user changes them. */
export const plots = { side: persisted<Plot[] | null>("charts.side", null, valid), page: persisted<Plot[] | null>("charts.page", null, valid) };

/** Layouts of charts that were saved under a name. */
export const layouts = persisted<Record<string, Plot[]>>("charts.layouts", {}, (value) => typeof value === "object" && value !== null && Object.values(value).every((list) => list !== null && valid(list)));

/** A layout as text, and the charts of such a text; they get identities of their own. */
export function layoutText(list: Plot[]): string {
  return JSON.stringify({ charts: list.map(({ id: _, ...rest }) => rest) }, null, 1);
}

export function layoutFrom(text: string): Plot[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Error("This is not JSON. Paste the text of an exported layout.");
  }
  const list = Array.isArray(parsed) ? parsed : (parsed as { charts?: unknown } | null)?.charts;
  const found = Array.isArray(list) ? list.map((one) => plotFrom({ ...one, id: plotOf("").id })) : [];
  if (!found.length || found.some((plot) => plot === null)) throw new Error("This is not a layout of charts: it needs a list \"charts\", each with a metric and a statistic.");
  return found as Plot[];
}

const NAMES: Record<string, string> = { steps: "turns", input_tokens: "input tokens", unnoticed_errors: "unnoticed errors", policy_s: "policy time", environment_s: "environment time" };

/** A metric's name as the columns of the lists have it. */
export function nameOf(metric: string): string {
  return Object.hasOwn(NAMES, metric) ? NAMES[metric]! : metric;
}

const DEFAULTS = ["reward", "tokens", "steps", "advantage"];
const cache = new Map<string, Plot>();

/** The charts that are drawn until a user changes them: means over the steps, or histograms if there are no steps. */
export function defaults(builtIn: string[], metrics: string[], steps: boolean, discarded: boolean): Plot[] {
  const first = DEFAULTS.slice(0, 3).filter((name) => builtIn.includes(name));
  return [...first, ...(steps && discarded ? ["discarded share"] : []), ...metrics.filter((name) => !DEFAULTS.includes(name))].slice(0, 8).map((metric) => {
    const id = `default-${metric}${steps ? "" : "-histogram"}`;
    const plot = cache.get(id) ?? { ...plotOf(metric, steps ? "mean" : "histogram"), id };
    cache.set(id, plot);
    return plot;
  });
}

/** A chart as it is drawn where there may be no steps: the values over the steps become a histogram. */
export function fitting(plot: Plot, steps: boolean): Plot {
  return steps || plot.statistic === "histogram" || isShare(plot.metric) ? plot : { ...plot, statistic: "histogram" };
}

/** A change of a chart that is drawn as `shown`: a statistic that nobody chose is not kept. */
export function unfitted(plot: Plot, shown: Plot, next: Plot): Plot {
  return next.statistic === shown.statistic && next.metric === plot.metric ? { ...next, statistic: plot.statistic } : next;
}

export function moved(list: Plot[], from: number, to: number): Plot[] {
  const next = list.slice();
  const [plot] = next.splice(from, 1);
  if (plot) next.splice(Math.max(0, Math.min(next.length, to)), 0, plot);
  return next;
}
