import { deriveChart } from "./charts/derived";
import { attemptsAt, selectComparison, type Stored } from "./comparing/shared";
import { deriveList } from "./lists/shared";
import { parseQuery } from "./searching/query";
import { find, hitsIn } from "./searching/search";
import type { Parameters } from "./api";
import type { Card, Group, Listing, Opened } from "./types";

// A shared file contains lists, series and rollouts. Answers that the server would compute from them are computed here.

export type Embedded = Record<string, unknown>;

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
  const list = deriveList(embedded, name, parameters);
  if (list !== undefined) return list;
  if (name === "group") return group(embedded, parameters);
  if (name === "task") return task(embedded, String(parameters.task ?? ""));
  if (name === "compare" && !parameters.filter) return selectComparison(embedded["comparison?"] as Stored | undefined, String(parameters.runs ?? ""));
  if (name === "attempts") return attemptsAt(rolloutsOf(embedded), String(parameters.task ?? ""), cardsOf(embedded));
  if (name === "search" && !parameters.filter) return search(embedded, parameters);
  if (name === "hits") return hits(embedded, parameters);
  return deriveChart(embedded, name, parameters);
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
