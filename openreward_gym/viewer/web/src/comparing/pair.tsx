import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, at, go } from "../address";
import { useRequest } from "../api";
import { Link, Problem } from "../components";
import { useOpened } from "../opened";
import { UNIT } from "../numbers";
import { endOf, tabNameOf } from "../reading/words";
import { useOpenedName } from "../title";
import type { Card, Opened, Range, Runs } from "../types";
import { alignTurns, partingOf, partingText, playedOf, sameTexts, taskKeyOf, type Played, type Step, type TurnPair } from "./alignment";
import { useDifferenceMarks } from "./marks";
import { choosePair, formatSide, keysOf, parseSide, promptOf } from "./choosing";
import { Messages, Said } from "./said";
import { SideHead } from "./side";

const TURNS = 150;

/** Two rollouts side by side, with aligned turns. Without both in the address, two attempts of the task are chosen. */
export function PairPage({ runs }: { runs: Runs | null }) {
  const { left, right, task } = address.value;
  const [one, other] = [parseSide(left), parseSide(right)];
  const first = useOpened(one?.run ?? "", one?.id ?? "", false);
  const second = useOpened(other?.run ?? "", other?.id ?? "", false);
  const key = task ?? (first.opened ? taskKeyOf(first.opened.rollout) : undefined);
  const attempts = useRequest<(Card & { run: string })[]>(key ? "attempts" : null, { task: key }, false);
  useChoice(attempts.value);
  useOpenedName(first.opened && second.opened ? `${tabNameOf(first.opened.rollout)} and ${tabNameOf(second.opened.rollout)}` : null);
  const range = (opened: Opened | null) => runs?.runs.find((run) => run.key === opened?.run)?.ranges.reward ?? UNIT;
  const error = first.error ?? second.error ?? attempts.error;
  const unnamed = (left && !one) || (right && !other) || (!one && !other && !task);
  const back = address.value.runs;
  return (
    <main id="content" tabIndex={-1} class="page pairing">
      <p class="crumbs line">
        {back && back.includes(",") && <Link to={{ page: "compare", runs: back }}>‹ Compare runs</Link>}
        <span class="space" />
        {key && <Link to={{ page: "task", task: key, run: one?.run }}>Task history</Link>}
      </p>
      <h1 dir="auto">{promptOf(first.opened ?? second.opened) || "Two rollouts"}</h1>
      <Problem error={error} />
      {attempts.value && (!left || !right) && attempts.value.length < 2 && <p class="empty">There is only one attempt at this task.</p>}
      {unnamed && <p class="empty">The address must name two rollouts, each as RUN/ID, or a task.</p>}
      {!unnamed && (!left || !right) && !attempts.value && !error && <p class="empty">Opening…</p>}
      {[first, second].map(({ opened, loading }, index) => loading && (
        <p class="note" role="status" key={index}>{opened!.rollout.id}: {loading.messages.toLocaleString("en")} of {loading.of.toLocaleString("en")} messages are here, the others are coming.</p>
      ))}
      {first.opened && second.opened && !first.loading && !second.loading ? <Aligned left={first.opened} right={second.opened} attempts={attempts.value ?? []} ranges={[range(first.opened), range(second.opened)]} />
        : one && other && !error && <p class="empty">Opening…</p>}
    </main>
  );
}

/** Choose two attempts if the address names none. */
function useChoice(attempts: (Card & { run: string })[] | null): void {
  const { left, right, runs } = address.value;
  useEffect(() => {
    if (!attempts || (left && right)) return;
    const keys = keysOf(runs);
    const chosen = choosePair(attempts, keys, parseSide(left) ?? parseSide(right));
    if (chosen) go(at({ left: left ?? formatSide(chosen[0]), right: right ?? formatSide(chosen[1]) }), true);
  }, [attempts, left, right, runs]);
}

function Aligned({ left, right, attempts, ranges }: { left: Opened; right: Opened; attempts: (Card & { run: string })[]; ranges: [Range, Range] }) {
  const box = useRef<HTMLDivElement>(null);
  const [side, setSide] = useState<"left" | "right">("left");
  const [all, setAll] = useState(false);
  const [one, other] = useMemo(() => [playedOf(left.rollout), playedOf(right.rollout)] as [Played, Played], [left, right]);
  const turns = useMemo(() => alignTurns(one, other), [one, other]);
  const { first } = partingOf(turns);
  const folded = first < 0 ? turns.length : first;
  const drawn = all ? turns : turns.slice(0, folded + TURNS);
  useDifferenceMarks(box, [turns, all]);
  const step = useDifferences(box, `${left.rollout.id} ${right.rollout.id}`, first);
  return (
    <div class={`aligned show-${side}`} ref={box}>
      <div class="pair-head">
        <div class="line parting">
          <b role="status">{partingText(turns)}</b><span class="space" />
          <button type="button" aria-label="Previous difference" title="Previous difference (p)" onClick={() => step(-1)}>‹</button>
          <button type="button" aria-label="Next difference" title="Next difference (n)" onClick={() => step(1)}>›</button>
        </div>
        <div class="line switch" role="group" aria-label="Which rollout is shown">
          {(["left", "right"] as const).map((name) => <button type="button" key={name} aria-pressed={side === name} onClick={() => setSide(name)}>{name === "left" ? "Left" : "Right"}: {name === "left" ? left.run : right.run}</button>)}
        </div>
        <div class="both">
          <SideHead side="left" opened={left} attempts={attempts} range={ranges[0]} />
          <SideHead side="right" opened={right} attempts={attempts} range={ranges[1]} />
        </div>
      </div>
      <Prompts left={left} right={right} one={one} other={other} />
      {folded > 0 && <Folded turns={turns.slice(0, folded)} runs={[left.run, right.run]} ranges={ranges} />}
      {drawn.slice(folded).map((turn, index) => <TurnPairView key={turn.number} turn={turn} runs={[left.run, right.run]} ranges={ranges} parts={index === 0} />)}
      {drawn.length < turns.length && <button type="button" onClick={() => setAll(true)}>Show all {turns.length.toLocaleString("en")} turns</button>}
      <div class="both ends">{[left, right].map((opened, index) => <p class={`ending ${opened.rollout.status}`} data-side={index ? "right" : "left"} key={index}>{endOf(opened.rollout)}</p>)}</div>
    </div>
  );
}

