import { expect, test } from "vitest";
import { advantageRange, ema, exactly, goodness, joined, shown, titleCase, UNIT, withoutOutliers } from "../src/numbers";

test("what was not recorded is not 0", () => {
  expect([shown(null), shown("nan"), shown("inf"), shown(0), shown(-0.5)]).toEqual(["–", "NaN", "∞", "0", "−0.500"]);
  expect(exactly(null)).toBe("none (not recorded)");
  expect(goodness("nan", UNIT)).toBeNull();
});

test("colours go from the range's minimum to its maximum, inverted where low is good", () => {
  expect([goodness(-1, UNIT), goodness(0.25, UNIT), goodness(9, UNIT)]).toEqual([0, 0.25, 1]);
  expect(goodness(0.25, { ...UNIT, lower_is_better: true })).toBe(0.75);
  expect(advantageRange(5)).toMatchObject({ min: -2, max: 2 });
});

test("the moving average has alpha 2 / (span + 1) and keeps gaps", () => {
  expect(ema([1, null, 4], 2)).toEqual([1, null, 3]);
});

test("outliers are beyond 1.5 interquartile ranges", () => {
  expect(withoutOutliers([1, 2, 3, 2, 100, null])).toEqual([1, 2, 3, 2, null, null]);
});

test("runs are joined over the union of their steps", () => {
  expect(joined([{ steps: [0, 2], values: [1, 2] }, { steps: [1], values: [5] }])).toEqual({ steps: [0, 1, 2], values: [[1, null, 2], [null, 5, null]] });
});

test("reasons in title case", () => {
  expect([titleCase("max_async"), titleCase("zero_advantage")]).toEqual(["Max Async", "Zero Advantage"]);
});
