import { address, at, go } from "../address";
import { Link, Reward } from "../components";
import { goodness } from "../numbers";
import { rangeOf } from "../reading/ranges";
import { toStep } from "./steps";
import type { Run, Step } from "../types";

const count = (number: number) => number.toLocaleString("en");

/** The figures of a step in one line, and the change of the mean reward since the step before; its groups from the worst on. */
export function StepFigures({ run, steps, step }: { run: Run | undefined; steps: Step[]; step: number | null }) {
  const index = steps.findIndex((one) => one.step === step);
  const [now, before] = [steps[index], steps[index - 1]];
  if (!now) return null;
  const worst = address.value.sort === "reward";
  const change = now.reward !== null && before?.reward != null && before.step !== null ? now.reward - before.reward : null;
  return (
    <div class="line step-figures" role="group" aria-label="Figures of the step">
      <Reward label="Mean reward" value={now.reward} good={goodness(now.reward, rangeOf(run, "reward"))} />
      {change !== null && <span class="note">{change < 0 ? "−" : "+"}{Math.abs(change).toFixed(3)} from <Link to={toStep(before!.step)}>step {before!.step}</Link></span>}
      <span class="note">{count(now.kept)} kept, {count(now.discarded)} discarded{address.value.filter ? ", of those that match" : ""}</span>
      <span class="space" />
      <button type="button" aria-pressed={worst} title="Groups and samples from the smallest reward on" onClick={() => go(at({ sort: worst ? undefined : "reward", from: undefined }), true)}>Worst first</button>
    </div>
  );
}

const MOST = 1000;

/** The steps of a run, or of what matches the filter, as a table. */
export function StepTable({ run, steps, page }: { run: Run | undefined; steps: Step[]; page: string }) {
  const rows = steps.filter((one) => one.rollouts > 0);
  const range = rangeOf(run, "reward");
  if (!rows.length) return <p class="empty">No rollout of this run matches the filter.</p>;
  return (
    <>
      <p class="note">The list beside has the rollouts of all steps. Select a step to list it alone.</p>
      <div class="scroll" tabIndex={0} role="group" aria-label="Steps"><table class="step-table">
        <thead><tr><th scope="col" class="num">Step</th><th scope="col" class="num">Rollouts</th><th scope="col" class="num">Kept</th><th scope="col" class="num">Discarded</th><th scope="col" class="num">Mean reward</th></tr></thead>
        <tbody>{rows.slice(0, MOST).map((one) => (
          <tr key={one.step}>
            <th scope="row" class="num"><Link to={toStep(one.step, page)}>{one.step === null ? "none" : one.step}</Link></th>
            <td class="num">{count(one.rollouts)}</td><td class="num">{count(one.kept)}</td><td class="num">{count(one.discarded)}</td>
            <td class="num"><Reward label="" value={one.reward} good={goodness(one.reward, range)} /></td>
          </tr>
        ))}</tbody>
      </table></div>
      {rows.length > MOST && <p class="note">The first {count(MOST)} of {count(rows.length)} steps.</p>}
    </>
  );
}
