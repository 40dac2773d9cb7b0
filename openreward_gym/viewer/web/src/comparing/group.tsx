import { useEffect, useState } from "preact/hooks";
import { address, at, formatAddress } from "../address";
import { load } from "../api";
import { goodness, titleCase } from "../numbers";
import { Link, Problem, Reward } from "../components";
import { rangeOf } from "../reading/ranges";
import type { Card, Opened, Range, Run } from "../types";
import { playedOf } from "./alignment";
import { pairInGroup } from "./choosing";
import { Divergence } from "./divergence";
import { Messages, Said } from "./said";

const SIDE_BY_SIDE = 16;
const TURNS = 20;

type Sorting = "sample" | "best" | "worst";

function sorted(cards: Card[], sorting: Sorting): Card[] {
  if (sorting === "sample") return cards;
  const value = (card: Card) => (typeof card.reward === "number" ? card.reward : sorting === "best" ? -Infinity : Infinity);
  return [...cards].sort((a, b) => (sorting === "best" ? value(b) - value(a) : value(a) - value(b)));
}

/** The samples of a group below their common prompt: side by side, or as the turns they share and the point where they diverge. */
export function GroupView({ run, runKey, cards, error }: { run: Run | undefined; runKey: string; cards: Card[] | null; error: Error | null }) {
  const [sorting, setSorting] = useState<Sorting>("sample");
  const [from, setFrom] = useState(0);
  const group = address.value.group;
  useEffect(() => setFrom(0), [group, sorting]);
  const shown = sorted(cards ?? [], sorting).slice(from, from + SIDE_BY_SIDE);
  const opened = useSamples(runKey, shown);
  if (!cards) return error ? <Problem error={error} /> : <p class="empty">Opening…</p>;
  const first = shown.map((card) => opened[card.id]).find(Boolean);
  const prompt = first ? playedOf(first.rollout).prompt : [];
  const divergence = address.value.view === "divergence";
  return (
    <article class="compare" aria-label="Group">
      <header class="line">
        <h1 dir="auto">{group}</h1>
        <span class="tokens">{cards.length} {cards.length === 1 ? "sample" : "samples"}</span><span class="space" />
        {cards.length > 1 && <label class="tokens">Order <select value={sorting} onChange={(event) => setSorting(event.currentTarget.value as Sorting)}><option value="sample">by sample</option><option value="best">best first</option><option value="worst">worst first</option></select></label>}
        <Link to={at({ view: divergence ? undefined : "divergence" })} class="button">{divergence ? "Side by side" : "Divergence"}</Link>
      </header>
      {prompt.length > 0 && <section class="section" aria-label="Prompt"><div class="inside"><Messages list={prompt} run={runKey} /></div></section>}
      {cards.length > SIDE_BY_SIDE && <Pages count={cards.length} from={from} change={setFrom} />}
      {divergence ? <Divergence run={run} runKey={runKey} cards={shown} opened={opened} /> : (
        <div class="side-by-side">{shown.map((card) => <Column key={card.id} card={card} cards={cards} opened={opened[card.id]} runKey={runKey} range={rangeOf(run, "reward")} />)}</div>
      )}
    </article>
  );
}

function useSamples(runKey: string, shown: Card[]): Record<string, Opened> {
  const [opened, setOpened] = useState<Record<string, Opened>>({});
  const ids = shown.map((card) => card.id).join(" ");
  useEffect(() => {
    const stop = new AbortController();
    void (async () => {
      for (const card of shown) {
        if (stop.signal.aborted) return;
        const result = await load<Opened>("rollout", { run: runKey, id: card.id }, stop.signal).catch(() => null);
        if (result && !stop.signal.aborted) setOpened((before) => ({ ...before, [card.id]: result }));
      }
    })();
    return () => stop.abort();
  }, [runKey, ids]);
  return opened;
}

function Pages({ count, from, change }: { count: number; from: number; change: (from: number) => void }) {
  const button = (name: string, sign: string, to: number) => <button type="button" aria-label={name} disabled={to < 0 || to >= count} onClick={() => change(to)}>{sign}</button>;
  return (
    <p class="line" role="group" aria-label="Which samples are shown">
      {button("Previous samples", "‹", from - SIDE_BY_SIDE)}
      <span class="tokens" role="status">{from + 1}–{Math.min(count, from + SIDE_BY_SIDE)} of {count} samples</span>
      {button("Next samples", "›", from + SIDE_BY_SIDE)}
    </p>
  );
}

function Column({ card, cards, opened, runKey, range }: { card: Card; cards: Card[]; opened: Opened | undefined; runKey: string; range: Range | null }) {
  const pair = pairInGroup(runKey, card, cards);
  const name = `Sample ${card.sample ?? card.name ?? card.id.slice(0, 8)}`;
  return (
    <section class="section completion" aria-label={`Sample ${card.sample ?? card.id}`}>
      <header>
        <h2><Link to={at({ sample: card.id, view: undefined })}>{name}</Link></h2>
        {pair && <a href={formatAddress(pair)} aria-label={`Compare ${name} with another`} title="Side by side with another sample, turn by turn">Compare</a>}
        <span class="space" />
        <Reward label="Reward" value={card.reward} good={goodness(card.reward, range)} />
        {card.discard && <span class="badge">{titleCase(card.discard)}</span>}
      </header>
      <div class="inside">{opened ? <Completion opened={opened} range={range} /> : <p class="none">Opening…</p>}</div>
    </section>
  );
}

function Completion({ opened, range }: { opened: Opened; range: Range | null }) {
  const [all, setAll] = useState(false);
  const { steps } = playedOf(opened.rollout);
  if (!steps.length) return <p class="none">No completion was recorded.</p>;
  const shown = all ? steps : steps.slice(0, TURNS);
  return (
    <>
      {shown.map((step, index) => (
        <div class="step" key={index}>
          <div class="said assistant"><Said message={step.turn.message} calls={step.turn.calls} run={opened.run} range={range} /></div>
          <Messages list={step.after} run={opened.run} />
        </div>
      ))}
      {opened.next != null && <p class="none">A large rollout, of which these are the first {(opened.rollout.messages ?? []).length.toLocaleString("en")} messages. Open the sample to read all.</p>}
      {shown.length < steps.length && <button type="button" onClick={() => setAll(true)}>Show all {steps.length.toLocaleString("en")} turns</button>}
    </>
  );
}
