// @vitest-environment jsdom
import { expect, test } from "vitest";
import { noticeOf, runsOf } from "../src/notices";
import type { Run, Runs } from "../src/types";

const run = (key: string) => ({ key, folder: `/runs/${key}` }) as Run;
const seen = new Map(["city", "sea"].map((key) => [key, run(key)]));
const all = (keys: string[], damage: Runs["damage"] = []): Runs => ({ runs: keys.map(run), damage, progress: { done: 1, total: 1 } });

test("the runs that an address is about", () => {
  expect(runsOf({ page: "rollouts", run: "city" })).toEqual(["city"]);
  expect(runsOf({ page: "pair", left: "city/a", right: "sea%2Fx/b" })).toEqual(["city", "sea/x"]);
  expect(runsOf({ page: "compare", runs: "city,sea" })).toEqual(["city", "sea"]);
  expect(runsOf({ page: "task", task: "lab-1", run: "city" })).toBeNull();
});

test("a run that was deleted is named on every page that shows it", () => {
  const left = all(["sea"]);
  expect(noticeOf(left, seen, { page: "metrics", run: "city" })).toBe("The run was deleted or moved. What is shown was read before.");
  for (const address of [{ page: "pair", left: "city/a", right: "sea/b" }, { page: "compare", runs: "city,sea" }, { page: "task", task: "lab-1" }])
    expect(noticeOf(left, seen, address)).toBe("The run city was deleted or moved.");
  expect(noticeOf(left, seen, { page: "pair", left: "sea/a", right: "sea/b" })).toBeNull();
  expect(noticeOf(all(["city", "sea"]), seen, { page: "compare", runs: "city,sea" })).toBeNull();
});

test("a damaged file is said on the pages of its run alone", () => {
  const damaged = all(["city", "sea"], [{ folder: "/runs/city", lines: 1, first: "a.jsonl: the file became shorter" }]);
  expect(noticeOf(damaged, seen, { page: "rollouts", run: "city" })).toBe("A file of this run is damaged. a.jsonl: the file became shorter");
  expect(noticeOf(damaged, seen, { page: "compare", runs: "city,sea" })).toContain("A file of these runs is damaged.");
  expect(noticeOf(damaged, seen, { page: "rollouts", run: "sea" })).toBeNull();
  const more = all(["city"], [{ folder: "/runs/city", lines: 12, first: "a.jsonl: line 3" }]);
  expect(noticeOf(more, seen, { page: "rollouts", run: "city" })).toBe("12 lines of this run cannot be read. The first: a.jsonl: line 3");
});
