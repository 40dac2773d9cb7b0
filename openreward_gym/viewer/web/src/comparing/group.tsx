import { useEffect, useState } from "preact/hooks";
import { address, at } from "../address";
import { Blocks } from "../text/blocks";
import { load } from "../api";
import { goodness, titleCase } from "../numbers";
import { Link, Problem, Reward } from "../components";
import { Divergence } from "./divergence";
import { blocksOf, isTurn } from "../reading/rollout";
import { rangeOf } from "../reading/sample";
import type { Card, Opened, Run } from "../types";

const SIDE_BY_SIDE = 16;

/** The samples of a group below their common prompt: side by side, or as the turns they share and the point where they diverge. */
export function GroupView({ run, runKey, cards, error }: { run: Run | undefined; runKey: string; cards: Card[] | null; error: Error | null }) {
  const [opened, setOpened] = useState<Record<string, Opened>>({});
  const shown = (cards ?? []).slice(0, SIDE_BY_SIDE);
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
  if (!cards) return error ? <Problem error={error} /> : <p class="empty">Opening…</p>;
  const first = shown.map((card) => opened[card.id]).find(Boolean);
  const prompt = first ? (first.rollout.messages ?? []).slice(0, firstTurn(first)) : [];
  const divergence = address.value.view === "divergence";
  return (
    <article class="compare" aria-label="Group">
      <header class="line">
        <h1 dir="auto">{address.value.group}</h1>
        <span class="tokens">{cards.length} samples</span><span class="space" />
        <Link to={at({ view: divergence ? undefined : "divergence" })} class="button">{divergence ? "Side by side" : "Divergence"}</Link>
      </header>
      {prompt.map((message, index) => (
        <section class={`section ${message.role}`} key={index} aria-label={message.role === "system" ? "System prompt" : "Prompt"}>
          <header><h2>{message.role === "system" ? "System" : "Prompt"}</h2></header>
          <div class="inside"><Blocks blocks={message.blocks ?? []} run={runKey} role={message.role} /></div>
        </section>
      ))}
      {divergence ? <Divergence run={run} cards={shown} opened={opened} /> : (
        <div class="side-by-side">
          {shown.map((card) => (
            <section class="section completion" key={card.id} aria-label={`Sample ${card.sample ?? card.id}`}>
              <header>
                <h2><Link to={at({ sample: card.id, view: undefined })}>Sample {card.sample ?? card.name ?? card.id.slice(0, 8)}</Link></h2>
                <span class="space" />
                <Reward label="Reward" value={card.reward} good={goodness(card.reward, rangeOf(run, "reward"))} />
                {card.discard && <span class="badge">{titleCase(card.discard)}</span>}
              </header>
              <div class="inside">{opened[card.id] ? <Completion opened={opened[card.id]!} /> : <p class="none">Opening…</p>}</div>
            </section>
          ))}
        </div>
      )}
      {cards.length > shown.length && <p class="none">The first {SIDE_BY_SIDE} of {cards.length} samples.</p>}
    </article>
  );
}

function firstTurn(opened: Opened): number {
  const index = (opened.rollout.messages ?? []).findIndex(isTurn);
  return index < 0 ? (opened.rollout.messages ?? []).length : index;
}

function Completion({ opened }: { opened: Opened }) {
  const messages = (opened.rollout.messages ?? []).slice(firstTurn(opened));
  if (!messages.length) return <p class="none">No completion was recorded.</p>;
  return (
    <>
      {messages.slice(0, 40).map((message, index) => (
        <div class={`said ${message.role}${message.is_error ? " error" : ""}`} key={index}>
          {message.role !== "assistant" && <b class="kind">{message.is_error ? "error" : message.role}</b>}
          <Blocks blocks={blocksOf(message)} run={opened.run} role={message.role} />
        </div>
      ))}
      {messages.length > 40 && <p class="none">{messages.length - 40} more messages.</p>}
    </>
  );
}