function Prompts({ left, right, one, other }: { left: Opened; right: Opened; one: Played; other: Played }) {
  const verdict = sameTexts(one.prompt.map((section) => section.message), other.prompt.map((section) => section.message));
  if (!one.prompt.length && !other.prompt.length) return null;
  if (verdict !== "differs") return <details class="section folded"><summary>The prompts are the same{verdict === "same" ? "" : ", other than blanks"}</summary><div class="inside"><Messages list={one.prompt} run={left.run} /></div></details>;
  return (
    <section class="section turn-pair changed" aria-label="Prompts">
      <header><h2>Prompts</h2><span class="badge">other prompts</span></header>
      <div class="both"><div class="cell" data-side="left" data-message="left"><Messages list={one.prompt} run={left.run} /></div><div class="cell" data-side="right" data-message="right"><Messages list={other.prompt} run={right.run} /></div></div>
    </section>
  );
}

/** The turns before the parting. */
function Folded({ turns, runs, ranges }: { turns: TurnPair[]; runs: [string, string]; ranges: [Range, Range] }) {
  const [open, setOpen] = useState(false);
  const name = turns.length === 1 ? "Turn 1 is the same" : `Turns 1–${turns.length} are the same`;
  const notes = turns.filter((turn) => turn.words.length).map((turn) => `turn ${turn.number}: ${turn.words.join("; ")}`);
  return (
    <details class="section folded" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{name}{notes.length ? " in meaning" : ""}{notes.length > 0 && <small class="note"> {notes.slice(0, 6).join(", ")}{notes.length > 6 ? `, and ${notes.length - 6} more` : ""}</small>}</summary>
      {open && turns.map((turn) => <TurnPairView key={turn.number} turn={turn} runs={runs} ranges={ranges} parts={false} />)}
    </details>
  );
}

function TurnPairView({ turn, runs, ranges, parts }: { turn: TurnPair; runs: [string, string]; ranges: [Range, Range]; parts: boolean }) {
  const differs = turn.action === "differs" || turn.results === "differs";
  const changed = (differs || turn.action !== "same" || turn.results !== "same") && turn.left && turn.right;
  const cell = (step: Step | null, index: 0 | 1) => (
    <div class="cell" data-side={index ? "right" : "left"} data-message={index ? "right" : "left"}>
      {step ? <><Said message={step.turn.message} calls={step.turn.calls} run={runs[index]} range={ranges[index]} /><Messages list={step.after} run={runs[index]} /></> : <p class="none">The rollout has ended.</p>}
    </div>
  );
  return (
    <section class={`section turn-pair${differs ? " differing" : ""}${changed ? " changed" : ""}${parts ? " parts" : ""}`} aria-label={`Turn ${turn.number}`} tabIndex={differs ? -1 : undefined}>
      <header><h2>Turn {turn.number}</h2>{turn.words.map((word) => <span class={differs ? "badge" : "note"} key={word}>{word}</span>)}{!turn.words.length && <span class="note">the same</span>}</header>
      <div class="both">{cell(turn.left, 0)}{cell(turn.right, 1)}</div>
    </section>
  );
}

/** Scroll to the parting once, and step from difference to difference by button, `n` and `p`. */
function useDifferences(box: { current: HTMLElement | null }, pair: string, first: number): (by: number) => void {
  const last = useRef<HTMLElement | null>(null);
  const step = (by: number) => {
    const all = [...(box.current?.querySelectorAll<HTMLElement>(".turn-pair.differing") ?? [])];
    const edge = (box.current?.querySelector(".pair-head")?.getBoundingClientRect().bottom ?? 0) + 24;
    // Counted from the difference that was stepped to, while it is in sight, or else from the place on the screen.
    const known = last.current ? all.indexOf(last.current) : -1;
    const place = known >= 0 ? all[known]!.getBoundingClientRect() : null;
    const above = all.filter((node) => node.getBoundingClientRect().top <= edge).length;
    const target = place && place.bottom > edge && place.top < innerHeight ? all[known + by] : all[by > 0 ? above : above - 1] ?? (known < 0 ? all.at(by > 0 ? -1 : 0) : undefined);
    if (target) last.current = target;
    target?.scrollIntoView({ block: "start" });
    target?.focus({ preventScroll: true });
  };
  useEffect(() => {
    if (first > 0) box.current?.querySelector(".turn-pair.parts")?.scrollIntoView({ block: "start" });
  }, [pair]);
  useEffect(() => {
    const act = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (event.target as HTMLElement).closest("input, textarea, select") || document.querySelector(".help")) return;
      const by = { n: 1, j: 1, p: -1, k: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      step(by);
    };
    window.addEventListener("keydown", act, true);
    return () => window.removeEventListener("keydown", act, true);
  }, []);
  return step;
}
