import { useRef, useState } from "preact/hooks";
import { seconds } from "../numbers";
import { jumpToSection } from "./moving";
import type { Kind, Span, Timeline } from "./timeline";

const NAMES: Record<Kind, string> = { reset: "Reset", policy: "Policy", environment: "Environment", gap: "Between" };
const KINDS = ["reset", "policy", "environment", "gap"] as const;

function wordsOf({ kind, seconds: value, turn }: Span): string {
  if (kind === "reset") return `Reset: ${seconds(value)}`;
  return `Turn ${turn}, ${kind === "gap" ? "before it, neither policy nor environment" : NAMES[kind].toLowerCase()}: ${seconds(value)}`;
}

/** Where the time of the episode went: totals, a bar with the stretches in their order, and a table of the turns. */
export function Timing({ timeline }: { timeline: Timeline }) {
  const { spans, totals, whole } = timeline;
  const [now, setNow] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const starts: number[] = [];
  spans.reduce((sum, span) => (starts.push(sum), sum + span.seconds), 0);
  const at = (event: MouseEvent) => {
    const { left, width } = box.current!.getBoundingClientRect();
    const moment = ((event.clientX - left) / width) * whole;
    return Math.max(0, starts.findLastIndex((start) => start <= moment));
  };
  const keys: Record<string, number> = { ArrowRight: (now ?? -1) + 1, ArrowUp: (now ?? -1) + 1, ArrowLeft: (now ?? 1) - 1, ArrowDown: (now ?? 1) - 1, Home: 0, End: spans.length - 1 };
  const go = (number: number) => { const span = spans[number]; if (span) jumpToSection(span.section); };
  return (
    <section class="timing" aria-label="Time of the episode">
      <p class="line legend">
        <b>Time</b>
        {KINDS.map((kind) => totals[kind] !== null && <span key={kind}><i class={`key ${kind}`} aria-hidden="true" />{NAMES[kind]} <b>{seconds(totals[kind])}</b></span>)}
        <span class="told" aria-hidden="true">{now !== null && spans[now] ? wordsOf(spans[now]!) : ""}</span>
      </p>
      {spans.length > 0 && whole > 0 && (
        <div
          ref={box} class="strip" role="slider" tabIndex={0} aria-label="Stretches of time" aria-valuemin={1} aria-valuemax={spans.length} aria-valuenow={(now ?? 0) + 1}
          aria-valuetext={wordsOf(spans[now ?? 0] ?? spans[0]!)} onMouseMove={(event) => setNow(at(event))} onMouseLeave={() => setNow(null)} onClick={(event) => go(at(event))} onBlur={() => setNow(null)} onFocus={() => setNow((before) => before ?? 0)}
          onKeyDown={(event) => {
            const to = keys[event.key];
            if (event.key === "Enter") go(now ?? 0);
            else if (to === undefined) return;
            else setNow(Math.max(0, Math.min(spans.length - 1, to)));
            event.preventDefault();
          }}
        >
          <svg class={spans.length < 80 ? "few" : undefined} viewBox={`0 0 ${whole} 10`} preserveAspectRatio="none" aria-hidden="true">
            {spans.map((span, index) => <rect key={index} class={`${span.kind}${index === now ? " now" : ""}`} x={starts[index]} y={0} width={span.seconds} height={10} />)}
          </svg>
        </div>
      )}
      {spans.some((span) => span.turn > 0) && <TimeTable spans={spans} />}
    </section>
  );
}

function TimeTable({ spans }: { spans: Span[] }) {
  const [open, setOpen] = useState(false);
  const turns = [...new Map(spans.filter((span) => span.turn > 0).map((span) => [span.turn, span.section]))];
  const value = (turn: number, kind: Kind) => seconds(spans.find((span) => span.turn === turn && span.kind === kind)?.seconds ?? null);
  return (
    <details class="more" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Time by turn</summary>
      {open && (
        <table>
          <thead><tr><th scope="col">Turn</th><th scope="col" class="num">Between</th><th scope="col" class="num">Policy</th><th scope="col" class="num">Environment</th></tr></thead>
          <tbody>{turns.map(([turn, section]) => (
            <tr key={turn}><th scope="row"><button type="button" class="quiet" onClick={() => jumpToSection(section)}>Turn {turn}</button></th><td class="num">{value(turn, "gap")}</td><td class="num">{value(turn, "policy")}</td><td class="num">{value(turn, "environment")}</td></tr>
          ))}</tbody>
        </table>
      )}
    </details>
  );
}
