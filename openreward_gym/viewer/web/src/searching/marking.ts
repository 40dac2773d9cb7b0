import { useEffect, useMemo } from "preact/hooks";
import { address } from "../address";
import { type RequestState, useRequest } from "../api";
import { clearHits, markAgain, markHits, scrollToHit } from "./highlights";
import { patternFor, patternOf } from "./query";
import type { HitsOf } from "./search";

/** The hits of the address's search in its rollout. */
export function useHitsOf(): RequestState<HitsOf> {
  const { query, regex, run, sample } = address.value;
  return useRequest<HitsOf>(query && sample ? "hits" : null, { query, regex: regex === "1", run, id: sample }, false);
}

/** Mark the hits of the search in the sample in `box`, and scroll to the one of the address; again when what is drawn changes. */
export function useHits(box: { current: HTMLElement | null }, drawn: unknown[]): void {
  const { query, regex, message = "", hit } = address.value;
  const found = useHitsOf().value;
  const pattern = useMemo(() => {
    if (!query) return null;
    // An expression with rules that the page does not know: what the server matched is marked.
    return patternOf(query, regex === "1") ?? (found?.matches.length ? patternFor(found.matches) : null);
  }, [query, regex, found]);
  useEffect(() => {
    const node = box.current;
    if (!pattern || !node) return;
    let shown = false;
    const mark = () => {
      const target = markHits(node, pattern, message, hit === "last" ? -1 : Number(hit ?? 0) || 0);
      if (target && !shown) scrollToHit(target);
      // The hit may be in a part of a long text that is cut: the texts of its message are asked to show all.
      if (!target && !shown) for (const text of node.querySelectorAll(`[data-message="${Number(message)}"] .plain`)) text.dispatchEvent(new CustomEvent("reveal-text"));
      shown ||= target !== null;
    };
    const end = markAgain(node, mark);
    return () => {
      end();
      clearHits();
    };
  }, [pattern, message, hit, ...drawn]);
}
