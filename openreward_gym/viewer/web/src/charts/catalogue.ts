import { address } from "../address";
import { useRequest } from "../api";
import { namesOf } from "./answers";
import { MAX_RUNS } from "./colours";
import type { ChartMetric, ChartMetrics, Run } from "../types";

export interface Section { title: string; metrics: ChartMetric[] }

const MANY = 12;

/** The runs to draw: the current one first, then those in the address. */
export function overlaid(): string[] {
  const others = (address.value.runs ?? "").split(",").filter(Boolean).map(decoded);
  return [...new Set([address.value.run ?? "", ...others])].filter(Boolean).slice(0, MAX_RUNS);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The metrics of the drawn runs; until they are known, those that the list of runs has. */
export function useCatalogue(run: Run | undefined): ChartMetrics {
  const runs = overlaid();
  const { value } = useRequest<ChartMetrics>(runs.length ? "chart_metrics" : null, { runs: namesOf(runs) }, true, true);
  return value ?? { built_in: ["reward", "tokens", "steps"].map(named), shares: [], own: (run?.metrics ?? []).map(named) };
}

function named(name: string): ChartMetric {
  return { name, about: "" };
}

/** The catalogue in sections; many metrics of a run are sectioned by what stands before their first slash. */
export function sectionsOf({ built_in, shares, own }: ChartMetrics): Section[] {
  const sections = new Map<string, ChartMetric[]>();
  for (const metric of own) {
    const prefix = own.length > MANY ? /^([^/]+)\/./.exec(metric.name)?.[1] : undefined;
    const title = prefix === undefined ? "Metrics of the run" : `${prefix}/`;
    sections.set(title, [...(sections.get(title) ?? []), metric]);
  }
  const others = [...sections].map(([title, metrics]) => ({ title, metrics }));
  return [{ title: "Built in", metrics: built_in }, { title: "Discards and ends", metrics: shares }, ...others].filter((section) => section.metrics.length);
}

/** The metrics whose name or description has all words of a search. */
export function matching(sections: Section[], text: string): Section[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (metric: ChartMetric) => words.every((word) => `${metric.name} ${metric.about}`.toLowerCase().includes(word));
  return sections.map(({ title, metrics }) => ({ title, metrics: metrics.filter(found) })).filter((section) => section.metrics.length);
}
