import { address, at, go } from "../address";
import { COLOURS } from "../charts/plots";
import { shared, useRequest } from "../api";
import { Filter } from "../lists/filter";
import { goodness, seconds, shown, UNIT } from "../numbers";
import { Link, Problem, Reward } from "../components";
import type { Range, Run, Runs } from "../types";
import { IntervalBar, type Interval, spanOf } from "./interval";
import { Tasks } from "./tasks";

export interface Differences {
  tasks: number; only_first: number; only_second: number; difference: number | null; interval: Interval | null; p: number | null; adjusted_p: number | null;
  text: string; wins: number; losses: number; ties: number;
}
export interface Compared {
  key: string; rollouts: number; discarded: number; tasks: number; reward: number | null; interval: Interval | null; reward_text: string; rewarded_tasks: number;
  unrewarded: number; unplayed: number; bounds: Interval | null; bounds_text: string; pass_at_k: [number, number, Interval | null, number][];
  tokens: number | null; turns: number | null; calls: number | null; duration: number | null; errors: number; against_first: Differences | null;
}
export interface TaskRow { task: string; prompt: string; environment: string; index: number | null; rewards: (number | null)[]; counts: number[]; spread: number }
export interface Comparison { runs: Compared[]; tasks: TaskRow[]; alone: TaskRow[]; common: number; only: number }

export function signed(value: number | null): string {
  return value === null ? "–" : `${value > 0 ? "+" : ""}${shown(value)}`;
}

export function Mark({ index }: { index: number }) {
  return <svg class="mark" width="10" height="10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill={COLOURS[index]} /></svg>;
}

/** The comparison of runs: their figures, their differences from the base run, and their rewards task by task. */
export function ComparePage({ runs }: { runs: Runs | null }) {
  const { runs: wanted = "", filter = "" } = address.value;
  const { value, error } = useRequest<Comparison>(wanted ? "compare" : null, { runs: wanted, filter }, true, true);
  const range = (key: string): Range => runs?.runs.find((run: Run) => run.key === key)?.ranges.reward ?? UNIT;
  return (
    <main id="content" tabIndex={-1} class="page compared">
      <h1>Compare runs</h1>
      {!shared && wanted && <Filter run={value?.runs[0]?.key ?? ""} value={filter} change={(changed) => go(at({ filter: changed || undefined }))} />}
      <Problem error={error} />
      {!wanted && <p class="empty">Select two or more runs on the <Link to={{ page: "runs" }}>Runs</Link> page.</p>}
      {wanted && !value && !error && <p class="empty">Comparing…</p>}
      {value && (
        <>
          <Figures compared={value.runs} range={range} />
          <Against compared={value.runs} />
          <Tasks comparison={value} range={range} />
        </>
      )}
    </main>
  );
}

/** The address of the same comparison with another base. */
function withBase(compared: Compared[], key: string) {
  const keys = [key, ...compared.map((run) => run.key).filter((one) => one !== key)];
  return at({ runs: keys.map(encodeURIComponent).join(","), against: undefined });
}

function Figures({ compared, range }: { compared: Compared[]; range: (key: string) => Range }) {
  const span = spanOf(compared.map((run) => [run.interval, run.reward]), range(compared[0]!.key));
  const k = Math.max(0, ...compared.flatMap((run) => run.pass_at_k.map(([one]) => one)));
  const count = (value: number | null, digits = 0) => (value === null ? "–" : digits ? shown(value, digits) : Math.round(value).toLocaleString("en"));
  return (
    <>
      <div class="scroll" tabIndex={0} role="group" aria-label="Figures"><table class="figures">
        <thead><tr>
          <th scope="col">Run</th><th scope="col" class="num">Mean reward</th><th scope="col">95 % interval</th>{k > 1 && <th scope="col" class="num">pass@{k}</th>}
          <th scope="col" class="num">Tasks</th><th scope="col" class="num">Rollouts</th><th scope="col" class="num">Discarded</th><th scope="col" class="num">Without reward</th>
          <th scope="col" class="num">Turns</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Tokens</th><th scope="col" class="num">Time</th><th scope="col" class="num">Ended in error</th>
        </tr></thead>
        <tbody>{compared.map((run, index) => {
          const pass = run.pass_at_k.find(([one]) => one === k);
          return (
            <tr key={run.key}>
              <th scope="row" dir="auto"><Mark index={index} /> <Link to={{ page: "rollouts", run: run.key }}>{run.key}</Link> {index === 0 ? <span class="base">base</span> : <Link class="base" to={withBase(compared, run.key)} title={`Compare the others with ${run.key}`}>make base</Link>}</th>
              <td class="num"><Reward label="" value={run.reward} good={goodness(run.reward, range(run.key))} /></td>
              <td class="interval" title={run.reward_text}><IntervalBar interval={run.interval} value={run.reward} span={span} index={index} few={run.rewarded_tasks} /></td>
              {k > 1 && <td class="num" title={pass ? run.pass_at_k.map(([one, mean, interval, tasks]) => `pass@${one}: ${shown(mean)}${interval ? `, 95 % interval ${shown(interval[0])} to ${shown(interval[1])}` : ""} (${tasks} tasks)`).join("\n") : undefined}>{pass ? shown(pass[1]) : "–"}</td>}
              <td class="num">{count(run.tasks)}</td><td class="num">{count(run.rollouts)}</td><td class="num">{count(run.discarded)}</td><td class="num">{count(run.unrewarded + run.unplayed)}</td>
              <td class="num">{count(run.turns, 1)}</td><td class="num">{count(run.calls, 1)}</td><td class="num">{count(run.tokens)}</td><td class="num">{seconds(run.duration)}</td><td class="num">{count(run.errors)}</td>
            </tr>
          );
        })}</tbody>
      </table></div>
      <ul class="note">
        <li>All rollouts with a reward count, discarded ones too, and each task counts once: the mean reward is the mean of the tasks' means.</li>
        {compared.filter((run) => run.unrewarded + run.unplayed > 0).map((run) => (
          <li key={run.key} dir="auto">{run.key}: {missingText(run)}{run.bounds_text ? `; with them the mean reward is ${run.bounds_text}` : ""}.</li>
        ))}
      </ul>
    </>
  );
}

