import { deriveChart } from "./charts/derived";
import { deriveList } from "./lists/shared";
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
  return deriveChart(embedded, name, parameters);
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
