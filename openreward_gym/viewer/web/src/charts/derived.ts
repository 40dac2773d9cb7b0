import { finite } from "../numbers";
import { durationOf } from "../reading/rollout";
import { isShare } from "./drawing";
import type { Parameters } from "../api";
import type { Embedded } from "../embedded";
import type { Card, ChartMetrics, Histograms, Listing, Num, Opened, Runs, Series } from "../types";

// The answers for charts inside a shared file, made of its lists: as answers/charts.py makes them of the index.

const BINS = 24;
const QUANTILES = { p05: 0.05, p25: 0.25, p50: 0.5, p75: 0.75, p95: 0.95 } as const;

interface Counted { step: number | null; value: Num | undefined }
interface Place { card: Card; group: string; discarded: boolean }

/** The answer to a request of a chart that is not in the file; undefined if it cannot be made. */
export function deriveChart(embedded: Embedded, name: string, parameters: Parameters): unknown {
  if (parameters.filter) return undefined;
  if (name === "chart_metrics") return union(names(parameters.runs).map((run) => embedded[`chart_metrics?runs=${encodeURIComponent(encodeURIComponent(run))}`] as ChartMetrics | undefined));
  if (parameters.metric === undefined) return undefined;
  const metric = String(parameters.metric);
  const whiches = names(parameters.which);
  if (name === "series") return series(embedded, String(parameters.run ?? ""), metric, whiches[0] ?? "all");
  if (name === "histogram") return histograms(embedded, parameters.runs ? names(parameters.runs) : [String(parameters.run ?? "")], metric, parameters, whiches.length ? whiches : ["all"]);
  return undefined;
}

function names(list: Parameters[string]): string[] {
  return String(list ?? "").split(",").filter(Boolean).map(decodeURIComponent);
}

function union(all: (ChartMetrics | undefined)[]): ChartMetrics {
  const section = (key: keyof ChartMetrics) => [...new Map(all.flatMap((one) => one?.[key] ?? []).map((metric) => [metric.name, metric])).values()];
  return { built_in: section("built_in"), shares: section("shares"), own: section("own") };
}

function placesOf(embedded: Embedded, run: string): Place[] {
  return Object.entries(embedded).filter(([request]) => request.startsWith("list?")).flatMap(([request, answer]) => {
    const query = new URLSearchParams(request.slice("list?".length));
    if (query.get("run") !== run) return [];
    const discarded = query.get("discarded") === "1";
    return (answer as Listing).groups.flatMap(({ group, cards }) => cards.map((card) => ({ card, group, discarded })));
  }).filter(({ card }) => card.status !== "running");
}

function valuesOf(embedded: Embedded, run: string, metric: string, which: string): Counted[] {
  const places = placesOf(embedded, run);
  if (/ groups$/.test(metric) && isShare(metric)) return groupsOf(places, metric, rangeOf(embedded, run));
  if (isShare(metric)) return places.map((place) => ({ step: place.card.step, value: Number(counts(metric, place)) }));
  return places.filter(({ discarded }) => which === "all" || discarded === (which === "discarded")).map(({ card }) => ({ step: card.step, value: metricOf(embedded, run, card, metric) }));
}

function counts(metric: string, { card, discarded }: Place): boolean {
  if (metric === "discarded share") return discarded;
  if (metric === "errors share") return card.status === "error";
  if (metric === "truncated share") return card.status === "truncated";
  return card.discard === metric.slice("discarded: ".length);
}

function rangeOf(embedded: Embedded, run: string): [number, number] {
  const range = (embedded["runs?"] as Runs | undefined)?.runs.find((one) => one.key === run)?.ranges.reward;
  return range ? [range.min, range.max] : [0, 1];
}

function groupsOf(places: Place[], metric: string, [least, most]: [number, number]): Counted[] {
  const groups = new Map<string, { step: number | null; rewards: number[] }>();
  for (const { card, group } of places) {
    const reward = finite(card.reward);
    if (reward === null) continue;
    const key = JSON.stringify([card.step, group]);
    const one = groups.get(key) ?? { step: card.step, rewards: [] };
    one.rewards.push(reward);
    groups.set(key, one);
  }
  const equal = (rewards: number[]) => metric === "zero-advantage groups" ? rewards.every((reward) => reward === rewards[0]) : metric === "all-0 groups" ? rewards.every((reward) => reward <= least) : rewards.every((reward) => reward >= most);
  return [...groups.values()].filter(({ rewards }) => rewards.length > 1).map(({ step, rewards }) => ({ step, value: Number(equal(rewards)) }));
}

function notFinite(all: Counted[]): { nan: number; infinite: number } {
  const texts = all.map(({ value }) => value).filter((value) => typeof value === "string");
  const nan = texts.filter((text) => text === "nan").length;
  return { nan, infinite: texts.length - nan };
}

function unitOf(metric: string): string {
  return isShare(metric) && / groups$/.test(metric) ? "groups" : "rollouts";
}

