import { signal } from "@preact/signals";
import { load, type Parameters } from "../api";

/** The rollouts that the reader has selected; `query` is the list that they are all of, if they were selected at once. */
export interface Selection { run: string; ids: ReadonlySet<string>; query: Parameters | null }

const NOTHING: Selection = { run: "", ids: new Set(), query: null };

export const selection = signal<Selection>(NOTHING);

/** The place in the list from which a shift-click selects. */
let anchor: { list: string; offset: number } | null = null;

export function clearSelection(): void {
  selection.value = NOTHING;
  anchor = null;
}

function idsIn(run: string): Set<string> {
  return new Set(selection.value.run === run ? selection.value.ids : []);
}

export function isSelected(run: string, id: string): boolean {
  return selection.value.run === run && selection.value.ids.has(id);
}

export function select(run: string, ids: string[], on: boolean): void {
  const next = idsIn(run);
  for (const id of ids) on ? next.add(id) : next.delete(id);
  selection.value = next.size ? { run, ids: next, query: null } : NOTHING;
}

/** The ids of a list in its order; `list` is the request for it. */
export function idsOf(list: Parameters): Promise<string[]> {
  return load<string[]>("ids", list);
}

/** Select or unselect one rollout; with `range` all between it and the one before. */
export async function toggle(run: string, list: Parameters, id: string, offset: number, on: boolean, range: boolean): Promise<void> {
  const key = JSON.stringify(list);
  const from = anchor?.list === key ? anchor.offset : null;
  anchor = { list: key, offset };
  if (range && from !== null && from !== offset) select(run, (await idsOf(list)).slice(Math.min(from, offset), Math.max(from, offset) + 1), on);
  else select(run, [id], on);
}

/** Select all rollouts of a list. */
export async function selectAll(run: string, list: Parameters): Promise<void> {
  const ids = await idsOf(list);
  selection.value = ids.length ? { run, ids: new Set(ids), query: list } : NOTHING;
}
