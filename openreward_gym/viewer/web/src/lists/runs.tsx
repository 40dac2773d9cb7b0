import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { address, at, go } from "../address";
import { useRequest } from "../api";
import { MAX_RUNS } from "../charts/plots";
import { compact, exactly, goodness, seconds, shade, shown, three, UNIT } from "../numbers";
import { Link } from "../components";
import { nextSort } from "./table";
import type { Num, Run, Runs } from "../types";

interface Column { key: string; label: string; about: string; number: boolean; optional?: boolean; value: (run: Run) => Num; cell: (run: Run, interval?: Interval) => ComponentChildren }

interface Interval { interval: [number, number] | null; text: string }

const count = (value: number | null | undefined) => (value == null ? "–" : value.toLocaleString("en"));
const names = (value: string | null, most: number) => value?.split(",").slice(0, most).join(", ") || "–";

const COLUMNS: Column[] = [
  { key: "name", label: "Run", about: "Name of the run", number: false, value: (run) => run.key, cell: () => null },
  { key: "environment", label: "Environment", about: "Environments of its rollouts", number: false, value: (run) => run.environments, cell: (run) => names(run.environments, 4) },
  { key: "model", label: "Model", about: "Models of its rollouts", number: false, value: (run) => run.models, cell: (run) => names(run.models, 3) },
  { key: "rollouts", label: "Rollouts", about: "All rollouts, discarded ones included", number: true, value: (run) => run.rollouts, cell: (run) => count(run.rollouts) },
  { key: "discarded", label: "Discarded", about: "Rollouts that were thrown away", number: true, value: (run) => run.discarded, cell: (run) => (run.discarded ? <Link to={{ page: "discarded", run: run.key }}>{count(run.discarded)}</Link> : "0") },
  { key: "errors", label: "Errors", about: "Rollouts that ended with an error", number: true, value: (run) => run.errors, cell: (run) => (run.errors ? <Link to={{ page: "rollouts", run: run.key, filter: "status == error", steps: "all" }}>{count(run.errors)}</Link> : "0") },
  { key: "running", label: "Running", about: "Rollouts that are going on", number: true, optional: true, value: (run) => run.running, cell: (run) => count(run.running) },
  { key: "tasks", label: "Tasks", about: "Different tasks", number: true, value: (run) => run.tasks, cell: (run) => count(run.tasks) },
  { key: "steps", label: "Steps", about: "Training steps", number: true, value: (run) => run.steps, cell: (run) => (run.steps ? count(run.steps) : "–") },
  { key: "reward", label: "Mean reward", about: "Mean of the tasks' means over all rollouts, discarded ones included; beside it the 95 % interval", number: true, value: (run) => run.reward, cell: (run, interval) => <MeanReward run={run} interval={interval} /> },
  { key: "tokens", label: "Tokens", about: "Mean output tokens of a rollout", number: true, optional: true, value: (run) => run.tokens, cell: (run) => <span title={exactly(run.tokens)}>{run.tokens == null ? "–" : compact(Math.round(run.tokens))}</span> },
  { key: "cost", label: "Cost", about: "US dollars of all its rollouts", number: true, optional: true, value: (run) => run.cost, cell: (run) => (run.cost == null ? "–" : `$${shown(run.cost, 2)}`) },
  { key: "duration", label: "Time", about: "Mean seconds of a rollout from start to end", number: true, optional: true, value: (run) => run.duration, cell: (run) => seconds(run.duration ?? null) },
  { key: "started", label: "Last rollout", about: "When the last rollout started", number: false, optional: true, value: (run) => run.started, cell: (run) => run.started?.slice(0, 16).replace("T", " ") ?? "–" },
];

function MeanReward({ run, interval }: { run: Run; interval?: Interval }) {
  return (
    <span title={interval ? `Mean reward ${interval.text}` : `Mean reward: ${exactly(run.reward)}`}>
      {interval?.interval && <small class="note">{interval.interval.map((bound) => bound.toFixed(2).replace("-", "−")).join(" to ")} </small>}
      <span class={`reward ${shade(goodness(run.reward, run.ranges.reward ?? UNIT))}`}><b>{three(run.reward)}</b></span>
    </span>
  );
}

/** The runs by a column; those without a value last. */
export function sortedRuns(runs: Run[], sort: string | undefined): Run[] {
  const column = COLUMNS.find((one) => one.key === sort?.replace(/^-/, ""));
  if (!column) return runs;
  const sign = sort!.startsWith("-") ? -1 : 1;
  return [...runs].sort((a, b) => {
    const [left, right] = [column.value(a), column.value(b)];
    if (left === null || right === null) return left === right ? 0 : left === null ? 1 : -1;
    return left < right ? -sign : left > right ? sign : 0;
  });
}

