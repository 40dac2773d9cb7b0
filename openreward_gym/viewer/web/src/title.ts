import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Address } from "./address";
import { spelled } from "./text/everywhere";

/** The name of what is open on the page, for the tab's title; null for a page that has none. */
const opened = signal<string | null>(null);

/** Name what is open as long as the component that shows it is there. */
export function useOpenedName(name: string | null): void {
  useEffect(() => {
    opened.value = name;
    return () => { opened.value = null; };
  }, [name]);
}

const PAGES: Record<string, string> = { rollouts: "Rollouts", discarded: "Discarded rollouts", metrics: "Metrics" };

/** The title of an address, where nothing that is open has a name. */
export function titleOf({ page, run, runs, step, steps, group, sample, query, task, left, right }: Address): string {
  const listed = page === "rollouts" || page === "discarded";
  const place = steps === "all" && listed ? " of all steps" : step !== undefined && step !== "none" && listed ? ` of step ${step}` : "";
  if (page === "task") return ["Task history", task].filter(Boolean).join(" ");
  if (page === "pair") return left && right ? `Compare ${left} with ${right}` : ["Compare two rollouts", task].filter(Boolean).join(" of ");
  if (page === "compare") return `Compare ${(runs ?? "").split(",").filter(Boolean).map(decode).join(", ") || "runs"}`;
  if (page === "search") return [query ? `Search: ${query}` : "Search", run].filter(Boolean).join(" – ");
  if (!run || !PAGES[page]) return "Runs";
  return [sample ?? (group !== undefined ? `Group ${group}${place}` : PAGES[page] + place), run].join(" – ");
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Keep the tab's title. */
export function useTitle(address: Address): void {
  const name = opened.value;
  const text = name !== null ? [name, address.run].filter(Boolean).join(" – ") : titleOf(address);
  useEffect(() => { document.title = spelled(text); }, [text]);
}
