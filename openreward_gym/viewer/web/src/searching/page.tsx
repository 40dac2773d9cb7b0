import { useState } from "preact/hooks";
import { address, at, go } from "../address";
import { load, useRequest } from "../api";
import { shown } from "../numbers";
import { Link, Problem } from "../components";
import type { Card } from "../types";

interface Hit extends Card { run: string; message: number; before: string; match: string; after: string }
interface SearchResult { hits: Hit[]; searched: number; total: number; next: number | null }

export function SearchPage() {
  const { query = "", regex, run, filter } = address.value;
  const [text, setText] = useState(query);
  const parameters = { query, regex: regex === "1", run, filter };
  const first = useRequest<SearchResult>(query ? "search" : null, parameters, false);
  const [more, setMore] = useState<{ of: string; pages: SearchResult[] }>({ of: "", pages: [] });
  const [error, setError] = useState<Error | null>(null);
  const key = JSON.stringify(parameters);
  const pages = [...(first.value ? [first.value] : []), ...(more.of === key ? more.pages : [])];
  const hits = pages.flatMap((page) => page.hits);
  const last = pages[pages.length - 1];
  const searchOn = () => load<SearchResult>("search", { ...parameters, after: last!.next }).then((page) => setMore({ of: key, pages: [...(more.of === key ? more.pages : []), page] }), setError);
  return (
    <main id="content" tabIndex={-1} class="page search">
      <h1>Search</h1>
      <form onSubmit={(event) => { event.preventDefault(); go(at({ query: text || undefined })); }}>
        <input id="search" type="search" aria-label="Search the text of rollouts" placeholder="Words, or “a phrase”" value={text} onInput={(event) => setText(event.currentTarget.value)} autofocus />
        <label class="check"><input type="checkbox" checked={regex === "1"} onChange={(event) => go(at({ regex: event.currentTarget.checked ? "1" : undefined }))} /> Regular expression</label>
        <label class="check"><input type="checkbox" checked={!run} onChange={(event) => go(at({ run: event.currentTarget.checked ? undefined : hits[0]?.run }))} /> All runs</label>
        <button type="submit">Search</button>
      </form>
      <Problem error={first.error ?? error} />
      {query && last && <p class="note" role="status">{hits.length} {hits.length === 1 ? "rollout" : "rollouts"} found in {pages.reduce((sum, page) => sum + page.searched, 0).toLocaleString("en")} searched{last.next !== null ? ` of ${pages[0]!.total.toLocaleString("en")}` : ""}.</p>}
      <ol class="hits">
        {hits.map((hit) => (
          <li key={`${hit.run} ${hit.id}`}>
            <Link to={{ page: hit.discard ? "discarded" : "rollouts", run: hit.run, step: hit.step === null ? "none" : String(hit.step), group: hit.group, sample: hit.id, message: String(hit.message) }}>
              <span class="about" dir="auto">{hit.run}{hit.step !== null ? `, step ${hit.step}` : ""}, {hit.name ?? `sample ${hit.sample ?? "–"}`} · reward {shown(hit.reward)}</span>
              <span class="snippet" dir="auto">…{hit.before}<mark>{hit.match}</mark>{hit.after}…</span>
            </Link>
          </li>
        ))}
      </ol>
      {last?.next != null && <button type="button" onClick={searchOn}>Continue the search</button>}
    </main>
  );
}
