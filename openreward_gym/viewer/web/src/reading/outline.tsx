import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address } from "../address";
import { Check, Menu } from "../components";
import { finite, goodness, shade, shown } from "../numbers";
import { currentSection, jumpToSection, move, sectionAimedAt } from "./moving";
import { blockText, type Section } from "./rollout";
import { oneLine } from "./words";
import type { Num, Range } from "../types";

/** A turn as the outline and the map show it. */
export interface Stop { index: number; turn: number; about: string; errors: number; reward: Num }

/** The turns of a rollout: the names of the tools that were called, or how the text begins. */
export function stopsOf(list: Section[]): Stop[] {
  return list.flatMap((section, index) => {
    if (section.kind !== "turn") return [];
    const errors = section.calls.filter((call) => call.result?.is_error).length + (section.message.is_error ? 1 : 0);
    return [{ index, turn: section.turn, about: aboutOf(section), errors, reward: section.earned }];
  });
}

function aboutOf({ message, calls }: Section): string {
  const counts = new Map<string, number>();
  for (const { block } of calls) counts.set(block.name ?? "", (counts.get(block.name ?? "") ?? 0) + 1);
  const tools = [...counts].map(([name, count]) => (count > 1 ? `${name} ×${count}` : name)).join(", ");
  const block = (message.blocks ?? []).find((one) => one.type === "text" && one.text?.trim()) ?? (message.blocks ?? []).find((one) => one.type === "reasoning");
  const words = block ? oneLine(blockText(block).replace(/<\/?think>|[*`#]+/g, " "), 70) : "";
  return oneLine([tools, words].filter(Boolean).join(" · "), 110) || "empty";
}

function wordsOf(stop: Stop): string {
  return `Turn ${stop.turn}: ${stop.about}${stop.errors ? `, ${stop.errors === 1 ? "an error" : `${stop.errors} errors`}` : ""}${stop.reward !== null ? `, reward ${shown(stop.reward)}` : ""}`;
}

/** The number of errors, as a button that goes to the next one. */
export function Errors({ stops }: { stops: Stop[] }) {
  const errors = stops.reduce((sum, stop) => sum + stop.errors, 0);
  if (!errors) return null;
  return <button type="button" class="bad" title="Next error (e); the one before: E" onClick={() => move("error", 1, true)}>{errors.toLocaleString("en")} {errors === 1 ? "error" : "errors"} <span aria-hidden="true">↓</span><span class="unseen">, next error</span></button>;
}

/** The turns as a list that opens below its button. */
export function Outline({ stops, range }: { stops: Stop[]; range: Range | null }) {
  const [only, setOnly] = useState(false);
  const list = useRef<HTMLOListElement>(null);
  const marked = only ? stops.filter((stop) => stop.errors || stop.reward !== null) : stops;
  const some = stops.some((stop) => stop.errors || stop.reward !== null);
  useEffect(() => currentSection.subscribe((now) => {
    for (const node of list.current?.querySelectorAll("[aria-current]") ?? []) node.removeAttribute("aria-current");
    const stop = stops.findLast((one) => one.index <= now);
    list.current?.querySelector(`[data-index="${stop?.index}"]`)?.setAttribute("aria-current", "true");
  }), [stops, marked.length]);
  if (!stops.length) return null;
  return (
    <Menu label={<>Outline <small>{stops.length} {stops.length === 1 ? "turn" : "turns"}</small></>}>
      {some && <Check label="Only turns with errors or rewards" on={only} change={setOnly} />}
      <ol class="outline" ref={list}>
        {marked.map((stop) => (
          <li key={stop.index}>
            <button type="button" data-index={stop.index} class={stop.errors ? "error" : ""} onClick={(event) => {
              (event.currentTarget.closest("details") as HTMLDetailsElement).open = false;
              jumpToSection(stop.index);
            }}>
              <span class="turn">{stop.turn}</span>
              <span class="about" dir="auto">{stop.about}</span>
              {stop.errors > 0 && <span class="bad">{stop.errors === 1 ? "error" : `${stop.errors} errors`}</span>}
              {stop.reward !== null && <span class={`reward ${shade(goodness(stop.reward, range))}`}>{shown(stop.reward)}</span>}
            </button>
          </li>
        ))}
      </ol>
    </Menu>
  );
}

const HEIGHT = 12;
const WIDEST = 28;

/** The turns as a strip, one mark each: errors red, rewards in their colour, the turn that is being read framed. A slider by keyboard. */
export function TurnMap({ stops, range }: { stops: Stop[]; range: Range | null }) {
  const now = currentSection.value;
  const place = stops.findLastIndex((stop) => stop.index <= now);
  const [hover, setHover] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const marks = useMemo(() => stops.map((stop, number) => (
    <g key={stop.index}>
      <rect class={`tick${stop.errors ? " error" : ""}`} x={number + 0.08} y={3} width={0.84} height={HEIGHT - 6} />
      {finite(stop.reward) !== null && <rect class={`earned ${shade(goodness(stop.reward, range))}`} x={number + 0.08} y={0} width={0.84} height={HEIGHT} />}
    </g>
  )), [stops, range]);
  if (stops.length < 2) return null;
  const at = (event: MouseEvent) => {
    const { left, width } = box.current!.getBoundingClientRect();
    return Math.max(0, Math.min(stops.length - 1, Math.floor(((event.clientX - left) / width) * stops.length)));
  };
  const go = (number: number) => jumpToSection(stops[Math.max(0, Math.min(stops.length - 1, number))]!.index);
  const byKey = (key: string): number | undefined => {
    const from = stops.findLastIndex((stop) => stop.index <= sectionAimedAt());
    return { ArrowRight: from + 1, ArrowUp: from + 1, ArrowLeft: from - 1, ArrowDown: from - 1, Home: 0, End: stops.length - 1, PageUp: from + 10, PageDown: from - 10 }[key];
  };
  const told = stops[hover ?? -1];
  return (
    <div class="turnmap">
      <div
        ref={box} class="strip" style={{ maxWidth: `${stops.length * WIDEST}px` }} role="slider" tabIndex={0} aria-label="Turns" aria-valuemin={1} aria-valuemax={stops.length} aria-valuenow={Math.max(1, place + 1)}
        aria-valuetext={place >= 0 ? wordsOf(stops[place]!) : "Before turn 1"}
        onClick={(event) => go(at(event))} onMouseMove={(event) => setHover(at(event))} onMouseLeave={() => setHover(null)}
        onKeyDown={(event) => {
          const to = byKey(event.key);
          if (to === undefined) return;
          event.preventDefault();
          go(to);
          event.currentTarget.focus({ preventScroll: true });
        }}
      >
        <svg viewBox={`0 0 ${stops.length} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {marks}
          {place >= 0 && <rect class="here" x={place} y={0} width={1} height={HEIGHT} />}
        </svg>
      </div>
      <span class="told" aria-hidden="true">{place >= 0 ? `${place + 1}/${stops.length}` : `${stops.length} turns`}</span>
      {hover !== null && told && <span class="tip" aria-hidden="true" dir="auto">{wordsOf(told)}</span>}
    </div>
  );
}

/** The message of the turn that is being read, for a link to it. */
export function messageHere(list: Section[]): string | undefined {
  const section = list[currentSection.value];
  return section && address.value.sample ? String(section.number) : undefined;
}
