import { address, at } from "../address";
import { shared, useRequest } from "../api";
import { Link } from "../components";
import { shown, titleCase } from "../numbers";
import type { Step } from "../types";

interface Figures { rollouts: number; discarded: number; reasons: [string, number][]; groups: number; same_reward: number; all_zero: number; all_one: number; off_policy: { name: string; kept: number | null; discarded: number | null }[] }

/** The catalogue of discarded rollouts: of the step that is open, and of the whole run. */
export function Discards({ runKey, step, steps }: { runKey: string; step: number | null | undefined; steps: Step[] | null }) {
  const { value } = useRequest<{ step: Figures; run: Figures }>(step === undefined ? null : "discards", { run: runKey, step: step ?? "" }, true, true);
  if (!value?.run.discarded) return null;
  const both = (steps?.length ?? 0) > 1;
  const parts: [string, Figures][] = both ? [[step === null ? "Without a step" : `Step ${step}`, value.step], ["Whole run", value.run]] : [["Whole run", value.run]];
  const reasons = value.run.reasons.map(([reason]) => reason);
  const of = (count: number, all: number) => <>{count.toLocaleString("en")} <small class="note">{all ? `${shown((100 * count) / all, 1)} %` : ""}</small></>;
  return (
    <table class="discards" aria-label="Discarded rollouts in numbers">
      <thead><tr><th scope="col"><span class="unseen">What</span></th>{parts.map(([name]) => <th scope="col" class="num" key={name}>{name}</th>)}</tr></thead>
      <tbody>
        <tr><th scope="row">Discarded, of all rollouts</th>{parts.map(([name, one]) => <td class="num" key={name}>{of(one.discarded, one.rollouts)}</td>)}</tr>
        {reasons.map((reason) => (
          <tr key={reason}><th scope="row" class="reason">{shared ? titleCase(reason) : <Link to={at({ filter: `discard == ${JSON.stringify(reason)}`, from: undefined })} title={`Only those discarded for ${reason}`} current={address.value.filter === `discard == ${JSON.stringify(reason)}`}>{titleCase(reason)}</Link>}</th>
            {parts.map(([name, one]) => <td class="num" key={name}>{of(one.reasons.find(([other]) => other === reason)?.[1] ?? 0, one.discarded)}</td>)}</tr>
        ))}
        {([["Zero-advantage groups: all rewards equal", "same_reward"], ["Groups that all got 0", "all_zero"], ["Groups that all got 1", "all_one"]] as const).map(([name, key]) => (
          <tr key={key}><th scope="row" title="Of the groups with more than one reward, kept and discarded: they have no advantage to learn from">{name}</th>{parts.map(([part, one]) => <td class="num" key={part}>{of(one[key], one.groups)}</td>)}</tr>
        ))}
        {value.run.off_policy.map(({ name }) => (
          <tr key={name}><th scope="row" title="Means of the metric">{name}: kept, discarded</th>{parts.map(([part, one]) => { const found = one.off_policy.find((other) => other.name === name); return <td class="num" key={part}>{shown(found?.kept, 2)}, {shown(found?.discarded, 2)}</td>; })}</tr>
        ))}
      </tbody>
    </table>
  );
}
