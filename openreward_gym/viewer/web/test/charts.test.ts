// @vitest-environment jsdom
import { beforeAll, expect, test, vi } from "vitest";
import type { Histograms, Series } from "../src/types";

// jsdom has no media queries, which uPlot and the theme ask for.
vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => {}, removeEventListener: () => {} }));

type Modules = typeof import("../src/charts/plots") & typeof import("../src/charts/drawing") & typeof import("../src/charts/ticks") & typeof import("../src/charts/catalogue") & typeof import("../src/charts/derived") & typeof import("../src/charts/colours") & typeof import("../src/numbers");
let m: Modules;
beforeAll(async () => {
  const parts = await Promise.all([import("../src/charts/plots"), import("../src/charts/drawing"), import("../src/charts/ticks"), import("../src/charts/catalogue"), import("../src/charts/derived"), import("../src/charts/colours"), import("../src/numbers")]);
  m = Object.assign({}, ...parts) as Modules;
});

function series(run: string, steps: number[], mean: (number | null)[], more: Partial<Series> = {}): Series {
  const none = steps.map(() => 0);
  return { run, metric: "reward", nan: 0, infinite: 0, steps, count: steps.map(() => 4), mean, std: none, min: none, max: none, p05: none, p25: none, p50: mean, p75: none, p95: none, ...more };
}

test("a range belongs to the metric and the statistic that it was set for", () => {
  const plot = { ...m.plotOf("reward"), low: 0, high: 2, rangeFor: "mean reward" };
  expect(m.rangeOf(plot)).toEqual([0, 2]);
  expect(m.rangeOf({ ...plot, statistic: "histogram" })).toEqual([null, null]);
  expect(m.rangeOf(m.showing(plot, { statistic: "histogram" }))).toEqual([null, null]);
  expect(m.showing(plot, { metric: "tokens" })).toMatchObject({ low: null, high: null, rangeFor: "" });
  expect(m.showing(plot, { statistic: "mean" })).toMatchObject({ low: 0, high: 2 });
  expect(m.rangeOf({ ...plot, rangeFor: "" }), "stored before ranges had a name").toEqual([0, 2]);
  expect(m.rangeOf({ ...plot, rangeFor: "", statistic: "histogram" })).toEqual([null, null]);
  const bars = { ...m.plotOf("reward", "histogram"), low: 5, high: 9, rangeFor: "histogram reward" };
  expect(m.rangeOf(bars), "counts begin at 0").toEqual([null, 9]);
});

test("a layout survives its text, and what is none is refused in words", () => {
  const list = [{ ...m.plotOf("reward", "histogram"), which: "split" as const, hidden: ["a kept"] }, { ...m.plotOf("say \"hi\""), smooth: 7, low: -1, rangeFor: "mean say \"hi\"" }];
  const again = m.layoutFrom(m.layoutText(list));
  expect(again.map(({ id: _, ...rest }) => rest)).toEqual(list.map(({ id: _, ...rest }) => rest));
  expect(new Set([...again, ...list].map((plot) => plot.id)).size).toBe(4);
  expect(() => m.layoutFrom("{")).toThrow("not JSON");
  for (const text of ["[]", "{}", "null", "3", '{"charts": [{"metric": 3}]}', '{"charts": [{"metric": "x", "statistic": "no"}]}']) expect(() => m.layoutFrom(text)).toThrow("not a layout");
  const odd = m.plotFrom({ id: "a", metric: "x", statistic: "mean", smooth: 1e9, which: "no", low: "1", hidden: [3] });
  expect(odd).toMatchObject({ smooth: 1, which: "all", low: null, hidden: [] });
});

test("a caption says which rollouts count", () => {
  const plot = m.plotOf("reward");
  expect(m.captionOf(plot)).toBe("mean of all rollouts");
  expect(m.captionOf({ ...plot, which: "kept", filter: "x > 1" })).toBe("mean of kept rollouts, filtered");
  expect(m.captionOf({ ...plot, which: "split", statistic: "max" })).toBe("maximum of kept and of discarded rollouts");
  expect(m.captionOf({ ...plot, statistic: "histogram" }, 3)).toBe("histogram of all rollouts of step 3");
  expect(m.captionOf({ ...plot, metric: "discarded share", which: "kept" })).toBe("share of all rollouts");
  expect(m.captionOf(m.plotOf("zero-advantage groups"))).toBe("share of groups");
});

