import { at, go } from "../address";
import { Link, Reward } from "../components";
import { goodness, seconds, shown } from "../numbers";
import { durationOf } from "../reading/rollout";
import { endOf } from "../reading/words";
import type { Card, Opened, Range } from "../types";
import { formatSide } from "./choosing";

const MAX_OPTIONS = 500;

/** The head of one side of a pair: which attempt it is, its reward, end, tokens and time. */
export function SideHead({ side, opened, attempts, range }: { side: "left" | "right"; opened: Opened; attempts: (Card & { run: string })[]; range: Range }) {
  const { rollout, run, place } = opened;
  const value = formatSide({ run, id: rollout.id });
  const name = side === "left" ? "Left" : "Right";
  const tokens = rollout.usage?.output_tokens;
  return (
    <section class="side" data-side={side} aria-label={`${name} rollout`}>
      <div class="line">
        <select aria-label={`${name} rollout`} value={value} onChange={(event) => go(at({ [side]: event.currentTarget.value }), true)}>
          <Options attempts={attempts} value={value} current={opened} />
        </select>
        <Link to={{ page: place.discarded ? "discarded" : "rollouts", run, step: place.step === null ? "none" : String(place.step), group: place.group, sample: rollout.id }}>Open</Link>
      </div>
      <div class="line about">
        <Reward label="Reward" value={rollout.reward ?? null} good={goodness(rollout.reward ?? null, range)} />
        <span class={`status ${rollout.status}`}>{endOf(rollout)}</span>
        {rollout.discard_reason && <span class="badge">{rollout.discard_reason}</span>}
        {tokens != null && <span class="tokens">{tokens.toLocaleString("en")} tokens</span>}
        <span class="tokens">{seconds(durationOf(rollout.started_at, rollout.ended_at))}</span>
      </div>
    </section>
  );
}

function Options({ attempts, value, current }: { attempts: (Card & { run: string })[]; value: string; current: Opened }) {
  const byRun = new Map<string, (Card & { run: string })[]>();
  for (const card of attempts) byRun.set(card.run, [...(byRun.get(card.run) ?? []), card]);
  const known = attempts.some((card) => formatSide(card) === value);
  const label = (card: Card) => [card.step !== null ? `step ${card.step}` : "", card.sample !== null ? `sample ${card.sample}` : (card.name ?? card.id.slice(0, 12)), `reward ${shown(card.reward)}`, card.discard ? "discarded" : ""].filter(Boolean).join(", ");
  return (
    <>
      {!known && <option value={value}>{current.run}: {current.rollout.name || current.rollout.id}</option>}
      {[...byRun].map(([run, cards]) => (
        <optgroup label={run} key={run}>
          {cards.filter((card, index) => index < MAX_OPTIONS || formatSide(card) === value).map((card) => <option key={card.id} value={formatSide(card)}>{run}: {label(card)}</option>)}
        </optgroup>
      ))}
    </>
  );
}
