import { attemptsAt, selectComparison, type Stored } from "./comparing/shared";
import { finite } from "./numbers";
import { durationOf } from "./reading/rollout";
import { parseQuery } from "./searching/query";
import { find, hitsIn } from "./searching/search";
import type { Parameters } from "./api";
import type { Card, Group, Histogram, Listing, Num, Opened } from "./types";

// A shared file contains lists, series and rollouts. Answers that the server would compute from them are computed here.

export type Embedded = Record<string, unknown>;

const BINS = 24;

interface Listed { run: string; step: string; discarded: boolean; groups: Group[] }

function entries<T>(embedded: Embedded, name: string): [URLSearchParams, T][] {
  return Object.entries(embedded).filter(([request]) => request.startsWith(`${name}?`)).map(([request, value]) => [new URLSearchParams(request.slice(name.length + 1)), value as T]);
}

function lists(embedded: Embedded): Listed[] {
  return entries<Listing>(embedded, "list").map(([query, { groups }]) => ({ run: query.get("run") ?? "", step: query.get("step") ?? "", discarded: query.get("discarded") === "1", groups }));
}

/** The rollouts of the file, in the order of its lists. */
export function rolloutsOf(embedded: Embedded): Opened[] {
  return entries<Opened>(embedded, "rollout").map(([, opened]) => opened);
}

/** Compute the answer to a request that is not in the file; undefined if that is impossible. */
export function derive(embedded: Embedded, name: string, parameters: Parameters): unknown {
  if (name === "group") return group(embedded, parameters);
  if (name === "task") return task(embedded, String(parameters.task ?? ""));
  if (name === "histogram" && !parameters.filter) return histogram(embedded, parameters);
  if (name === "compare" && !parameters.filter) return selectComparison(embedded["comparison?"] as Stored | undefined, String(parameters.runs ?? ""));
  if (name === "attempts") return attemptsAt(rolloutsOf(embedded), String(parameters.task ?? ""), cardsOf(embedded));
  if (name === "search" && !parameters.filter) return search(embedded, parameters);
  if (name === "hits") return hits(embedded, parameters);
  return undefined;
}

/** A function that gives a rollout's card, which is in a list of the file. */
function cardsOf(embedded: Embedded): (opened: Opened) => Card {
  const cards = new Map(lists(embedded).flatMap(({ run, groups }) => groups.flatMap((one) => one.cards.map((card) => [`${run} ${card.id}`, card] as const))));
  return (opened) => cards.get(`${opened.run} ${opened.rollout.id}`) ?? cardOf(opened);
}

function cardOf({ rollout, place }: Opened): Card {
  return {
    id: rollout.id, name: rollout.name ?? null, group: place.group, sample: rollout.sample ?? null, step: place.step, reward: rollout.reward ?? null,
    advantage: rollout.advantage ?? null, tokens: rollout.usage?.output_tokens ?? null, turns: 0, calls: 0, status: rollout.status, stop: rollout.stop_reason ?? null,
    discard: rollout.discard_reason ?? null, index: rollout.task?.index ?? null, metrics: rollout.metrics ?? {},
  };
}

function search(embedded: Embedded, { query, regex, run }: Parameters): unknown {
  const all = rolloutsOf(embedded).filter((opened) => !run || opened.run === run);
  return find(all, String(query ?? ""), regex === true, cardsOf(embedded));
}

function hits(embedded: Embedded, { query, regex, run, id }: Parameters): unknown {
  const opened = rolloutsOf(embedded).find((one) => one.run === run && one.rollout.id === id);
  const found = opened ? hitsIn(opened, parseQuery(String(query ?? ""), regex === true)) : null;
  return found ?? { count: 0, messages: 0, roles: {}, snippets: [], matches: [] };
}

function group(embedded: Embedded, parameters: Parameters): Card[] {
  const matching = lists(embedded).filter((list) => list.run === parameters.run && list.step === String(parameters.step ?? "") && list.discarded === (parameters.discarded === true));
  return matching.flatMap((list) => list.groups.filter((one) => one.group === parameters.group).flatMap((one) => one.cards));
}

function task(embedded: Embedded, name: string): Card[] {
  const started = new Map(rolloutsOf(embedded).map((opened) => [`${opened.run} ${opened.rollout.id}`, opened.rollout.started_at ?? ""]));
  const attempts = lists(embedded).flatMap(({ run, groups }) => groups.filter((one) => one.task === name).flatMap((one) => one.cards.map((card) => ({ ...card, run, started: started.get(`${run} ${card.id}`) ?? "" }))));
  return attempts.sort((a, b) => (a.started < b.started ? -1 : a.started > b.started ? 1 : (a.step ?? -1) - (b.step ?? -1) || (a.sample ?? -1) - (b.sample ?? -1)));
}

function histogram(embedded: Embedded, parameters: Parameters): Histogram {
  const [run, metric] = [String(parameters.run ?? ""), String(parameters.metric ?? "")];
  const values: number[] = [];
  for (const list of lists(embedded)) {
    if (list.run !== run || list.discarded || (!parameters.every && list.step !== String(parameters.step ?? ""))) continue;
    for (const { cards } of list.groups)
      for (const card of cards) {
        const value = finite(metricOf(embedded, run, card, metric));
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

function metricOf(embedded: Embedded, run: string, card: Card, metric: string): Num | undefined {
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
