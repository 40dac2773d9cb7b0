import { persisted } from "../settings";

export const STATISTICS = ["mean", "std", "min", "max", "p50", "distribution", "histogram"] as const;
export type Statistic = (typeof STATISTICS)[number];

export const STATISTIC_NAMES: Record<Statistic, string> = {
  mean: "mean", std: "standard deviation", min: "minimum", max: "maximum", p50: "median", distribution: "distribution over time", histogram: "histogram",
};

/** A chart with its settings, which stay with it when it is moved. */
export interface Plot {
  id: string; metric: string; statistic: Statistic; outliers: boolean; first: boolean; low: number | null; high: number | null;
  smooth: number; filter: string;
}

export function plotOf(metric: string, statistic: Statistic = "mean"): Plot {
  return { id: Math.random().toString(36).slice(2, 10), metric, statistic, outliers: false, first: false, low: null, high: null, smooth: 1, filter: "" };
}

const valid = (value: unknown) => value === null || (Array.isArray(value) && value.every((plot) => typeof plot?.id === "string" && typeof plot?.metric === "string" && STATISTICS.includes(plot?.statistic)));

/** The charts beside the rollouts and those of the Metrics page; null until a user changes them. */
export const plots = { side: persisted<Plot[] | null>("charts.side", null, valid), page: persisted<Plot[] | null>("charts.page", null, valid) };

const DEFAULTS = ["reward", "tokens", "steps", "advantage"];
const cache = new Map<string, Plot>();

/** The charts that are drawn until a user changes them: means over the steps, or histograms if there are no steps. */
export function defaults(metrics: string[], steps: boolean): Plot[] {
  return [...DEFAULTS.slice(0, 3), ...metrics.filter((name) => !DEFAULTS.includes(name))].slice(0, 8).map((metric) => {
    const id = `default-${metric}${steps ? "" : "-histogram"}`;
    const plot = cache.get(id) ?? { ...plotOf(metric, steps ? "mean" : "histogram"), id };
    cache.set(id, plot);
    return plot;
  });
}

export function moved(list: Plot[], from: number, to: number): Plot[] {
  const next = list.slice();
  const [plot] = next.splice(from, 1);
  if (plot) next.splice(Math.max(0, Math.min(next.length, to)), 0, plot);
  return next;
}

export const COLOURS = ["#2f6fde", "#d9663c", "#1f9d6b", "#a552c9", "#c2890f", "#0f97ae", "#d0437e", "#6b7f1d", "#7064e0", "#8a5a44"];
export const MAX_RUNS = 10;