function series(embedded: Embedded, run: string, metric: string, which: string): Series {
  const all = valuesOf(embedded, run, metric, which).filter(({ step }) => step !== null);
  const steps = new Map<number, number[]>();
  for (const { step, value } of all) {
    const number = finite(value);
    if (number !== null) steps.set(step!, [...(steps.get(step!) ?? []), number]);
  }
  const sorted = [...steps].sort(([a], [b]) => a - b).map(([step, values]) => [step, values.sort((a, b) => a - b)] as const);
  const figures = sorted.map(([, values]) => figuresOf(values));
  const column = (name: keyof ReturnType<typeof figuresOf>) => figures.map((one) => one[name]);
  return {
    run, metric, which, unit: unitOf(metric), ...notFinite(all), steps: sorted.map(([step]) => step), count: column("count"), mean: column("mean"), std: column("std"),
    min: column("min"), max: column("max"), p05: column("p05"), p25: column("p25"), p50: column("p50"), p75: column("p75"), p95: column("p95"),
  };
}

function figuresOf(sorted: number[]) {
  const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  const std = Math.sqrt(sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / sorted.length);
  const quantile = (share: number) => {
    const place = share * (sorted.length - 1);
    const low = sorted[Math.floor(place)]!;
    return low + (place - Math.floor(place)) * ((sorted[Math.floor(place) + 1] ?? low) - low);
  };
  const round = (value: number) => Number(value.toPrecision(6));
  const { p05, p25, p50, p75, p95 } = QUANTILES;
  return { count: sorted.length, mean: round(mean), std: round(std), min: round(sorted[0]!), max: round(sorted[sorted.length - 1]!), p05: round(quantile(p05)), p25: round(quantile(p25)), p50: round(quantile(p50)), p75: round(quantile(p75)), p95: round(quantile(p95)) };
}

function histograms(embedded: Embedded, runs: string[], metric: string, { step, every }: Parameters, whiches: string[]): Histograms {
  const wanted = step === undefined || step === null || step === "" ? null : Number(step);
  const found = runs.flatMap((run) => whiches.map((which) => ({ run, which, all: valuesOf(embedded, run, metric, which).filter((one) => every || one.step === wanted) })));
  const numbers = found.map(({ all }) => all.map(({ value }) => finite(value)).filter((value) => value !== null));
  const { edges, integers } = bins(numbers.flat());
  return {
    metric, edges, integers, unit: unitOf(metric),
    histograms: found.map(({ run, which, all }, index) => ({ run, which, counts: countsOf(numbers[index]!, edges), ...notFinite(all) })),
  };
}

/** The edges of the bins of some values: those of integers are centred and hold whole numbers. */
export function bins(values: number[]): { edges: number[]; integers: boolean } {
  if (!values.length) return { edges: [], integers: false };
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (values.every(Number.isSafeInteger)) {
    const width = Math.max(1, Math.ceil((high - low + 1) / BINS));
    return { edges: Array.from({ length: Math.ceil((high - low + 1) / width) + 1 }, (_, index) => low - 0.5 + width * index), integers: true };
  }
  const pad = Math.abs(low) * 0.05 || 0.5;
  if (low === high) return { edges: [low - pad, high + pad], integers: false };
  return { edges: Array.from({ length: BINS + 1 }, (_, index) => low * (1 - index / BINS) + high * (index / BINS)), integers: false };
}

function countsOf(values: number[], edges: number[]): number[] {
  const counts = new Array<number>(Math.max(0, edges.length - 1)).fill(0);
  const [low, high] = [edges[0]!, edges[edges.length - 1]!];
  for (const value of values) counts[Math.min(counts.length - 1, Math.max(0, Math.floor(((value - low) / (high - low)) * counts.length)))]! += 1;
  return counts;
}

function metricOf(embedded: Embedded, run: string, card: Card, metric: string): Num | undefined {
  switch (metric) {
    case "reward": return card.reward;
    case "advantage": return card.advantage;
    case "tokens": return card.tokens;
    case "steps": return card.turns;
    case "calls": return card.calls;
    case "policy_s": case "environment_s": case "unnoticed_errors": return (card as unknown as Record<string, Num | undefined>)[metric];
    case "errors": case "duration": case "cost": case "input_tokens": break;
    default: return Object.hasOwn(card.metrics, metric) ? card.metrics[metric] : card.metrics[metric.replace(/^metric\./, "")];
  }
  const rollout = (embedded[`rollout?id=${encodeURIComponent(card.id)}&run=${encodeURIComponent(run)}`] as Opened | undefined)?.rollout;
  if (!rollout) return null;
  if (metric === "input_tokens") return rollout.usage?.input_tokens;
  if (metric === "cost") return rollout.cost_usd;
  if (metric === "duration") return durationOf(rollout.started_at, rollout.ended_at);
  return (rollout.messages ?? []).filter((message) => message.role === "tool" && message.is_error).length;
}
