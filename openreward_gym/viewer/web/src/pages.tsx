import { useMemo, useState } from "preact/hooks";
import { address, at, go } from "./address";
import { MAX_RUNS } from "./plots";
import { load, shared, useRequest } from "./api";
import { exactly, goodness, shade, shown, UNIT } from "./numbers";
import { Link, Problem, Reward } from "./components";
import type { Card, Num, Run, Runs } from "./types";

export function RunsPage({ runs }: { runs: Runs | null }) {
  const [chosen, setChosen] = useState<string[]>([]);
  if (!runs) return <main id="content" tabIndex={-1} class="page"><p class="empty">Opening…</p></main>;
  const { done, total } = runs.progress;
  const several = !shared && runs.runs.length > 1;
  const known = runs.runs.filter((run) => chosen.includes(run.key));
  const choose = (key: string, on: boolean) => setChosen(on ? [...chosen, key] : chosen.filter((one) => one !== key));
  return (
    <main id="content" tabIndex={-1} class="page">
      <h1>Runs</h1>
      {done < total && <p class="note" role="status">Reading: {Math.floor((100 * done) / Math.max(1, total))} %</p>}
      {runs.damage.map((damage) => <p class="problem" key={damage.folder + damage.first}>{damage.lines} {damage.lines === 1 ? "line" : "lines"} in {damage.folder} cannot be read. The first: {damage.first}</p>)}
      {runs.runs.length === 0 ? <p class="empty">No rollouts yet. They appear here as they are recorded.</p> : (
        <div class="scroll" tabIndex={0} role="group" aria-label="Runs"><table class="runs">
          <thead><tr>{several && <th scope="col"><span class="unseen">Compare</span></th>}<th scope="col">Run</th><th scope="col">Environment</th><th scope="col">Model</th><th scope="col" class="num">Rollouts</th><th scope="col" class="num">Discarded</th><th scope="col" class="num">Steps</th><th scope="col" class="num">Tasks</th><th scope="col" class="num">Mean reward</th><th scope="col">Last rollout</th></tr></thead>
          <tbody>{runs.runs.map((run) => <RunRow key={run.key} run={run} chosen={several ? chosen.includes(run.key) : null} choose={(on) => choose(run.key, on)} />)}</tbody>
        </table></div>
      )}
      {several && (
        <p class="line">
          {known.length > 1 ? <Link to={{ page: "compare", runs: known.slice(0, MAX_RUNS).map((run) => encodeURIComponent(run.key)).join(",") }} class="button">Compare {Math.min(known.length, MAX_RUNS)} runs</Link>
            : <span class="note">Select two or more runs to compare them task by task.</span>}
        </p>
      )}
    </main>
  );
}

function RunRow({ run, chosen, choose }: { run: Run; chosen: boolean | null; choose: (on: boolean) => void }) {
  const kept = run.rollouts - run.discarded;
  return (
    <tr>
      {chosen !== null && <td class="choose"><input type="checkbox" aria-label={`Compare ${run.key}`} checked={chosen} onChange={(event) => choose(event.currentTarget.checked)} /></td>}
      <th scope="row" dir="auto"><Link to={{ page: "rollouts", run: run.key }} title={run.folder}>{run.key}</Link></th>
      <td dir="auto">{run.environments?.split(",").slice(0, 4).join(", ") || "–"}</td>
      <td dir="auto">{run.models?.split(",").slice(0, 3).join(", ") || "–"}</td>
      <td class="num">{kept.toLocaleString("en")}</td>
      <td class="num">{run.discarded ? <Link to={{ page: "discarded", run: run.key }}>{run.discarded.toLocaleString("en")}</Link> : "0"}</td>
      <td class="num">{run.steps ? run.steps.toLocaleString("en") : "–"}</td>
      <td class="num">{run.tasks.toLocaleString("en")}</td>
      <td class="num"><Reward label="" value={run.reward} good={goodness(run.reward, run.ranges.reward ?? UNIT)} /></td>
      <td>{run.started ? run.started.slice(0, 16).replace("T", " ") : "–"}</td>
    </tr>
  );
}

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

/** The history of one task over all runs and steps. */
export function TaskPage({ runs }: { runs: Runs | null }) {
  const task = address.value.task;
  const { value, error } = useRequest<(Card & { run: string })[]>(task ? "task" : null, { task });
  const attempts = value ?? [];
  const numbers = attempts.filter((card) => typeof card.reward === "number");
  const best = useMemo(() => numbers.reduce<Card | null>((top, card) => (!top || (card.reward as number) > (top.reward as number) ? card : top), null), [value]);
  const worst = useMemo(() => numbers.reduce<Card | null>((low, card) => (!low || (card.reward as number) < (low.reward as number) ? card : low), null), [value]);
  const range = (card: Card) => runs?.runs.find((run) => run.key === card.run)?.ranges.reward ?? UNIT;
  const solved = numbers.find((card) => (card.reward as number) >= range(card).max) ?? null;
  const to = (card: Card) => ({ page: card.discard ? "discarded" : "rollouts", run: card.run!, step: card.step === null ? "none" : String(card.step), group: card.group, sample: card.id });
  const byStep = new Map<string, Card[]>();
  for (const card of attempts) {
    const key = `${card.run}${card.step === null ? "" : `, step ${card.step}`}`;
    byStep.set(key, [...(byStep.get(key) ?? []), card]);
  }
  return (
    <main id="content" tabIndex={-1} class="page task">
      <h1>Task history <small class="id">{task}</small></h1>
      <Problem error={error} />
      {value && !attempts.length && <p class="empty">There is no attempt at this task.</p>}
      <p class="line">
        {([["Best", best], ["Worst", worst], ["First solved", solved]] as [string, Card | null][]).map(([name, card]) => card ? <Link key={name} to={to(card)} class="button">{name} <Reward label="" value={card.reward} good={goodness(card.reward, range(card))} /></Link> : <span key={name} class="none">{name}: none</span>)}
        <span class="tokens">{attempts.length} attempts</span>
      </p>
      <table class="attempts"><tbody>
        {[...byStep].map(([key, cards]) => (
          <tr key={key}><th scope="row" dir="auto">{key}</th><td>{cards.map((card) => <Link key={card.id} to={to(card)} class="attempt" title={`reward ${exactly(card.reward as Num)}${card.discard ? `, ${card.discard}` : ""}`}><i class={shade(goodness(card.reward, range(card)))} aria-hidden="true" />{shown(card.reward, 2)}</Link>)}</td></tr>
        ))}
      </tbody></table>
    </main>
  );
}

