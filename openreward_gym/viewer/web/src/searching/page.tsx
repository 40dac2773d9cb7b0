import { useEffect, useRef, useState } from "preact/hooks";
import { address, at, go } from "../address";
import { shared } from "../api";
import { Link, Problem } from "../components";
import { Filter } from "../lists/filter";
import { shown } from "../numbers";
import type { Runs } from "../types";
import { times } from "./hits";
import { qualifiersOf, ROLES, withQualifier } from "./query";
import { addressOf, continueSearch, searchedBy, stopSearch, useResults } from "./results";
import type { Hit, Snippet } from "./search";

const PAGE = 100;
const NAMES: Record<string, string> = { system: "System", user: "User", assistant: "Assistant", tool: "Tool result", reasoning: "Reasoning", error: "Error" };

/** Search over the texts of all rollouts, or of those of a run or a filter. */
export function SearchPage({ runs }: { runs: Runs | null }) {
  const { query = "", run } = address.value;
  const parameters = searchedBy({ ...address.value, scope: undefined });
  const found = useResults(parameters);
  const [limit, setLimit] = useState(PAGE);
  useEffect(() => setLimit(PAGE), [found.key]);
  return (
    <main id="content" tabIndex={-1} class="page search">
      <h1>Search</h1>
      <Form runs={runs} tools={[...new Set(found.hits.flatMap((hit) => hit.snippets.map((one) => one.tool)).filter(Boolean))]} />
      {!shared && <Filter run={run ?? ""} value={address.value.filter ?? ""} change={(filter) => go(at({ filter: filter || undefined }))} />}
      <Problem error={found.error} />
      {query ? (
        <>
          <Progress found={found} parameters={parameters} />
          <Facets hits={found.hits} />
          <ol class="hits" aria-label="Rollouts with hits">{found.hits.slice(0, limit).map((hit) => <RolloutHits key={`${hit.run} ${hit.id}`} hit={hit} />)}</ol>
          {found.hits.length > limit && <button type="button" onClick={() => setLimit(limit + PAGE)}>Show more of {times(found.hits.length, "rollout")}</button>}
        </>
      ) : <Examples />}
    </main>
  );
}

function Form({ runs, tools }: { runs: Runs | null; tools: string[] }) {
  const { query = "", regex, run } = address.value;
  const [text, setText] = useState(query);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => setText(query), [query]);
  useEffect(() => input.current?.focus(), []);
  const expression = regex === "1";
  const search = (changed: string) => go(at({ query: changed.trim() || undefined }));
  const write = (name: "role" | "tool" | "is", value: string | null) => {
    const changed = withQualifier(text, name, value, expression);
    setText(changed);
    search(changed);
  };
  const tool = qualifiersOf(text, "tool", expression)[0] ?? "";
  return (
    <form onSubmit={(event) => { event.preventDefault(); search(text); }}>
      <input id="search" ref={input} type="search" aria-label="Search the text of rollouts" placeholder="Words, “a phrase”, role:tool, tool:bash, is:error" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <button type="submit">Search</button>
      <div class="choices line">
        {runs && runs.runs.length > 1 && (
          <label>Run <select value={run ?? ""} onChange={(event) => go(at({ run: event.currentTarget.value || undefined }))}>
            <option value="">All runs</option>{runs.runs.map((one) => <option key={one.key} value={one.key}>{one.key}</option>)}
          </select></label>
        )}
        <label>Role <select value={qualifiersOf(text, "role", expression)[0]?.toLowerCase() ?? ""} onChange={(event) => write("role", event.currentTarget.value || null)}>
          <option value="">Any</option>{ROLES.map((role) => <option key={role} value={role}>{NAMES[role]}</option>)}
        </select></label>
        <label>Tool <input class="tool-name" list="tools" value={tool} placeholder="Any" onChange={(event) => write("tool", event.currentTarget.value.trim() || null)} /></label>
        <datalist id="tools">{tools.map((name) => <option key={name} value={name} />)}</datalist>
        <label class="check"><input type="checkbox" checked={qualifiersOf(text, "is", expression).length > 0} onChange={(event) => write("is", event.currentTarget.checked ? "error" : null)} /> Errors only</label>
        <label class="check"><input type="checkbox" checked={expression} onChange={(event) => go(at({ regex: event.currentTarget.checked ? "1" : undefined, query: text.trim() || undefined }))} /> Regular expression</label>
      </div>
    </form>
  );
}