test("runs keep their colours where one has no values; kept and discarded differ by colour and dashes", () => {
  const plot = m.plotOf("reward");
  const keys = m.keysOf(plot, ["a", "b", "c"]);
  expect(new Set(keys.map((key) => key.color)).size).toBe(3);
  expect(new Set(keys.map((key) => key.dash.join())).size).toBe(3);
  const drawing = m.overSteps(plot, keys, [series("a", [], []), null, series("c", [1], [0.5])]);
  expect(drawing.lines.map((line) => [line.label, line.color])).toEqual([["c", m.COLOURS[2]]]);
  const split = m.keysOf({ ...plot, which: "split" }, ["a"]);
  expect(split.map((key) => [key.key, key.label])).toEqual([["a kept", "kept"], ["a discarded", "discarded"]]);
  expect(split[0]!.color).not.toBe(split[1]!.color);
  expect(m.keysOf({ ...plot, which: "split" }, ["a", "b"]).map((key) => key.label)).toEqual(["a, kept", "a, discarded", "b, kept", "b, discarded"]);
});

test("what is read out at a step is each visible series' value, raw and smoothed", () => {
  const plot = { ...m.plotOf("reward"), smooth: 3, hidden: ["b all"] };
  const keys = m.keysOf(plot, ["a", "b", "c"]);
  const drawing = m.overSteps(plot, keys, [series("a", [1, 2], [0, 1]), series("b", [1], [9]), series("c", [2], [0.25])]);
  expect(drawing.reading(1)).toMatchObject({ place: "step 2", rows: [{ label: "a", value: "1.0000", about: "smoothed 0.5000, 4 rollouts" }, { label: "c", value: "0.2500" }] });
  expect(drawing.reading(0).rows.map((row) => row.label)).toEqual(["a"]);
  expect(drawing.table.head).toEqual(["step", "a, mean", "a, smoothed", "a, rollouts", "c, mean", "c, smoothed", "c, rollouts"]);
  expect(drawing.table.rows).toEqual([["1", "0", "0", "4", "", "", ""], ["2", "1", "0.5", "4", "0.25", "0.25", "4"]]);
  expect(drawing.lines.filter((line) => line.dim).length).toBe(2);
});

test("one step is a point with its interval", () => {
  const plot = m.plotOf("reward");
  const drawing = m.overSteps(plot, m.keysOf(plot, ["a"]), [series("a", [7], [0.5], { p05: [0.125], p95: [0.875] })]);
  expect(drawing.lines[0]!.interval).toEqual([0.125, 0.875]);
  expect(drawing.reading(0).rows[0]!.about).toBe("4 rollouts, 5 % to 95 %: 0.125 to 0.875");
  expect(m.overSteps(plot, m.keysOf(plot, ["a"]), [series("a", [7, 8], [0.5, 0.5])]).lines[0]!.interval).toBeNull();
});

test("values that are no numbers are told", () => {
  const plot = m.plotOf("reward");
  expect(m.overSteps(plot, m.keysOf(plot, ["a"]), [series("a", [], [], { nan: 3 })]).notes).toEqual(["3 values are NaN, and not in the chart."]);
  expect(m.overSteps(plot, m.keysOf(plot, ["a", "b"]), [series("a", [], []), series("b", [], [], { nan: 1, infinite: 2 })]).notes).toEqual(["b: 1 value is NaN and 2 values are infinite, and not in the chart."]);
});

test("bins of histograms are told by their edges, those of integers by the integers", () => {
  const found = (edges: number[], integers: boolean): Histograms => ({ metric: "x", edges, integers, unit: "rollouts", histograms: [{ run: "a", which: "all", counts: [2, 0], nan: 0, infinite: 0 }] });
  const keys = m.keysOf(m.plotOf("x", "histogram"), ["a"]);
  expect(m.ofHistograms(keys, found([-0.5, 0.5, 1.5], true)).table).toEqual({ head: ["values", "rollouts"], rows: [["0", "2"], ["1", "0"]] });
  expect(m.ofHistograms(keys, found([-0.5, 9.5, 19.5], true)).reading(1).place).toBe("10 to 19");
  expect(m.ofHistograms(keys, found([500, 504.1666, 508.3333], false)).reading(0).place).toBe("500.0 to 504.2");
  expect(m.ofHistograms(keys, found([-0.001, 0.001, 0.003], false)).reading(0).place).toBe("−0.0010 to 0.0010");
  expect(m.ofHistograms(keys, null).x).toEqual([]);
});

