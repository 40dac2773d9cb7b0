import { useRef } from "preact/hooks";
import type { Address } from "./address";
import { GONE, shared } from "./api";
import { keysOf, parseSide } from "./comparing/choosing";
import type { Run, Runs } from "./types";

/** The runs that an address is about; null for a page that is about all runs. */
export function runsOf({ page, run, runs, left, right }: Address): string[] | null {
  if (page === "pair") return [...new Set([parseSide(left)?.run, parseSide(right)?.run].filter((key): key is string => key !== undefined))];
  if (page === "compare") return keysOf(runs);
  return run === undefined || page === "task" ? null : [run];
}

/** What is wrong with the runs that an address is about, in words; `seen` are the runs that were there while the page was open. */
export function noticeOf(runs: Runs, seen: ReadonlyMap<string, Run>, address: Address): string | null {
  if (address.page === "runs") return null;
  const keys = runsOf(address) ?? [...seen.keys()];
  const gone = keys.filter((key) => seen.has(key) && !runs.runs.some((run) => run.key === key));
  if (gone.length && gone[0] === address.run && gone.length === 1) return GONE;
  if (gone.length) return `${gone.length === 1 ? "The run" : "The runs"} ${gone.join(", ")} ${gone.length === 1 ? "was" : "were"} deleted or moved.`;
  const folders = new Set(keys.map((key) => seen.get(key)?.folder));
  const damage = address.sample ? [] : runs.damage.filter(({ folder }) => folders.has(folder));
  if (!damage.length) return null;
  const lines = damage.reduce((sum, one) => sum + one.lines, 0);
  if (lines === 1) return `A file of ${keys.length === 1 ? "this run" : "these runs"} is damaged. ${damage[0]!.first}`;
  return `${lines.toLocaleString("en")} lines of ${keys.length === 1 ? "this run" : "these runs"} cannot be read. The first: ${damage[0]!.first}`;
}

/** The run that is open (if it is gone, what was known of it), whether it is gone, and what is wrong, in words. */
export function useNotices(runs: Runs | null, address: Address): { current: Run | undefined; gone: boolean; notice: string | null } {
  const seen = useRef(new Map<string, Run>());
  for (const run of runs?.runs ?? []) seen.current.set(run.key, run);
  const key = address.run;
  const current = runs?.runs.find((one) => one.key === key);
  const before = key === undefined || shared ? undefined : seen.current.get(key);
  const gone = runs !== null && current === undefined && before !== undefined;
  return { current: current ?? before, gone, notice: runs && !shared ? noticeOf(runs, seen.current, address) : null };
}
