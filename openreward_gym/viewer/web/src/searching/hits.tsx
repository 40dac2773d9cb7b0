import { useEffect, useRef, useState } from "preact/hooks";
import { type Address, address, at, go } from "../address";
import { embedded } from "../api";
import { shown } from "../numbers";
import { find, type MessageHit } from "./search";
import { Link } from "../components";
import { rolloutsOf } from "../embedded";

// Search in a shared file, over the rollouts in it and without a server.

const PAGE = 200;
const ROLES: Record<string, string> = { system: "system", user: "user", assistant: "assistant", tool: "tool result" };

let last: { query: string; hits: MessageHit[] } | null = null;

function hitsOf(query: string): MessageHit[] {
  if (last?.query !== query) last = { query, hits: embedded ? find(rolloutsOf(embedded), query) : [] };
  return last.hits;
}

function addressOf(hit: MessageHit, query: string): Address {
  return {
    page: hit.discarded ? "discarded" : "rollouts", run: hit.run, step: hit.step === null ? "none" : String(hit.step), group: hit.group,
    sample: hit.id, message: String(hit.message), query,
  };
}

const times = (count: number, one: string) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

export function SharedSearch() {
  const { query = "" } = address.value;
  const [text, setText] = useState(query);
  const [limit, setLimit] = useState(PAGE);
  const searched = useRef(query);
  useEffect(() => {
    if (searched.current === query) return; // keep what is being typed
    searched.current = query;
    setText(query);
    setLimit(PAGE);
  }, [query]);
  const hits = query ? hitsOf(query) : [];
  const rollouts = new Set(hits.map((hit) => hit.order)).size;
  return (
    <main id="content" tabIndex={-1} class="page search">
      <h1>Search</h1>
      <form onSubmit={(event) => { event.preventDefault(); go(at({ query: text || undefined })); }}>
        <input id="search" type="search" aria-label="Search the text of rollouts" placeholder="Words, or “a phrase”" value={text} onInput={(event) => setText(event.currentTarget.value)} autofocus />
        <button type="submit">Search</button>
      </form>
      {query && <p class="note" role="status">{times(hits.reduce((sum, hit) => sum + hit.count, 0), "hit")} in {times(hits.length, "message")} of {times(rollouts, "rollout")}; {times(embedded ? rolloutsOf(embedded).length : 0, "rollout")} in this file.</p>}
      <ol class="hits">
        {hits.slice(0, limit).map((hit) => (
          <li key={`${hit.order} ${hit.message}`}>
            <Link to={addressOf(hit, query)}>
              <span class="about" dir="auto">{hit.run}{hit.step !== null ? `, step ${hit.step}` : ""}, {hit.name} · {hit.turn ? `turn ${hit.turn}, ` : ""}{ROLES[hit.role] ?? hit.role}{hit.count > 1 ? ` · ${times(hit.count, "hit")}` : ""} · reward {shown(hit.reward)}</span>
              <span class="snippet" dir="auto">…{hit.before}<mark>{hit.match}</mark>{hit.after}…</span>
            </Link>
          </li>
        ))}
      </ol>
      {hits.length > limit && <button type="button" onClick={() => setLimit(limit + PAGE)}>Show more of {times(hits.length, "message")}</button>}
    </main>
  );
}

/** Buttons that step from hit to hit over all rollouts of the file; nothing without a search. */
export function HitBar() {
  const { query, run, sample, message } = address.value;
  if (!embedded || !query) return null;
  const hits = hitsOf(query);
  const now = hits.findIndex((hit) => hit.run === run && hit.id === sample && String(hit.message) === message);
  // In a rollout that was opened in another way: the hits before it, and those from it on.
  const order = rolloutsOf(embedded).findIndex((opened) => opened.run === run && opened.rollout.id === sample);
  const previous = now >= 0 ? now - 1 : hits.findLastIndex((hit) => hit.order < order);
  const next = now >= 0 ? now + 1 : hits.findIndex((hit) => hit.order >= order);
  const button = (label: string, sign: string, number: number) => (
    <button type="button" aria-label={label} disabled={!hits[number]} onClick={() => go(addressOf(hits[number]!, query), true)}>{sign}</button>
  );
  return (
    <div class="hitbar" role="group" aria-label="Hits">
      {button("Previous hit", "‹", previous)}
      <span role="status">{now >= 0 ? `${(now + 1).toLocaleString("en")} of ` : ""}{times(hits.length, "message")} with <Link to={{ page: "search", query }}><b dir="auto">{query}</b></Link></span>
      {button("Next hit", "›", next)}
      <button type="button" class="quiet" aria-label="Leave the search" onClick={() => go(at({ query: undefined }), true)}>✕</button>
    </div>
  );
}
