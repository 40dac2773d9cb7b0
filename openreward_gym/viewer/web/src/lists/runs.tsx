import { useState } from "preact/hooks";
import { MAX_RUNS } from "../charts/plots";
import { goodness, UNIT } from "../numbers";
import { Link, Reward } from "../components";
import type { Run, Runs } from "../types";

export function RunsPage({ runs }: { runs: Runs | null }) {
  const [chosen, setChosen] = useState<string[]>([]);
  if (!runs) return <main id="content" tabIndex={-1} class="page"><p class="empty">Opening…</p></main>;
  const { done, total } = runs.progress;
  const several = runs.runs.length > 1;
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
