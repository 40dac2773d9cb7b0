import type { Comparison, TaskRow } from "./runs";

// Which tasks of a comparison are shown, and in which order. The base is the first run, `second` the number of the other one.

export type Show = "all" | "better" | "worse" | "differ" | "alone";
/** A column; with a minus before it in an address, the largest first. */
export type Order = "task" | "difference" | "size" | "spread" | `run${number}`;

export function differenceOfRow(row: TaskRow, second: number): number | null {
  const [first, other] = [row.rewards[0] ?? null, row.rewards[second] ?? null];
  return first === null || other === null ? null : other - first;
}

/** The tasks to show; `better` and `worse` are those of the other run. */
export function choiceOf(comparison: Comparison, show: Show, second: number, contains: string): TaskRow[] {
  const rows = show === "alone" ? comparison.alone : comparison.tasks;
  const text = contains.trim().toLowerCase();
  return rows.filter((row) => {
    if (text && !`${row.prompt} ${row.task} ${row.environment} ${row.index ?? ""}`.toLowerCase().includes(text)) return false;
    const difference = differenceOfRow(row, second);
    if (show === "better") return difference !== null && difference > 0;
    if (show === "worse") return difference !== null && difference < 0;
    return show !== "differ" || row.spread > 0;
  });
}

export function sortTasks(rows: TaskRow[], order: string, second: number): TaskRow[] {
  const descending = order.startsWith("-");
  const column = order.replace(/^-/, "") as Order;
  const value = (row: TaskRow): number | null => {
    if (column === "spread") return row.spread;
    const difference = differenceOfRow(row, second);
    if (column === "difference") return difference;
    if (column === "size") return difference === null ? null : Math.abs(difference);
    return row.rewards[Number(column.slice(3))] ?? null;
  };
  const byTask = (a: TaskRow, b: TaskRow) => (a.environment < b.environment ? -1 : a.environment > b.environment ? 1 : (a.index ?? Infinity) - (b.index ?? Infinity) || (a.task < b.task ? -1 : 1));
  if (column === "task") return [...rows].sort((a, b) => (descending ? -byTask(a, b) : byTask(a, b)));
  return rows.map((row) => ({ row, value: value(row) })).sort((a, b) => {
    // A task without a value is last in both orders.
    if (a.value === null || b.value === null) return Number(a.value === null) - Number(b.value === null);
    return descending ? b.value - a.value : a.value - b.value;
  }).map(({ row }) => row);
}
