import { useMemo } from "preact/hooks";
import { address, at, go, stepKey } from "../address";
import { useRequest } from "../api";
import { exactly, finite, goodness, shade, shown, titleCase, UNIT } from "../numbers";
import { Link, Problem, Reward } from "../components";
import { nextSort } from "./table";
import type { Card, Range, Runs } from "../types";

interface Attempts { run: string; step: number | null; cards: Card[]; mean: number | null; best: number | null }

const HEADS = [["run", "Run", false], ["step", "Step", true], ["count", "Attempts", true], ["mean", "Mean reward", true], ["best", "Best", true]] as const;

/** The history of one task over all runs and steps. */
export function TaskPage({ runs }: { runs: Runs | null }) {
  const { task, sort } = address.value;
  const { value, error } = useRequest<(Card & { run: string })[]>(task ? "task" : null, { task });
  const attempts = value ?? [];
  const numbers = attempts.filter((card) => typeof card.reward === "number");
  const best = useMemo(() => numbers.reduce<Card | null>((top, card) => (!top || (card.reward as number) > (top.reward as number) ? card : top), null), [value]);
  const worst = useMemo(() => numbers.reduce<Card | null>((low, card) => (!low || (card.reward as number) < (low.reward as number) ? card : low), null), [value]);
  const range = (card: Card) => runs?.runs.find((run) => run.key === card.run)?.ranges.reward ?? UNIT;
  const solved = numbers.find((card) => (card.reward as number) >= range(card).max) ?? null;
  const rows = useMemo(() => sorted(byStep(attempts), sort), [value, sort]);
  return (
    <main id="content" tabIndex={-1} class="page task">
      <h1>Task history <small class="id">{task}</small></h1>
      <Problem error={error} />
      {!value && !error && task && <p class="empty">Opening…</p>}
      {value && !attempts.length && <p class="empty">There is no attempt at this task.</p>}
      {!task && <p class="empty">No task is named in the address.</p>}
      {attempts.length > 0 && (
        <>
          <p class="line">
            {([["Best", best], ["Worst", worst], ["First solved", solved]] as [string, Card | null][]).map(([name, card]) => card ? <Link key={name} to={placeOf(card)} class="button">{name} <Reward label="" value={card.reward} good={goodness(card.reward, range(card))} /></Link> : <span key={name} class="none">{name}: none</span>)}
            <span class="tokens">{attempts.length.toLocaleString("en")} {attempts.length === 1 ? "attempt" : "attempts"}, discarded ones included</span>
          </p>
          <div class="scroll" tabIndex={0} role="group" aria-label="Attempts"><table class="attempts">
            <thead><tr>{HEADS.map(([key, label, number]) => <Head key={key} name={key} label={label} number={number} sort={sort} />)}<th scope="col">Rewards of the attempts</th></tr></thead>
            <tbody>{rows.map((row) => <Row key={`${row.run} ${row.step}`} row={row} range={range} />)}</tbody>
          </table></div>
        </>
      )}
    </main>
  );
}

function placeOf(card: Card) {
  return { page: card.discard ? "discarded" : "rollouts", run: card.run!, step: stepKey(card.step), group: card.group, sample: card.id };
}

function byStep(attempts: Card[]): Attempts[] {
  const found = new Map<string, Card[]>();
  for (const card of attempts) {
    const key = `${card.step} ${card.run}`;
    found.set(key, [...(found.get(key) ?? []), card]);
  }
  return [...found.values()].map((cards) => {
    const rewards = cards.map((card) => finite(card.reward)).filter((reward) => reward !== null);
    const mean = rewards.length ? rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length : null;
    return { run: cards[0]!.run!, step: cards[0]!.step, cards, mean, best: rewards.length ? Math.max(...rewards) : null };
  });
}

function sorted(rows: Attempts[], sort: string | undefined): Attempts[] {
  const key = sort?.replace(/^-/, "");
  const sign = sort?.startsWith("-") ? -1 : 1;
  const value = (row: Attempts) => (key === "run" ? row.run : key === "step" ? row.step : key === "count" ? row.cards.length : key === "mean" ? row.mean : key === "best" ? row.best : 0);
  return [...rows].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === null || right === null) return left === right ? 0 : left === null ? 1 : -1;
    return left < right ? -sign : left > right ? sign : 0;
  });
}

function Head({ name, label, number, sort }: { name: string; label: string; number: boolean; sort: string | undefined }) {
  const order = sort === name ? "ascending" : sort === `-${name}` ? "descending" : "none";
  return <th scope="col" class={number ? "num" : undefined} aria-sort={order}><button type="button" class="quiet head" onClick={() => go(at({ sort: nextSort(name, sort) }), true)}>{label}{order === "ascending" ? " ↑" : order === "descending" ? " ↓" : ""}</button></th>;
}

function Row({ row, range }: { row: Attempts; range: (card: Card) => Range }) {
  return (
    <tr>
      <th scope="row" dir="auto">{row.run}</th>
      <td class="num">{row.step === null ? "–" : row.step}</td>
      <td class="num">{row.cards.length}</td>
      <td class="num">{row.mean === null ? "–" : row.mean.toFixed(3)}</td>
      <td class="num">{row.best === null ? "–" : row.best.toFixed(3)}</td>
      <td>{row.cards.map((card) => <Link key={card.id} to={placeOf(card)} class="attempt" title={`reward ${exactly(card.reward)}${card.discard ? `, discarded: ${titleCase(card.discard)}` : ""}`}><i class={shade(goodness(card.reward, range(card)))} aria-hidden="true" />{shown(card.reward, 2)}{card.discard && <span class="unseen"> discarded</span>}</Link>)}</td>
    </tr>
  );
}