function Progress({ found, parameters }: { found: ReturnType<typeof useResults>; parameters: ReturnType<typeof searchedBy> }) {
  const hits = found.hits.reduce((sum, hit) => sum + hit.count, 0);
  const total = found.total ?? 0;
  return (
    <p class="line">
      <span class="note" role="status">{times(hits, "hit")} in {times(found.hits.length, "rollout")}. {found.running || found.stopped ? `Searched ${found.searched.toLocaleString("en")} of ${times(total, "rollout")}${found.running ? "…" : "."}` : `Searched ${times(found.searched, "rollout")}.`}</span>
      {found.running && <button type="button" onClick={stopSearch}>Stop</button>}
      {found.stopped && <button type="button" onClick={() => continueSearch(parameters)}>Continue the search</button>}
    </p>
  );
}

/** The hits by role, each a link that searches this role only. */
function Facets({ hits }: { hits: Hit[] }) {
  const { query = "", regex } = address.value;
  const counts = new Map<string, number>();
  for (const hit of hits) for (const [role, count] of Object.entries(hit.roles)) counts.set(role, (counts.get(role) ?? 0) + count);
  if (counts.size < 2) return null;
  return (
    <p class="line facets">{[...counts].sort((a, b) => b[1] - a[1]).map(([role, count]) => (
      (ROLES as readonly string[]).includes(role)
        ? <Link key={role} class="button" to={at({ query: withQualifier(query, "role", role, regex === "1") })}>{NAMES[role]} <small class="note">{count.toLocaleString("en")}</small></Link>
        : <span key={role} class="note">{NAMES[role] ?? role} {count.toLocaleString("en")}</span>
    ))}</p>
  );
}

function RolloutHits({ hit }: { hit: Hit }) {
  const where = address.value;
  const more = hit.messages - hit.snippets.length;
  return (
    <li>
      <p class="about line">
        <Link to={addressOf(hit, hit.snippets[0], where)}><b dir="auto">{hit.name || (hit.sample !== null ? `sample ${hit.sample}` : hit.id)}</b></Link>
        <span dir="auto">{hit.run}{hit.step !== null ? `, step ${hit.step}` : ""}</span><span>reward {shown(hit.reward)}</span>
        <span>{times(hit.count, "hit")}{hit.messages > 1 ? ` in ${times(hit.messages, "message")}` : ""}</span>
      </p>
      {hit.snippets.map((snippet) => <SnippetLink key={snippet.message} hit={hit} snippet={snippet} />)}
      {more > 0 && <p class="more note">{times(more, "more message")}; <kbd>n</kbd> leads from hit to hit.</p>}
    </li>
  );
}

function SnippetLink({ hit, snippet }: { hit: Hit; snippet: Snippet }) {
  const place = [snippet.turn ? `turn ${snippet.turn}` : "", NAMES[snippet.role] ?? snippet.role, snippet.tool].filter(Boolean).join(", ");
  return (
    <Link to={addressOf(hit, snippet, address.value)} class="hit">
      <span class="where">{place}{snippet.count > 1 ? ` · ${snippet.count.toLocaleString("en")} hits` : ""}</span>
      <span class="snippet" dir="auto">{snippet.before}{snippet.match && <mark>{snippet.match}</mark>}{snippet.after}</span>
    </Link>
  );
}

const EXAMPLES: [Partial<ReturnType<typeof at>>, string][] = [
  [{ query: '"No such file"' }, "a phrase, in any message"],
  [{ query: "role:tool is:error" }, "every tool result that is an error"],
  [{ query: "tool:bash timeout" }, "in the calls and results of one tool"],
  [{ query: "role:reasoning wait" }, "in the reasoning only"],
  [{ query: "is:error", filter: "unnoticed_errors > 0" }, "errors that the model did not react to"],
];

function Examples() {
  return (
    <section class="examples" aria-label="Examples">
      <h2>Examples</h2>
      <ul>{EXAMPLES.filter(([to]) => !shared || !to.filter).map(([to, about]) => (
        <li key={about}><Link to={at(to)}><code>{to.query}</code></Link>{to.filter && <> with the filter <code>{to.filter}</code></>} <span class="note">{about}</span></li>
      ))}</ul>
    </section>
  );
}