test("ticks have even digits, and steps are integers", () => {
  expect(m.tickLabels([0, 0.25, 0.5], 0.25)).toEqual(["0", "0.25", "0.50"]);
  expect(m.tickLabels([-1, 0, 1], 1)).toEqual(["−1", "0", "1"]);
  expect(m.tickLabels([0, 500, 1000, 1500], 500)).toEqual(["0", "500", "1000", "1500"]);
  expect(m.tickLabels([0, 25_000, 50_000], 25_000)).toEqual(["0", "25k", "50k"]);
  expect(m.tickLabels([1_500_000, 2_000_000], 500_000)).toEqual(["1.5M", "2.0M"]);
  expect(m.tickLabels([0, 0.00001], 0.00001)).toEqual(["0", "1.0e−5"]);
  expect(m.INTEGERS.every(Number.isInteger)).toBe(true);
  expect(m.INTEGERS.slice(0, 5)).toEqual([1, 2, 5, 10, 20]);
});

test("numbers under each other have the same digits", () => {
  expect(m.evenly([1, 0.5, null, 1 / 3])).toEqual(["1.0000", "0.5000", "–", "0.3333"]);
  expect(m.evenly([1, 20, -3])).toEqual(["1", "20", "−3"]);
  expect(m.evenly([1234.5, 2])).toEqual(["1234.50", "2.00"]);
});

test("a table as CSV is quoted, and nothing of it is a formula", () => {
  expect(m.csvOf({ head: ["step", "=cmd()", 'a "b", c'], rows: [["1", "-0.5", ""]] })).toBe("step,'=cmd(),\"a \"\"b\"\", c\"\n1,-0.5,\n");
});

test("metrics are found by words of their names, in sections by prefix if they are many", () => {
  const metrics = (...names: string[]) => names.map((name) => ({ name, about: "" }));
  const own = metrics(...Array.from({ length: 12 }, (_, index) => `timing/t${index}`), "reward/x", "plain", "/odd", "tail/");
  const sections = m.sectionsOf({ built_in: metrics("reward"), shares: [], own });
  expect(sections.map((section) => [section.title, section.metrics.length])).toEqual([["Built in", 1], ["timing/", 12], ["reward/", 1], ["Metrics of the run", 3]]);
  expect(m.sectionsOf({ built_in: [], shares: [], own: metrics("a/b") })).toMatchObject([{ title: "Metrics of the run" }]);
  expect(m.matching(sections, "T1 timing").flatMap((section) => section.metrics.map((metric) => metric.name))).toEqual(["timing/t1", "timing/t10", "timing/t11"]);
  expect(m.matching(sections, "nothing")).toEqual([]);
});

test("bins of a shared file are those of the server", () => {
  expect(m.bins([0, 1])).toEqual({ edges: [-0.5, 0.5, 1.5], integers: true });
  expect(m.bins([1, 50]).edges.slice(0, 3)).toEqual([0.5, 3.5, 6.5]);
  expect(m.bins([0.5]).edges).toEqual([0.475, 0.525]);
  expect(m.bins([0, 2.4]).edges.length).toBe(25);
  expect(m.bins([])).toEqual({ edges: [], integers: false });
});

test("a chart over the steps is a histogram where there are no steps, and stays what was chosen", () => {
  const plot = m.plotOf("reward");
  const shown = m.fitting(plot, false);
  expect(shown).toEqual({ ...plot, statistic: "histogram" });
  expect(m.fitting(plot, true)).toBe(plot);
  expect(m.fitting(m.plotOf("discarded share"), false).statistic).toBe("mean");
  expect(m.unfitted(plot, shown, { ...shown, table: true })).toEqual({ ...plot, table: true });
  expect(m.unfitted(plot, shown, { ...shown, statistic: "max" })).toEqual({ ...plot, statistic: "max" });
});
