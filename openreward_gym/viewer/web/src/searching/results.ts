import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Address, address } from "../address";
import { load, requestOf, type Parameters } from "../api";
import type { Hit, SearchResult, Snippet } from "./search";

// The results of the last search, for its page and for stepping from hit to hit in the rollouts.

/** The number of found rollouts at which a search waits to be continued. */
const PAUSE = 500;

export interface Results { key: string; hits: Hit[]; searched: number; total: number | null; running: boolean; stopped: boolean; error: Error | null }

const NOTHING: Results = { key: "", hits: [], searched: 0, total: null, running: false, stopped: false, error: null };
export const results = signal<Results>(NOTHING);
let stop = new AbortController();
let next: number | null = 0;

/** What the address searches: on the search page the run that is named, in a rollout its run unless all are searched. */
export function searchedBy(where: Address): Parameters {
  return { query: where.query, regex: where.regex === "1", run: where.scope === "all" ? undefined : where.run, filter: where.filter };
}

async function searchOn(parameters: Parameters, pause: number): Promise<void> {
  const { signal: aborted } = stop;
  const change = (changes: Partial<Results>) => { if (!aborted.aborted) results.value = { ...results.value, ...changes }; };
  try {
    while (next !== null && !aborted.aborted) {
      const page: SearchResult = await load<SearchResult>("search", { ...parameters, after: next || undefined }, aborted);
      if (aborted.aborted) return;
      const { hits, searched, total } = results.value;
      next = page.next;
      const all = [...hits, ...page.hits];
      change({ hits: all, searched: searched + page.searched, total: total ?? page.total, running: next !== null });
      if (next !== null && all.length >= pause) return change({ running: false, stopped: true });
    }
  } catch (error) {
    change({ running: false, error: error instanceof Error && error.name !== "TypeError" ? error : new Error("The viewer's server does not answer; it may have been stopped.") });
  }
}

export function stopSearch(): void {
  stop.abort();
  results.value = { ...results.value, running: false, stopped: next !== null };
}

export function continueSearch(parameters: Parameters): void {
  stop = new AbortController();
  results.value = { ...results.value, running: true, stopped: false };
  void searchOn(parameters, results.value.hits.length + PAUSE);
}

/** The results of a search, which starts unless it was started before, and goes on while the page is open. */
export function useResults(parameters: Parameters): Results {
  const key = parameters.query ? requestOf("search", parameters) : "";
  useEffect(() => {
    if (results.value.key === key && !results.value.error) {
      if (key && next !== null && !results.value.running && !results.value.stopped) continueSearch(parameters);
      return;
    }
    stop.abort();
    stop = new AbortController();
    next = 0;
    results.value = { ...NOTHING, key, running: key !== "" };
    if (key) void searchOn(parameters, PAUSE);
  }, [key]);
  // Left for another page: what was found stays, and the search goes on when it is opened again.
  useEffect(() => () => {
    if (!results.value.running) return;
    stop.abort();
    results.value = { ...results.value, running: false };
  }, []);
  return results.value.key === key ? results.value : { ...NOTHING, key, running: key !== "" };
}

/** The address of a hit. */
export function addressOf(hit: Hit, snippet: Snippet | undefined, search: Address): Address {
  return {
    page: hit.discard ? "discarded" : "rollouts", run: hit.run, step: hit.step === null ? "none" : String(hit.step), group: hit.group, sample: hit.id,
    message: snippet ? String(snippet.message) : undefined, query: search.query, regex: search.regex, filter: search.filter,
    scope: search.scope === "all" || !search.run ? "all" : undefined,
  };
}

/** The address of the search page of what is open. */
export function searchPageOf(where: Address = address.value): Address {
  return { page: "search", run: where.scope === "all" ? undefined : where.run, query: where.query, regex: where.regex, filter: where.filter };
}
