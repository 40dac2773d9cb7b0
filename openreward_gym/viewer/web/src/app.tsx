import { useEffect, useState } from "preact/hooks";
import { address, at, formatAddress } from "./address";
import { PairPage } from "./comparing/pair";
import { ComparePage } from "./comparing/runs";
import { unreachable, useRequest } from "./api";
import { useNotices } from "./notices";
import { trouble } from "./opened";
import { theme } from "./settings";
import { Metrics } from "./charts/metrics";
import { RunsPage } from "./lists/runs";
import { TaskPage } from "./lists/task";
import { SearchPage } from "./searching/page";
import { searchPageOf } from "./searching/results";
import { Guarded, Link, Problem } from "./components";
import { useKeptFocus } from "./focus";
import { Help } from "./help";
import { useKeys } from "./keys";
import { Rollouts } from "./lists/rollouts";
import { useTitle } from "./title";
import type { Runs } from "./types";

const THEMES = ["auto", "light", "dark"] as const;

export function App() {
  const { page, run } = address.value;
  const runs = useRequest<Runs>("runs");
  // Counted, so that the end of one opening of the dialog does not end the next.
  const [help, setHelp] = useState(0);
  useEffect(() => {
    document.documentElement.dataset.theme = theme.value;
  }, [theme.value]);
  useTitle(address.value);
  useKeptFocus(formatAddress(address.value));
  useKeys(() => setHelp((count) => count + 1));
  const { current, gone, notice } = useNotices(runs.value, address.value);
  const missing = run !== undefined && runs.value && !current && !gone && runs.value.progress.done >= runs.value.progress.total && !address.value.sample;
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>("main")?.focus(); }}>To the content</a>
      <header class="top">
        <Link to={{ page: "runs" }} class="brand" current={page === "runs"}>Runs</Link>
        {run && !missing && (
          <nav aria-label="Run">
            <span class="slash" aria-hidden="true">/</span><b dir="auto" title={current?.folder}>{run}</b>
            <Link to={at({ page: "rollouts", group: undefined, sample: undefined, view: undefined, task: undefined, query: undefined, message: undefined })} current={page === "rollouts"}>Rollouts</Link>
            <Link to={at({ page: "discarded", step: undefined, group: undefined, sample: undefined, view: undefined, task: undefined, query: undefined, message: undefined })} current={page === "discarded"}>Discarded<span class="wide"> rollouts</span>{current?.discarded ? <small> {current.discarded}</small> : null}</Link>
            <Link to={at({ page: "metrics", group: undefined, sample: undefined, view: undefined, task: undefined, query: undefined, message: undefined })} current={page === "metrics"}>Metrics</Link>
          </nav>
        )}
        <span class="space" />
        <Link to={searchPageOf()} current={page === "search"}>Search</Link>
        <button type="button" class="quiet" aria-label={`Theme: ${theme.value}`} title={`Theme: ${theme.value}`} onClick={() => { theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % 3]!; }}>
          <span aria-hidden="true">{theme.value === "auto" ? "◐" : theme.value === "light" ? "☀" : "☾"}</span><span class="word"> Theme: {theme.value}</span>
        </button>
        <button type="button" class="quiet" aria-label="Keys" title="Keys (?)" onClick={() => setHelp((count) => count + 1)}><kbd>?</kbd><span class="word"> Keys</span></button>
      </header>
      <Banner text={unreachable.value ? "The viewer's server does not answer; it may have been stopped. What is shown was read before." : trouble.value && !gone ? trouble.value : notice} />
      {runs.error && <Problem error={runs.error} />}
      <Guarded place={formatAddress(address.value)}>{
        missing ? <main id="content" tabIndex={-1} class="page"><h1>There is no run {run}</h1><p><Link to={{ page: "runs" }}>All runs</Link></p></main>
        : page === "rollouts" || page === "discarded" ? <Rollouts key={`${page} ${run}`} run={current} discarded={page === "discarded"} indexed={!!runs.value && runs.value.progress.total - runs.value.progress.done < 4_000_000} />
        : page === "metrics" ? <Metrics run={current} />
        : page === "compare" ? <ComparePage runs={runs.value} />
        : page === "pair" ? <PairPage runs={runs.value} />
        : page === "search" ? <SearchPage runs={runs.value} />
        : page === "task" ? <TaskPage runs={runs.value} />
        : page === "runs" ? <RunsPage runs={runs.value} />
        : <main id="content" tabIndex={-1} class="page"><h1>There is no page “{page}”</h1><p><Link to={{ page: "runs" }}>All runs</Link></p></main>
      }</Guarded>
      {help > 0 && <Help key={help} closed={() => setHelp((now) => (now === help ? 0 : now))} />}
    </>
  );
}

/**
 * What is wrong with all that is open, said once. The element is always there, so that its first text is announced too;
 * without a text it has no role of its own beside the status of the page.
 */
function Banner({ text }: { text: string | null }) {
  return <div role={text ? "status" : undefined} aria-live="polite" aria-atomic="true" class="banner">{text && <p class="problem">{text}</p>}</div>;
}
