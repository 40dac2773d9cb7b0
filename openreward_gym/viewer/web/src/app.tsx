import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { address, at, formatAddress, go } from "./address";
import { PairPage } from "./comparing/pair";
import { ComparePage } from "./comparing/runs";
import { shared, useRequest } from "./api";
import { theme } from "./settings";
import { Metrics } from "./charts/metrics";
import { RunsPage } from "./lists/runs";
import { TaskPage } from "./lists/task";
import { SearchPage } from "./searching/page";
import { searchPageOf } from "./searching/results";
import { Guarded, Link, Problem } from "./components";
import { Rollouts } from "./lists/rollouts";
import type { Runs } from "./types";

const THEMES = ["auto", "light", "dark"] as const;

export function App() {
  const { page, run } = address.value;
  const runs = useRequest<Runs>("runs");
  const [help, setHelp] = useState(false);
  useEffect(() => {
    document.documentElement.dataset.theme = theme.value;
  }, [theme.value]);
  useEffect(() => {
    document.title = run ? `${run} – Rollouts` : "Rollouts";
  }, [run]);
  useKeys(() => setHelp((before) => !before), () => setHelp(false));
  const current = runs.value?.runs.find((one) => one.key === run);
  const missing = run !== undefined && runs.value && !current && runs.value.progress.done >= runs.value.progress.total && !address.value.sample;
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>("main")?.focus(); }}>To the content</a>
      <header class="top">
        <Link to={{ page: "runs" }} class="brand" current={page === "runs"}>Runs</Link>
        {run && (
          <nav aria-label="Run">
            <b dir="auto" title={current?.folder}>{run}</b>
            <Link to={at({ page: "rollouts", group: undefined, sample: undefined, view: undefined, task: undefined, query: undefined, message: undefined })} current={page === "rollouts"}>Rollouts</Link>
            <Link to={at({ page: "discarded", step: undefined, group: undefined, sample: undefined, view: undefined, task: undefined, query: undefined, message: undefined })} current={page === "discarded"}>Discarded rollouts{current?.discarded ? <small> {current.discarded}</small> : null}</Link>
            <Link to={at({ page: "metrics", group: undefined, sample: undefined, view: undefined, task: undefined, query: undefined, message: undefined })} current={page === "metrics"}>Metrics</Link>
          </nav>
        )}
        <span class="space" />
        <Link to={searchPageOf()} current={page === "search"}>Search</Link>
        <button type="button" class="quiet" aria-label={`Theme: ${theme.value}`} onClick={() => { theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % 3]!; }}>{theme.value === "auto" ? "◐" : theme.value === "light" ? "☀" : "☾"}</button>
        <button type="button" class="quiet" aria-label="Keys" onClick={() => setHelp(true)}>?</button>
      </header>
      {runs.error && <Problem error={runs.error} />}
      <Guarded place={formatAddress(address.value)}>{
        missing ? <main id="content" tabIndex={-1} class="page"><h1>There is no run {run}</h1><p><Link to={{ page: "runs" }}>All runs</Link></p></main>
        : page === "rollouts" || page === "discarded" ? <Rollouts key={`${page} ${run}`} run={current} discarded={page === "discarded"} />
        : page === "metrics" ? <Metrics run={current} />
        : page === "compare" ? <ComparePage runs={runs.value} />
        : page === "pair" ? <PairPage runs={runs.value} />
        : page === "search" ? <SearchPage runs={runs.value} />
        : page === "task" ? <TaskPage runs={runs.value} />
        : <RunsPage runs={runs.value} />
      }</Guarded>
      {help && <Help close={() => setHelp(false)} />}
    </>
  );
}

const KEYS: [string, string][] = [
  ["j, k", "next, previous turn"], ["←, →", "previous, next sample of the group"], ["[, ]", "previous, next step"],
  ["/", "search"], ["n, N", "next, previous hit of the search"], ["n, p", "next, previous difference of two rollouts"], ...(shared ? [] : [["f", "filter"] as [string, string]]), ["1 – 5, 0", "rate the sample, remove the rating"], ["t", "light, dark"], ["Esc", "close; leave the sample"], ["?", "show this help"],
];

function Help({ close }: { close: () => void }) {
  return (
    <div class="shade" onClick={close}>
      <section class="help" role="dialog" aria-modal="true" aria-label="Keys" onClick={(event) => event.stopPropagation()}>
        <h2>Keys</h2>
        <dl>{KEYS.map(([key, action]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{action}</dd></div>)}</dl>
        <button type="button" onClick={close} ref={(node) => node?.focus()}>Close</button>
      </section>
    </div>
  );
}

function press(name: string): void {
  document.querySelector<HTMLButtonElement>(`button[aria-label="${name}"]:not(:disabled)`)?.click();
}

function turn(by: number): void {
  const box = document.querySelector<HTMLElement>(".middle");
  const all = [...document.querySelectorAll<HTMLElement>(".middle .sample > .section")];
  if (!box || !all.length) return;
  const top = box.getBoundingClientRect().top;
  const now = all.findLastIndex((section) => section.getBoundingClientRect().top <= top + 8);
  all[Math.max(0, Math.min(all.length - 1, now + by))]?.scrollIntoView({ block: "start" });
}

function useKeys(help: () => void, closeHelp: () => void): void {
  useLayoutEffect(() => {
    const act = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.defaultPrevented || (event.key === "Escape" && document.querySelector("details.menu[open]"))) return;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
      if (document.querySelector(".help") && event.key !== "Escape" && event.key !== "?") return;
      const keys: Record<string, () => void> = {
        j: () => turn(1), k: () => turn(-1), ArrowLeft: () => press("Previous sample"), ArrowRight: () => press("Next sample"),
        "[": () => press("Previous step"), "]": () => press("Next step"), "?": help,
        t: () => { const dark = theme.value === "dark" || (theme.value === "auto" && matchMedia("(prefers-color-scheme: dark)").matches); theme.value = dark ? "light" : "dark"; },
        f: () => document.querySelector<HTMLElement>(".sidebar .filter input")?.focus(),
        "/": () => { const field = document.querySelector<HTMLElement>("#search"); if (field) field.focus(); else go(searchPageOf()); },
        n: () => press("Next hit"), N: () => press("Previous hit"),
        Escape: () => {
          if (document.querySelector(".help")) closeHelp();
          else if (!document.querySelector(".chart.full") && address.value.sample) go(at({ sample: undefined, view: undefined, message: undefined }));
        },
      };
      const rate = /^[0-5]$/.test(event.key) ? () => document.dispatchEvent(new CustomEvent("rate", { detail: Number(event.key) })) : undefined;
      const action = rate ?? keys[event.key];
      if (action) {
        if (event.key !== "Escape") event.preventDefault();
        action();
      }
    };
    document.addEventListener("keydown", act);
    return () => document.removeEventListener("keydown", act);
  }, []);
}
