// @vitest-environment jsdom
import { expect, test } from "vitest";
import { derive, type Embedded } from "../src/embedded";
import { flat, grouped } from "../src/lists/layout";
import { chosenStep, nearest, noStep } from "../src/lists/steps";
import type { Card, Listing, Step } from "../src/types";

test("the rows of groups of any size lead to their rollouts and back", () => {
  const sizes: [number, number][] = [[3, 2], [1, 1], [2, 3]];
  const layout = grouped(sizes);
  expect([layout.rows, layout.groups]).toEqual([8 + 2 + 9, 6]);
  const rows = Array.from({ length: layout.rows }, (_, row) => layout.at(row));
  expect(rows.filter((row) => row.head).map((row) => [row.offset, row.size])).toEqual([[0, 3], [3, 3], [6, 1], [7, 2], [9, 2], [11, 2]]);
  const samples = rows.filter((row) => !row.head);
  expect(samples.map((row) => row.offset)).toEqual(Array.from({ length: 13 }, (_, offset) => offset));
  for (let offset = 0; offset < 13; offset++) expect(layout.at(layout.rowOf(offset))).toMatchObject({ head: false, offset });
  expect([0, 1, 2, 3, 5, 6, 9].map(layout.groupStart)).toEqual([0, 3, 6, 7, 11, 13, 13]);
  expect([flat(5).rows, flat(5).at(3).offset, grouped([]).rows]).toEqual([5, 3, 0]);
});

function card(id: string, reward: Card["reward"]): Card {
  return { id, name: null, group: id[0]!, sample: 0, step: null, reward, advantage: null, tokens: null, turns: 1, calls: 0, status: "completed", stop: null, discard: null, index: null, metrics: {} };
}

test("a shared file sorts its lists; what has no value is last either way", () => {
  const groups = [{ group: "a", prompt: "", task: null, cards: [card("a0", 0.1), card("a1", 0.9)] }, { group: "b", prompt: "", task: null, cards: [card("b0", "nan"), card("b1", null)] }, { group: "c", prompt: "", task: null, cards: [card("c0", 0.8)] }];
  const embedded: Embedded = { "runs?": { runs: [{ key: "r", metrics: [], ranges: {}, observed: {} }] }, "list?run=r": { groups, next: null } };
  const ids = (parameters: Record<string, string | boolean>) => derive(embedded, "ids", { run: "r", step: "", discarded: false, ...parameters });
  expect(ids({})).toEqual(["a0", "a1", "b0", "b1", "c0"]);
  expect(ids({ sort: "-reward" })).toEqual(["c0", "a1", "a0", "b0", "b1"]);
  expect(ids({ sort: "reward" })).toEqual(["a0", "a1", "c0", "b0", "b1"]);
  expect(ids({ sort: "-reward", flat: true })).toEqual(["a1", "c0", "a0", "b0", "b1"]);
  expect((derive(embedded, "list", { run: "r", step: "", sort: "-reward" }) as Listing).sizes).toEqual([[1, 1], [2, 1], [2, 1]]);
  expect(derive(embedded, "position", { run: "r", step: "", sort: "-reward", id: "a0" })).toEqual({ position: 2 });
  expect(derive(embedded, "group_steps", { run: "r", group: "c" })).toEqual([{ step: null, kept: 1, discarded: 0 }]);
});

test("a step that is not there is missing, and never another one", () => {
  const steps: Step[] = [0, 1, 5].map((step) => ({ step, rollouts: 2, kept: 1, discarded: step === 1 ? 1 : 0, groups: 1, reward: 0 }));
  expect(chosenStep(steps, undefined, false)).toEqual({ step: 5 });
  expect(chosenStep(steps, undefined, true)).toEqual({ step: 1 });
  expect(chosenStep(steps, "0", false)).toEqual({ step: 0 });
  for (const value of ["3", "none", "1.0", "x", "1e0"]) expect(chosenStep(steps, value, false)).toEqual({ step: undefined, missing: value });
  expect(chosenStep(null, "3", false)).toEqual({ step: undefined });
  expect(noStep(steps, "3")).toBe("There is no step 3 in this run; steps go from 0 to 5.");
  expect([nearest(steps, 99), nearest(steps, 2), nearest(steps, NaN)]).toEqual([5, 1, 5]);
});
