import { UNIT } from "../numbers";
import type { Range, Run } from "../types";

/** The range of a metric in a run, where it is known; a reward's is 0 to 1 by default. */
export function rangeOf(run: Run | undefined, name: string): Range | null {
  return run?.ranges[name] ?? (name === "reward" ? UNIT : null);
}
