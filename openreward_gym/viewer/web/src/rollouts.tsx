import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { address, at, formatAddress, go } from "./address";
import { Blocks } from "./blocks";
import { Sidecharts } from "./metrics";
import { load, useRequest } from "./api";
import { goodness, shade, titleCase } from "./numbers";
import { Link, Problem, Reward } from "./components";
import { actionOf, argumentsOf, blocksOf, commonTurns, isTurn, sections } from "./rollout";
import { rangeOf, Sample } from "./sample";
import { Sidebar, stepOf } from "./sidebar";
import type { Card, Listing, Opened, Run, Step } from "./types";

/** The pages `Rollouts` and `Discarded rollouts`: samples on the left, one of them in the middle, metrics on the right. */
export function Rollouts({ run, discarded }: { run: Run | undefined; discarded: boolean }) {
  const { run: runKey = "", filter = "", sample } = address.value;
  const steps = useRequest<Step[]>("steps", { run: runKey, discarded, filter });
  const step = stepOf(steps.value, address.value.step);
  const group = address.value.group;
  const cards = useRequest<Card[]>(group !== undefined && step !== undefined ? "group" : null, { run: runKey, group, step: step ?? "", discarded });
  const place = useRef<HTMLElement>(null);
  useScroll(place, formatAddress({ page: address.value.page, run: runKey, step: String(step), group, sample, view: address.value.view }));
  usePlace(runKey, sample);
  const [side, setSide] = useState<"list" | "main" | "charts">(sample || group ? "main" : "list");
  useEffect(() => { if (sample || group) setSide("main"); }, [sample, group]);
  const siblings = (cards.value ?? []).slice();
  return (
    <div class={`three show-${side}`}>
      <nav class="sides" aria-label="What is shown">
        {([["list", "Samples"], ["main", "Sample"], ["charts", "Metrics"]] as const).map(([name, label]) => (
          <button type="button" key={name} aria-pressed={side === name} onClick={() => setSide(name)}>{label}</button>
        ))}
      </nav>
      <Sidebar run={run} runKey={runKey} discarded={discarded} steps={steps.value} step={step} stepsError={steps.error} />
      <main id="content" class="middle" ref={place} tabIndex={-1}>
        {sample ? <Sample run={run} id={sample} siblings={siblings} />
          : group !== undefined ? <GroupView run={run} runKey={runKey} cards={cards.value} error={cards.error} />
          : <Overview run={run} runKey={runKey} step={step} discarded={discarded} />}
      </main>
      <Sidecharts run={run} step={step ?? null} />
    </div>
  );
}

const CARDS = 60;

/** The groups of a step as cards: the beginning of the prompt and the rewards of the samples. */
function Overview({ run, runKey, step, discarded }: { run: Run | undefined; runKey: string; step: number | null | undefined; discarded: boolean }) {
  const parameters = { run: runKey, step: step ?? "", discarded, filter: address.value.filter ?? "" };
  const { value } = useRequest<Listing>(step === undefined ? null : "list", parameters, true);
  const range = rangeOf(run, "reward");
  return (
    <>
      <h1>{discarded ? "Discarded rollouts" : "Rollouts"}{typeof step === "number" && <small class="note"> step {step}</small>}</h1>
      <p class="note">Select a group to compare its samples, or a sample to read it. <kbd>?</kbd> shows the keys.</p>
      <div class="cards">
        {value?.groups.slice(0, CARDS).map((group) => {
          const rewards = group.cards.map((card) => card.reward).filter((reward): reward is number => typeof reward === "number");
          const mean = rewards.length ? rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length : null;
          return (
            <Link key={group.group} to={at({ group: group.group, sample: undefined, view: undefined, message: undefined })} class="card">
              <span class="prompt" dir="auto">{group.prompt || "(no prompt)"}</span>
              <span class="dots" aria-hidden="true">{group.cards.slice(0, 32).map((card) => <i key={card.id} class={shade(goodness(card.reward, range))} />)}</span>
              <span class="line"><span class="note">{group.cards.length} {group.cards.length === 1 ? "sample" : "samples"}</span><span class="space" /><Reward label="Mean" value={mean} good={goodness(mean, range)} /></span>
            </Link>
          );
        })}
      </div>
      {value && value.groups.length > CARDS && <p class="note">The first {CARDS} of {value.groups.length} groups; all are in the list of samples.</p>}
    </>
  );
}

const scrolled = new Map<string, number>();

