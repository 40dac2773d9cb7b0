import { useEffect, useState } from "preact/hooks";
import { load, type Parameters, type RequestState, shared } from "../api";
import type { Which } from "./plots";
import type { Series } from "../types";

// All charts of a page ask together: one request for the metrics of a run, a filter and a kind of rollouts.

export interface Want { run: string; metric: string; filter: string; which: Which }

type State = RequestState<Series>;

interface Entry { want: Want; state: State; listeners: Set<() => void> }

const POLL_MS = 2000;
const MOST = 40;
const entries = new Map<string, Entry>();
let timer = 0;
let round = 0;

const keyOf = (want: Want) => JSON.stringify([want.run, want.filter, want.which, want.metric]);

/** A list of names as the server reads it. */
export function namesOf(names: string[]): string {
  return names.map((name) => encodeURIComponent(name.toWellFormed?.() ?? name)).join(",");
}

/** The series of a chart, followed while the chart is there. */
export function useSeries(wants: Want[]): State[] {
  const [, redraw] = useState(0);
  const keys = wants.map(keyOf);
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    keys.forEach((key, index) => {
      const entry = entries.get(key) ?? { want: wants[index]!, state: { value: null, error: null }, listeners: new Set() };
      entries.set(key, entry);
      entry.listeners.add(listener);
    });
    schedule(0);
    return () => keys.forEach((key) => {
      const entry = entries.get(key);
      entry?.listeners.delete(listener);
      if (entry && !entry.listeners.size) entries.delete(key);
    });
  }, [JSON.stringify(keys)]);
  return keys.map((key) => entries.get(key)?.state ?? { value: null, error: null });
}

function schedule(wait: number): void {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => void poll(), wait);
}

async function poll(): Promise<void> {
  const now = ++round;
  const known = [...entries.values()];
  const pending = document.hidden ? known.filter(({ state }) => !state.value && !state.error) : known;
  await Promise.all(batches(pending).map(ask));
  if (now === round && entries.size && !shared) schedule(POLL_MS);
}

function batches(all: Entry[]): Entry[][] {
  const found = new Map<string, Entry[]>();
  for (const entry of all) {
    const { run, filter, which, metric } = entry.want;
    // A shared file has an answer for each metric. Long names go alone, for the address of a request is limited.
    const name = JSON.stringify([run, filter, which, shared || metric.length > 60 ? metric : ""]);
    found.set(name, [...(found.get(name) ?? []), entry]);
  }
  return [...found.values()].flatMap((batch) => Array.from({ length: Math.ceil(batch.length / MOST) }, (_, part) => batch.slice(part * MOST, (part + 1) * MOST)));
}

async function ask(batch: Entry[]): Promise<void> {
  const { run, filter, which, metric } = batch[0]!.want;
  const common: Parameters = { run, filter, which: which === "all" ? "" : which };
  try {
    const found = batch.length === 1 ? [await load<Series>("series", { ...common, metric })]
      : (await load<{ series: Series[] }>("series", { ...common, metrics: namesOf(batch.map((entry) => entry.want.metric)) })).series;
    batch.forEach((entry, index) => tell(entry, { value: found[index]!, error: null }));
  } catch (error) {
    batch.forEach((entry) => tell(entry, { value: null, error: error as State["error"] }));
  }
}

function tell(entry: Entry, state: State): void {
  if (entry.state.value === state.value && entry.state.error?.message === state.error?.message) return;
  entry.state = state;
  for (const listener of entry.listeners) listener();
}
