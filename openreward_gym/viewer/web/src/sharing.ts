import { finite } from "./figures";
import { durationOf } from "./rollout";
import type { Asked } from "./data";
import type { Card, Group, Histogram, Listing, Num, Opened } from "./types";

// A shared file holds lists, figures and rollouts. What a server would make of them for other questions is made here.

export type Embedded = Record<string, unknown>;

const BINS = 24;

interface Listed { run: string; step: string; discarded: boolean; groups: Group[] }

function entries<T>(embedded: Embedded, name: string): [URLSearchParams, T][] {
  return Object.entries(embedded).filter(([request]) => request.startsWith(`${name}?`)).map(([request, value]) => [new URLSearchParams(request.slice(name.length + 1)), value as T]);
}

function lists(embedded: Embedded): Listed[] {
  return entries<Listing>(embedded, "list").map(([given, { groups }]) => ({ run: given.get("run") ?? "", step: given.get("step") ?? "", discarded: given.get("discarded") === "1", groups }));
}

/** The rollouts of the file, in the order of its lists. */
export function rolloutsOf(embedded: Embedded): Opened[] {
  return entries<Opened>(embedded, "rollout").map(([, opened]) => opened);
}

/** The answer to a request that is not in the file as such; undefined where it cannot be made. */
export function workedOut(embedded: Embedded, name: string, asked: Asked): unknown {
  if (name === "group") return group(embedded, asked);
  if (name === "task") return task(embedded, String(asked.task ?? ""));
  if (name === "histogram" && !asked.filter) return histogram(embedded, asked);
  return undefined;
}

function group(embedded: Embedded, asked: Asked): Card[] {
  const of = lists(embedded).filter((list) => list.run === asked.run && list.step === String(asked.step ?? "") && list.discarded === (asked.discarded === true));
  return of.flatMap((list) => list.groups.filter((one) => one.group === asked.group).flatMap((one) => one.cards));
}

function task(embedded: Embedded, name: string): Card[] {
  const started = new Map(rolloutsOf(embedded).map((opened) => [`${opened.run} ${opened.rollout.id}`, opened.rollout.started_at ?? ""]));
  const found = lists(embedded).flatMap(({ run, groups }) => groups.filter((one) => one.task === name).flatMap((one) => one.cards.map((card) => ({ ...card, run, started: started.get(`${run} ${card.id}`) ?? "" }))));
  return found.sort((a, b) => (a.started < b.started ? -1 : a.started > b.started ? 1 : (a.step ?? -1) - (b.step ?? -1) || (a.sample ?? -1) - (b.sample ?? -1)));
}

function histogram(embedded: Embedded, asked: Asked): Histogram {
  const [run, metric] = [String(asked.run ?? ""), String(asked.metric ?? "")];
  const values: number[] = [];
  for (const list of lists(embedded)) {
    if (list.run !== run || list.discarded || (!asked.every && list.step !== String(asked.step ?? ""))) continue;
    for (const { cards } of list.groups)
      for (const card of cards) {
        const value = finite(measured(embedded, run, card, metric));
        if (value !== null) values.push(value);
      }
  }
  if (!values.length) return { run, metric, edges: [], counts: [] };
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const counts = new Array<number>(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS))]! += 1;
  return { run, metric, edges: Array.from({ length: BINS + 1 }, (_, index) => low + ((high - low) * index) / BINS), counts };
}

function measured(embedded: Embedded, run: string, card: Card, metric: string): Num | undefined {
  switch (metric) {
    case "reward": return card.reward;
    case "advantage": return card.advantage;
    case "tokens": return card.tokens;
    case "steps": return card.turns;
    case "calls": return card.calls;
    case "errors": case "duration": case "cost": break;
    default: return card.metrics[metric];
  }
  const rollout = (embedded[`rollout?id=${encodeURIComponent(card.id)}&run=${encodeURIComponent(run)}`] as Opened | undefined)?.rollout;
  if (!rollout) return null;
  if (metric === "cost") return rollout.cost_usd;
  if (metric === "duration") return durationOf(rollout.started_at, rollout.ended_at);
  return (rollout.messages ?? []).filter((message) => message.role === "tool" && message.is_error).length;
}