export function RunsPage({ runs }: { runs: Runs | null }) {
  const [chosen, setChosen] = useState<string[]>([]);
  const [word, setWord] = useState("");
  const intervals = useRequest<Record<string, Interval>>("intervals", {}, true, true).value;
  if (!runs) return <main id="content" tabIndex={-1} class="page"><p class="empty">Opening…</p></main>;
  const { done, total } = runs.progress;
  const several = runs.runs.length > 1;
  const known = runs.runs.filter((run) => chosen.includes(run.key));
  // A column in which no run has anything is left out.
  const columns = COLUMNS.filter((column) => !column.optional || runs.runs.some((run) => column.value(run)));
  const choose = (key: string, on: boolean) => setChosen(on ? [...chosen, key] : chosen.filter((one) => one !== key));
  const found = sortedRuns(runs.runs, address.value.sort).filter((run) => [run.key, run.environments, run.models].some((text) => text?.toLowerCase().includes(word.trim().toLowerCase())));
  return (
    <main id="content" tabIndex={-1} class="page">
      <h1>Runs</h1>
      {done < total && <p class="note" role="status">Reading: {Math.floor((100 * done) / Math.max(1, total))} %</p>}
      {runs.damage.map((damage) => <p class="problem" key={damage.folder + damage.first}>{damage.lines} {damage.lines === 1 ? "line" : "lines"} in {damage.folder} cannot be read. The first: {damage.first}</p>)}
      {several && (
        <p class="line run-tools">
          <input type="search" aria-label="Find a run" placeholder="Find a run by name, environment or model" value={word} onInput={(event) => setWord(event.currentTarget.value)} />
          {known.length > 1 ? <Link to={{ page: "compare", runs: known.slice(0, MAX_RUNS).map((run) => encodeURIComponent(run.key)).join(",") }} class="button">Compare {Math.min(known.length, MAX_RUNS)} runs</Link>
            : <span class="note">Select two or more runs to compare them task by task.</span>}
          {known.length > MAX_RUNS && <span class="note">The first {MAX_RUNS} of {known.length}.</span>}
          {known.length > 0 && <button type="button" class="quiet" onClick={() => setChosen([])}>Clear</button>}
        </p>
      )}
      {runs.runs.length === 0 ? <p class="empty">No rollouts yet. They appear here as they are recorded.</p> : (
        <div class="scroll" tabIndex={0} role="group" aria-label="Runs"><table class="runs">
          <thead><tr>{several && <th scope="col"><span class="unseen">Compare</span></th>}{columns.map((column) => <RunHead key={column.key} column={column} />)}</tr></thead>
          <tbody>{found.map((run) => <RunRow key={run.key} run={run} columns={columns} interval={intervals?.[run.key]} chosen={several ? chosen.includes(run.key) : null} choose={(on) => choose(run.key, on)} />)}</tbody>
        </table></div>
      )}
      {runs.runs.length > 0 && !found.length && <p class="empty">No run has “{word.trim()}” in its name, environment or model.</p>}
    </main>
  );
}

function RunHead({ column }: { column: Column }) {
  const sort = address.value.sort;
  const order = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : "none";
  return (
    <th scope="col" class={column.number ? "num" : undefined} aria-sort={order} title={`${column.label}: ${column.about}`}>
      <button type="button" class="quiet head" onClick={() => go(at({ sort: nextSort(column.key, sort) }), true)}>{column.label}{order === "ascending" ? " ↑" : order === "descending" ? " ↓" : ""}</button>
    </th>
  );
}

function RunRow({ run, columns, interval, chosen, choose }: { run: Run; columns: Column[]; interval?: Interval; chosen: boolean | null; choose: (on: boolean) => void }) {
  return (
    <tr>
      {chosen !== null && <td class="choose"><input type="checkbox" aria-label={`Compare ${run.key}`} checked={chosen} onChange={(event) => choose(event.currentTarget.checked)} /></td>}
      <th scope="row" dir="auto"><Link to={{ page: "rollouts", run: run.key }} title={run.folder}>{run.key}</Link></th>
      {columns.slice(1).map((column) => <td key={column.key} class={column.number ? "num" : undefined} dir={column.number ? undefined : "auto"}>{column.cell(run, interval)}</td>)}
    </tr>
  );
}
