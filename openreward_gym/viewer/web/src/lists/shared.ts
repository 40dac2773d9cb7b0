import { finite } from "../numbers";
import type { Parameters } from "../api";
import type { Embedded } from "../embedded";
import { columnsOf, STEP } from "./columns";
import type { Card, Group, Listing, Runs } from "../types";

// Lists inside a shared file: the file holds them in their first order, and they are sorted here.

/** The answer to a request about lists from what is in the file; undefined for other requests. */
export function deriveList(embedded: Embedded, name: string, parameters: Parameters): unknown {
  if (parameters.filter) return undefined;
  if (name === "list") return listing(embedded, parameters);
  if (name === "ids") return listing(embedded, parameters).groups.flatMap((group) => group.cards.map((card) => card.id));
  if (name === "position") {
    const at = listing(embedded, parameters).groups.flatMap((group) => group.cards).findIndex((card) => card.id === parameters.id);
    return { position: at < 0 ? null : at };
  }
  if (name === "group_steps") return stepsOf(embedded, parameters);
  return undefined;
}

function pages(embedded: Embedded): [URLSearchParams, Listing][] {
  return Object.entries(embedded).filter(([request]) => request.startsWith("list?")).map(([request, value]) => [new URLSearchParams(request.slice(5)), value as Listing]);
}

function groupsOf(embedded: Embedded, parameters: Parameters): Group[] {
  const groups = new Map<string, Group>();
  for (const [query, page] of pages(embedded)) {
    if (query.get("run") !== parameters.run || (!parameters.every && (query.get("step") ?? "") !== String(parameters.step ?? "")) || (query.get("discarded") === "1") !== (parameters.discarded === true)) continue;
    for (const group of page.groups) {
      const key = parameters.every ? `${query.get("step") ?? ""} ${group.group}` : group.group;
      groups.set(key, { ...group, cards: [...(groups.get(key)?.cards ?? []), ...group.cards] });
    }
  }
  return [...groups.values()];
}

function listing(embedded: Embedded, parameters: Parameters): Listing {
  const sort = String(parameters.sort ?? "");
  const falling = sort.startsWith("-");
  const run = (embedded["runs?"] as Runs | undefined)?.runs.find((one) => one.key === parameters.run);
  const column = [STEP, ...columnsOf(run)].find((one) => one.sort === sort.replace(/^-/, ""));
  const value = (card: Card): number | string | null => {
    const found = column?.value(card);
    return typeof found === "string" && column?.key === "status" ? found : finite(found);
  };
  let groups = groupsOf(embedded, parameters);
  if (parameters.flat) {
    const rows = groups.flatMap((group) => group.cards.map((card) => ({ ...group, cards: [card] })));
    groups = column ? ordered(rows, (row) => value(row.cards[0]!), falling) : rows;
  } else if (column) groups = ordered(groups.map((group) => ({ ...group, cards: ordered(group.cards, value, falling) })), (group) => middle(group.cards.map(value)), falling);
  const rollouts = groups.reduce((sum, group) => sum + group.cards.length, 0);
  return { groups, next: null, offset: 0, rollouts, sizes: parameters.flat ? [] : groups.map((group) => [group.cards.length, 1]) };
}

/** Sort by value; what has none comes last in either direction. */
function ordered<T>(all: T[], value: (one: T) => number | string | null, falling: boolean): T[] {
  const known = all.filter((one) => value(one) !== null).map((one) => ({ one, by: value(one)! }));
  known.sort((a, b) => (a.by < b.by ? -1 : a.by > b.by ? 1 : 0) * (falling ? -1 : 1));
  return [...known.map(({ one }) => one), ...all.filter((one) => value(one) === null)];
}

function middle(values: (number | string | null)[]): number | string | null {
  const known = values.filter((value) => value !== null);
  if (!known.length) return null;
  if (typeof known[0] === "string") return [...(known as string[])].sort()[0]!;
  return (known as number[]).reduce((sum, value) => sum + value, 0) / known.length;
}

function stepsOf(embedded: Embedded, parameters: Parameters) {
  const found = new Map<string, { step: number | null; kept: number; discarded: number }>();
  for (const [query, page] of pages(embedded)) {
    if (query.get("run") !== parameters.run) continue;
    for (const group of page.groups) {
      if (group.group !== parameters.group) continue;
      const step = query.get("step");
      const one = found.get(step ?? "") ?? { step: step === null ? null : Number(step), kept: 0, discarded: 0 };
      one[query.get("discarded") === "1" ? "discarded" : "kept"] += group.cards.length;
      found.set(step ?? "", one);
    }
  }
  return [...found.values()].sort((a, b) => (b.step ?? -1) - (a.step ?? -1));
}
