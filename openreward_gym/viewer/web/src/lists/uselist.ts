import { useMemo, useRef, useState } from "preact/hooks";
import { type ApiError, type Parameters, useRequest } from "../api";
import { flat, grouped, type Layout } from "./layout";
import type { Card, Group, Listing } from "../types";

/** The number of rollouts that are fetched around what is in view. */
export const WINDOW = 400;

export interface Item { card: Card; group: Group }

export interface List { value: Listing | null; error: ApiError | null; layout: Layout; item: (offset: number) => Item | undefined; items: Item[]; see: (first: number, last: number) => void }

/** A list of rollouts, of which the part around the rows in view is fetched and followed; null parameters fetch nothing. */
export function useList(parameters: Parameters | null): List {
  const [offset, setOffset] = useState(0);
  const order = JSON.stringify(parameters);
  const before = useRef(order);
  if (before.current !== order) {
    before.current = order;
    if (offset) setOffset(0);
  }
  const answer = useRequest<Listing>(parameters ? "list" : null, { ...parameters, offset: offset || "", limit: WINDOW }, true);
  // What was fetched for the same list stays until the next answer, so that scrolling and sorting do not empty the page.
  const { sort: _, flat: isFlat, ...rest } = parameters ?? {};
  const place = JSON.stringify(rest);
  const held = useRef<{ place: string; value: Listing; flat: boolean } | null>(null);
  if (answer.value) held.current = { place, value: answer.value, flat: !!isFlat };
  const now = held.current?.place === place ? held.current : null;
  const value = parameters ? now?.value ?? null : null;
  const items = useMemo(() => value?.groups.flatMap((group) => group.cards.map((card) => ({ card, group }))) ?? [], [value]);
  const layout = useMemo(() => (now?.flat ? flat(value?.rollouts ?? 0) : grouped(value?.sizes ?? [])), [value, now?.flat]);
  const see = (first: number, last: number) => {
    if (!value || !layout.rows || items.length === value.rollouts) return;
    const [from, to] = [layout.at(first).offset, layout.at(Math.min(last, layout.rows - 1)).offset];
    if (from < offset || to >= offset + WINDOW) setOffset(Math.max(0, Math.floor(((from + to - WINDOW) / 2) / 50) * 50));
  };
  return { value, error: answer.error, layout, items, item: (wanted) => items[wanted - (value?.offset ?? 0)], see };
}
