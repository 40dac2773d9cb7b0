import { useMemo } from "preact/hooks";
import { address } from "../address";
import { useRequest } from "../api";
import { exactly, goodness, shade, shown, UNIT } from "../numbers";
import { Link, Problem, Reward } from "../components";
import type { Card, Num, Runs } from "../types";

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
        {attempts.length > 1 && <Link to={{ page: "pair", task }} class="button">Compare two attempts</Link>}
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
