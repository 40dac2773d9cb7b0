import { finite } from "../numbers";
import { durationOf, type Section } from "./rollout";
import type { Rollout } from "../types";

export type Kind = "reset" | "policy" | "environment" | "gap";

/** A stretch of time of an episode; `section` is the section that it belongs to. */
export interface Span { kind: Kind; seconds: number; turn: number; section: number }

export interface Timeline { spans: Span[]; totals: Record<Kind, number | null>; whole: number }

/** The time of a turn: of the model, of the environment, and before the turn without either; null where it was not recorded. */
interface TurnTime { turn: number; section: number; gap: number | null; policy: number | null; environment: number | null }

function instant(text: string | null | undefined): number | null {
  const value = text ? Date.parse(text) / 1000 : NaN;
  return Number.isFinite(value) ? value : null;
}

/** The seconds that the intervals cover together. */
export function covered(intervals: [number, number][]): number {
  let [sum, end] = [0, -Infinity];
  for (const [from, to] of [...intervals].sort((a, b) => a[0] - b[0])) {
    if (to > end) {
      sum += to - Math.max(from, end);
      end = to;
    }
  }
  return sum;
}

function turnTimes(list: Section[], begun: number | null): TurnTime[] {
  let last = begun;
  return list.flatMap((section, index) => {
    if (section.kind !== "turn") {
      last = instant(section.message.ended_at) ?? last;
      return [];
    }
    const { started_at, ended_at, sampled } = section.message;
    const [start, end] = [instant(started_at), instant(ended_at)];
    const measured = finite(sampled?.duration_s) ?? durationOf(started_at, ended_at);
    const since = end !== null && last !== null && end >= last ? end - last : null;
    const policy = measured ?? since;
    const gap = start !== null && last !== null ? start - last : since !== null && policy !== null ? since - policy : null;
    const results = section.calls.map(({ result }) => [instant(result?.started_at), instant(result?.ended_at)]).filter((pair): pair is [number, number] => pair[0] !== null && pair[1] !== null && pair[1] >= pair[0]);
    last = Math.max(end ?? -Infinity, ...results.map(([, to]) => to), last ?? -Infinity);
    if (last === -Infinity) last = null;
    return [{ turn: section.turn, section: index, gap: gap !== null && gap > 0.01 ? gap : null, policy: policy !== null && policy >= 0 ? policy : null, environment: results.length ? covered(results) : null }];
  });
}

/** Where the time of an episode went; null where nothing was recorded. Recorded totals count, the sums of the turns stand in for them. */
export function timelineOf(rollout: Rollout, list: Section[]): Timeline | null {
  const timing = rollout.timing ?? {};
  const reset = finite(timing.reset_s);
  const begun = instant(rollout.started_at);
  const firstTurn = list.find((section) => section.kind === "turn");
  const times = turnTimes(list, begun !== null ? begun + (reset ?? 0) : null);
  const spans: Span[] = reset !== null ? [{ kind: "reset", seconds: reset, turn: 0, section: firstTurn ? list.indexOf(firstTurn) : 0 }] : [];
  for (const time of times)
    for (const kind of ["gap", "policy", "environment"] as const) {
      const seconds = time[kind];
      if (seconds !== null && seconds > 0) spans.push({ kind, seconds, turn: time.turn, section: time.section });
    }
  const sum = (kind: Kind) => {
    const own = spans.filter((span) => span.kind === kind);
    return own.length ? own.reduce((total, span) => total + span.seconds, 0) : null;
  };
  const totals = { reset, policy: finite(timing.policy_s) ?? sum("policy"), environment: finite(timing.environment_s) ?? sum("environment"), gap: sum("gap") };
  const whole = spans.reduce((total, span) => total + span.seconds, 0);
  return Object.values(totals).some((total) => total !== null) ? { spans, totals, whole } : null;
}
