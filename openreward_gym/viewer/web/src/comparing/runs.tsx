import { address } from "../address";
import { COLOURS } from "../charts/plots";
import { useRequest } from "../api";
import { goodness, seconds, shown, UNIT } from "../numbers";
import { Link, Problem, Reward } from "../components";
import type { Run, Runs } from "../types";

interface Against { tasks: number; difference: number | null; p: number | null; adjusted_p: number | null; text: string }
interface Compared {
  key: string; rollouts: number; discarded: number; tasks: number; reward: number | null; reward_text: string; tokens: number | null; turns: number | null;
  calls: number | null; duration: number | null; errors: number; against_first: Against | null;
}
interface TaskRow { task: string; prompt: string; environment: string; index: number | null; rewards: (number | null)[]; counts: number[]; spread: number }
interface Comparison { runs: Compared[]; tasks: TaskRow[]; common: number }

function signed(value: number | null): string {
  return value === null ? "–" : `${value > 0 ? "+" : ""}${shown(value)}`;
}

/** The comparison of runs: their figures, and the tasks in which they differ most. */
export function ComparePage({ runs }: { runs: Runs | null }) {
  const wanted = address.value.runs ?? "";
  const { value, error } = useRequest<Comparison>(wanted ? "compare" : null, { runs: wanted });
  const range = (key: string) => runs?.runs.find((run: Run) => run.key === key)?.ranges.reward ?? UNIT;
  const mark = (index: number) => <svg width="10" height="10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill={COLOURS[index]} /></svg>;
  return (
    <main id="content" tabIndex={-1} class="page compared">
      <h1>Compare runs</h1>
      <Problem error={error} />
      {!wanted && <p class="empty">Select two or more runs on the Runs page.</p>}
      {value && (
        <>
          <div class="scroll" tabIndex={0} role="group" aria-label="Figures"><table>
            <thead><tr><th scope="col">Run</th><th scope="col" class="num">Rollouts</th><th scope="col" class="num">Tasks</th><th scope="col" class="num">Mean reward</th><th scope="col" class="num">Difference, shared tasks</th><th scope="col" class="num">p</th><th scope="col" class="num">Turns</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Tokens</th><th scope="col" class="num">Time</th><th scope="col" class="num">Errors</th></tr></thead>
            <tbody>{value.runs.map((run, index) => (
              <tr key={run.key}>
                <th scope="row" dir="auto">{mark(index)} <Link to={{ page: "rollouts", run: run.key }}>{run.key}</Link></th>
                <td class="num">{run.rollouts.toLocaleString("en")}</td><td class="num">{run.tasks.toLocaleString("en")}</td>
                <td class="num"><Reward label="" value={run.reward} good={goodness(run.reward, range(run.key))} /></td>
                <td class="num">{run.against_first === null ? <span class="note">the first</span> : signed(run.against_first.difference)}</td>
                <td class="num">{run.against_first ? shown(run.against_first.adjusted_p ?? run.against_first.p) : ""}</td>
                <td class="num">{shown(run.turns, 1)}</td><td class="num">{shown(run.calls, 1)}</td><td class="num">{run.tokens === null ? "–" : Math.round(run.tokens).toLocaleString("en")}</td>
                <td class="num">{seconds(run.duration)}</td><td class="num">{run.errors.toLocaleString("en")}</td>
              </tr>
            ))}</tbody>
          </table></div>
          <ul class="note">{value.runs.map((run, index) => (
            <li key={run.key} dir="auto">{mark(index)} {run.key}: mean reward {run.reward_text}{run.against_first && `; difference over ${run.against_first.tasks.toLocaleString("en")} shared tasks ${signed(run.against_first.difference)} (${run.against_first.text})`}</li>
          ))}</ul>
          <p class="note">All rollouts with a reward count, discarded ones too, and each task counts once: the mean reward is the mean of the tasks' means. p is that of a paired test over the shared tasks; of several runs it is corrected for their number (Holm).</p>
          <p class="line">{value.runs.length > 0 && <Link to={{ page: "metrics", run: value.runs[0]!.key, runs: value.runs.slice(1).map((run) => encodeURIComponent(run.key)).join(",") || undefined }} class="button">Metrics of these runs over the steps</Link>}</p>
          <h2>Tasks in which they differ most</h2>
          {value.tasks.length === 0 ? <p class="empty">The runs share no task with a reward.</p> : (
            <div class="scroll" tabIndex={0} role="group" aria-label="Tasks"><table class="tasks">
              <thead><tr><th scope="col">Task</th>{value.runs.map((run, index) => <th scope="col" key={run.key} class="num" dir="auto">{mark(index)} {run.key}</th>)}<th scope="col" class="num">Spread</th></tr></thead>
              <tbody>{value.tasks.map((row) => (
                <tr key={row.task}>
                  <th scope="row"><Link to={{ page: "task", task: row.task, run: value.runs[0]!.key }} title={row.prompt}><span class="prompt" dir="auto">{row.prompt || row.task}</span></Link><small class="note">{row.environment}{row.index !== null ? ` ${row.index}` : ""}</small></th>
                  {row.rewards.map((reward, index) => <td class="num" key={index}><Reward label="" value={reward} good={goodness(reward, range(value.runs[index]!.key))} /> <small class="note">×{row.counts[index]}</small></td>)}
                  <td class="num">{shown(row.spread)}</td>
                </tr>
              ))}</tbody>
            </table></div>
          )}
          {value.common > value.tasks.length && <p class="note">{value.tasks.length} of {value.common.toLocaleString("en")} shared tasks.</p>}
        </>
      )}
    </main>
  );
}