function missingText(run: Compared): string {
  const parts: string[] = [];
  if (run.unrewarded) parts.push(`${run.unrewarded.toLocaleString("en")} ${run.unrewarded === 1 ? "rollout has" : "rollouts have"} no reward`);
  if (run.unplayed) parts.push(`${run.unplayed.toLocaleString("en")} ${run.unplayed === 1 ? "unit has" : "units have"} no rollout (failed or missing)`);
  return parts.join(", ");
}

/** The differences from the base run, over the tasks that both have. */
function Against({ compared }: { compared: Compared[] }) {
  const base = compared[0]!;
  const others = compared.slice(1).map((run) => ({ run, against: run.against_first! }));
  const span = spanOf(others.map(({ against }) => [against.interval, against.difference]), { min: 0, max: 0, lower_is_better: false });
  const corrected = others.some(({ against }) => against.adjusted_p !== null);
  return (
    <>
      <h2>Difference from <span dir="auto">{base.key}</span></h2>
      <div class="scroll" tabIndex={0} role="group" aria-label="Differences"><table class="differences">
        <thead><tr>
          <th scope="col">Run</th><th scope="col" class="num">Difference</th><th scope="col">95 % interval</th><th scope="col" class="num">p{corrected ? " (Holm)" : ""}</th>
          <th scope="col" class="num">Shared tasks</th><th scope="col" class="num">Better</th><th scope="col" class="num">Worse</th><th scope="col" class="num">Equal</th><th scope="col" class="num">Only in base</th><th scope="col" class="num">Only in this run</th>
        </tr></thead>
        <tbody>{others.map(({ run, against }, index) => (
          <tr key={run.key}>
            <th scope="row" dir="auto"><Mark index={index + 1} /> {run.key}</th>
            <td class="num">{signed(against.difference)}</td>
            <td class="interval">{against.interval ? <IntervalBar interval={against.interval} value={against.difference} span={span} index={index + 1} few={against.tasks} sign zero /> : <span class="note">{against.text}</span>}</td>
            <td class="num" title={against.text}>{against.interval ? pText(against.adjusted_p ?? against.p) : "–"}</td>
            <td class="num">{against.tasks.toLocaleString("en")}</td>
            <td class="num">{outcome(run, base, "better", against.wins, index)}</td><td class="num">{outcome(run, base, "worse", against.losses, index)}</td><td class="num">{against.ties.toLocaleString("en")}</td>
            <td class="num">{against.only_first.toLocaleString("en")}</td><td class="num">{against.only_second.toLocaleString("en")}</td>
          </tr>
        ))}</tbody>
      </table></div>
      <p class="note">Paired by task, over the tasks that both runs have; interval and p are of one test.{corrected ? " The p-values are corrected for the number of comparisons (Holm); the intervals are not." : ""}</p>
      <p class="line"><Link to={{ page: "metrics", run: base.key, runs: compared.slice(1).map((run) => encodeURIComponent(run.key)).join(",") || undefined }} class="button">Metrics of these runs over the steps</Link></p>
    </>
  );
}

/** The number of tasks in which a run is better or worse than the base, as a link that shows these tasks. */
function outcome(run: Compared, base: Compared, which: "better" | "worse", count: number, index: number) {
  return count ? <Link to={at({ show: which, against: index ? encodeURIComponent(run.key) : undefined })} title={`The tasks in which ${run.key} is ${which} than ${base.key}`}>{count.toLocaleString("en")}</Link> : "0";
}

function pText(p: number | null): string {
  return p === null ? "–" : p < 0.0001 ? "< 0.0001" : p.toFixed(4);
}
