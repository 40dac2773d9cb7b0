import { taskKeyOf } from "./alignment";
import type { Compared, Comparison, Differences, TaskRow } from "./runs";
import type { Card, Opened } from "../types";

// Comparisons in a shared file: the statistics are in it, made by the same functions as on the server; here they are selected.

/** What the file has of comparisons, see `for_a_file` in answers/comparing.py. */
export interface Stored {
  keys: string[]; figures: Record<string, Omit<Compared, "key" | "against_first">>;
  pairs: Record<string, Record<string, Differences>>; together: Record<string, Record<string, Differences>>;
  tasks: TaskRow[]; alone: TaskRow[]; common: number; only: number;
}

/** The comparison of these runs, of which the first is the base; undefined if the file does not have them. */
export function selectComparison(stored: Stored | undefined, runs: string): Comparison | undefined {
  const keys = [...new Set(runs.split(",").filter(Boolean).map(decodeURIComponent))];
  const first = keys[0];
  if (!stored || first === undefined || keys.length < 2 || keys.some((key) => !(key in stored.figures))) return undefined;
  // The p-values of several runs are corrected for all runs of the file, which is right for fewer as well.
  const against = keys.length === 2 ? stored.pairs[first]! : stored.together[first]!;
  const columns = keys.map((key) => stored.keys.indexOf(key));
  const rows = [...stored.tasks, ...stored.alone].map((row) => rowOf(row, columns)).filter((row) => row.counts.some(Boolean));
  const tasks = rows.filter((row) => row.counts.filter(Boolean).length > 1).sort((a, b) => b.spread - a.spread);
  const alone = rows.filter((row) => row.counts.filter(Boolean).length === 1);
  return {
    runs: keys.map((key, index) => ({ key, ...stored.figures[key]!, against_first: index ? against[key]! : null })),
    tasks, alone, common: tasks.length, only: alone.length,
  };
}

function rowOf(row: TaskRow, columns: number[]): TaskRow {
  const rewards = columns.map((column) => row.rewards[column] ?? null);
  const known = rewards.filter((reward): reward is number => reward !== null);
  return { ...row, rewards, counts: columns.map((column) => row.counts[column] ?? 0), spread: known.length ? Math.max(...known) - Math.min(...known) : 0 };
}

/** The cards of all attempts at a task. */
export function attemptsAt(all: Opened[], task: string, cardOf: (opened: Opened) => Card): Card[] {
  return all.filter((opened) => taskKeyOf(opened.rollout) === task).map((opened) => ({ ...cardOf(opened), run: opened.run }));
}