/** Restore the scroll position when the reader goes back. */
function useScroll(box: { current: HTMLElement | null }, key: string): void {
  useLayoutEffect(() => {
    const node = box.current;
    if (!node) return;
    const position = scrolled.get(key) ?? 0;
    node.scrollTop = position;
    // The content is fetched later: the position is restored once the content is tall enough.
    const seen = new ResizeObserver(() => {
      if (position && node.scrollHeight >= position + node.clientHeight) {
        node.scrollTop = position;
        seen.disconnect();
      }
    });
    if (position && node.scrollTop < position && node.firstElementChild) seen.observe(node.firstElementChild);
    const keep = () => scrolled.set(key, node.scrollTop);
    const timer = window.setTimeout(() => node.addEventListener("scroll", keep, { passive: true }), 100);
    return () => {
      window.clearTimeout(timer);
      seen.disconnect();
      node.removeEventListener("scroll", keep);
    };
  }, [key]);
}

/** Add step and group to an address that has a sample only, as the recorder prints it. */
function usePlace(run: string, sample: string | undefined): void {
  const { group, step } = address.value;
  const missing = sample !== undefined && (group === undefined || step === undefined);
  const { value } = useRequest<Opened>(missing ? "rollout" : null, { run, id: sample }, (opened) => !opened);
  useEffect(() => {
    if (!value || !missing) return;
    go(at({ page: value.place.discarded ? "discarded" : "rollouts", step: value.place.step === null ? "none" : String(value.place.step), group: value.place.group }), true);
  }, [value, missing]);
}

const SIDE_BY_SIDE = 16;

/** The samples of a group below their common prompt: side by side, or as the turns they share and the point where they diverge. */
function GroupView({ run, runKey, cards, error }: { run: Run | undefined; runKey: string; cards: Card[] | null; error: Error | null }) {
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
          <div class="inside"><Blocks blocks={message.blocks ?? []} run={runKey} /></div>
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
          <Blocks blocks={blocksOf(message).map((block) => (block.type === "tool_call" ? { type: "text", text: "`" + (block.name ?? "") + "` " + "`" + (argumentsOf(block) || "{}").slice(0, 2000).replaceAll("`", "'") + "`" } : block))} run={opened.run} />
        </div>
      ))}
      {messages.length > 40 && <p class="none">{messages.length - 40} more messages.</p>}
    </>
  );
}

/** The turns that the samples share, folded, then the first action in which they differ and the reward of each branch. */
function Divergence({ run, cards, opened }: { run: Run | undefined; cards: Card[]; opened: Record<string, Opened> }) {
  const ready = cards.filter((card) => opened[card.id]);
  if (ready.length < cards.length) return <p class="empty">Opening {cards.length} samples…</p>;
  const turns = ready.map((card) => sections(opened[card.id]!.rollout).filter((section) => section.kind === "turn"));
  const common = commonTurns(turns.map((list) => list.map((section) => actionOf(section.message))));
  const branches = new Map<string, { action: string; cards: Card[] }>();
  ready.forEach((card, index) => {
    const section = turns[index]![common];
    const action = section ? actionOf(section.message) : "(no further turn)";
    const branch = branches.get(action) ?? { action, cards: [] };
    branch.cards.push(card);
    branches.set(action, branch);
  });
  const mean = (list: Card[]) => {
    const values = list.map((card) => card.reward).filter((value): value is number => typeof value === "number");
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  };
  const range = rangeOf(run, "reward");
  return (
    <section class="divergence" aria-label="Divergence">
      <p class="note">{common === 0 ? "The samples differ from the first action on." : `The first ${common === 1 ? "turn is" : `${common} turns are`} the same in all samples.`}</p>
      {common > 0 && (
        <details><summary>Shared turns</summary>{turns[0]!.slice(0, common).map((section) => <div class="section inside" key={section.number}><Blocks blocks={blocksOf(section.message).filter((block) => block.type !== "tool_call")} run={address.value.run ?? ""} /><pre class="raw">{actionOf(section.message)}</pre></div>)}</details>
      )}
      <ol class="branches">
        {[...branches.values()].sort((a, b) => (mean(b.cards) ?? -Infinity) - (mean(a.cards) ?? -Infinity)).map((branch) => (
          <li key={branch.action} class="section">
            <header><h2>Turn {common + 1}, {branch.cards.length} of {ready.length}</h2><span class="space" /><Reward label="Mean reward" value={mean(branch.cards)} good={goodness(mean(branch.cards), range)} /></header>
            <div class="inside">
              <pre class="raw differs" dir="auto">{branch.action.slice(0, 3000) || "(an empty message)"}</pre>
              <p class="line">{branch.cards.map((card) => <Link key={card.id} to={at({ sample: card.id, view: undefined })} class="button">Sample {card.sample ?? card.id.slice(0, 8)} <Reward label="" value={card.reward} good={goodness(card.reward, range)} /></Link>)}</p>
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}
