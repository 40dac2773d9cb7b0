// @vitest-environment jsdom
import { expect, test } from "vitest";
import type { Comparison, TaskRow } from "../src/comparing/runs";
import type { HitsOf, SearchResult } from "../src/searching/search";
import { requestOf } from "../src/api";
import { rolloutsOf, derive } from "../src/embedded";
import type { Card, Group, Histograms, Message, Opened } from "../src/types";

function opened(id: string, list: Message[], step: number | null = 0): Opened {
  return { run: "a", place: { step, group: "g", discarded: false }, label: { rating: null, tags: [], note: "" }, rollout: { id, status: "completed", messages: list } };
}

const card = (id: string, reward: Card["reward"], more: Partial<Card> = {}): Card => ({ id, name: null, group: "g", sample: 0, step: 0, reward, advantage: null, tokens: null, turns: 2, calls: 0, status: "completed", stop: null, discard: null, index: 0, metrics: {}, ...more });
const listed = (group: string, task: string, cards: Card[]): Group => ({ group, prompt: "", task, cards });
const file = {
  [requestOf("list", { run: "a b", step: 0 })]: { groups: [listed("g", "t", [card("1", 0), card("2", 1)])], next: 2 },
  [requestOf("list", { run: "a b", step: 0, offset: 2 })]: { groups: [listed("g", "t", [card("3", "nan")]), listed("h", "u", [card("4", 0.5, { metrics: { m: 3 } })])], next: null },
  [requestOf("list", { run: "a b", step: 1, discarded: true })]: { groups: [listed("g", "t", [card("5", 0, { step: 1 })])], next: null },
  [requestOf("rollout", { run: "a b", id: "1" })]: { ...opened("1", []), run: "a b", rollout: { id: "1", status: "completed", started_at: "2026-01-02", ended_at: null, messages: [{ role: "tool", is_error: true }] } },
};

test("a group, a task's attempts and a histogram are made of what is in the file", () => {
  const ids = (name: string, parameters: object) => (derive(file, name, { run: "a b", ...parameters }) as Card[]).map((one) => one.id);
  expect(ids("group", { group: "g", step: 0, discarded: false })).toEqual(["1", "2", "3"]);
  expect(ids("group", { group: "g", step: 1, discarded: true })).toEqual(["5"]);
  expect(ids("task", { task: "t" })).toEqual(["2", "3", "5", "1"]);
  const counts = (metric: string, parameters: object = { every: true }) => (derive(file, "histogram", { run: "a b", metric, filter: "", ...parameters }) as Histograms).histograms[0]!.counts;
  const rewards = counts("reward");
  expect([rewards.length, rewards[0], rewards[12], rewards[23]]).toEqual([24, 2, 1, 1]);
  expect(counts("m")).toEqual([1]);
  expect(counts("errors")).toEqual([1]);
  expect(counts("reward", { step: 1, every: false })).toEqual([1]);
  expect(counts("reward", { step: 1, every: false, which: "kept" })).toEqual([]);
  expect(derive(file, "series", { run: "a b" })).toBeUndefined();
  expect(rolloutsOf(file).map((one) => one.rollout.id)).toEqual(["1"]);
});

test("the text of the file is searched, and all hits of a rollout are counted", () => {
  const said = (id: string, text: string) => ({ ...opened(id, [{ role: "user", blocks: [{ type: "text", text }] }]), run: "a b" });
  const texts = { ...file, [requestOf("rollout", { run: "a b", id: "2" })]: said("2", "fox and FOX"), [requestOf("rollout", { run: "c", id: "9" })]: { ...said("9", "a fox"), run: "c" } };
  const search = (query: string, run?: string) => (derive(texts, "search", { query, run, regex: false }) as SearchResult).hits.map((hit) => [hit.run, hit.id, hit.count, hit.reward]);
  expect(search("fox")).toEqual([["a b", "2", 2, 1], ["c", "9", 1, null]]);
  expect(search("fox", "c")).toEqual([["c", "9", 1, null]]);
  const hits = derive(texts, "hits", { query: "f.x", regex: true, run: "a b", id: "2" }) as HitsOf;
  expect([hits.count, hits.messages, hits.matches]).toEqual([2, 1, ["fox", "FOX"]]);
  expect((derive(texts, "hits", { query: "x", run: "a b", id: "none" }) as HitsOf).count).toBe(0);
  expect(() => derive(texts, "search", { query: "role:nobody" })).toThrow("no role");
});

test("runs of the file are compared by what is stored for them", () => {
  const row = (task: string, rewards: (number | null)[]): TaskRow => ({ task, prompt: "", environment: "", index: 0, rewards, counts: rewards.map((one) => (one === null ? 0 : 1)), spread: 0 });
  const by = (words: string) => ({ "a,b": { text: words }, "c": { text: words } });
  const stored = { keys: ["a,b", "c", "d"], figures: { "a,b": { reward: 0 }, c: { reward: 1 }, d: {} }, pairs: { c: by("pair"), "a,b": by("pair") }, together: { c: { ...by("all"), d: { text: "all" } } }, tasks: [row("t", [0, 1, null]), row("u", [0.5, 0.25, 1])], alone: [row("v", [1, null, null]), row("w", [null, null, 1])], common: 2, only: 2 };
  const compare = (runs: string) => derive({ "comparison?": stored }, "compare", { runs }) as Comparison;
  const two = compare("c,a%2Cb");
  expect(two.runs.map((run) => [run.key, run.reward, run.against_first?.text])).toEqual([["c", 1, undefined], ["a,b", 0, "pair"]]);
  expect(two.tasks.map((one) => [one.task, one.rewards, one.spread])).toEqual([["t", [1, 0], 1], ["u", [0.25, 0.5], 0.25]]);
  expect([two.alone.map((one) => one.task), two.common, two.only]).toEqual([["v"], 2, 1]);
  expect(compare("c,d,a%2Cb").runs[2]!.against_first!.text).toBe("all");
  expect(compare("c,nobody")).toBeUndefined();
  expect(derive({}, "compare", { runs: "a,b" })).toBeUndefined();
});

test("the attempts at a task are found by its id, or by environment, split and index", () => {
  const of = (id: string, more: object) => [requestOf("rollout", { run: "r", id }), { ...opened(id, []), run: "r", rollout: { id, status: "completed", messages: [], ...more } }] as const;
  const all = Object.fromEntries([of("1", { task: { id: "t" } }), of("2", { task: { index: 3 }, environment: { name: "e", split: null } }), of("3", { group: "g" }), of("4", {})]);
  const ids = (name: string) => (derive(all, "attempts", { task: name }) as Card[]).map((one) => one.id);
  expect([ids("t"), ids("e/None/3"), ids("g"), ids("rollout 4")]).toEqual([["1"], ["2"], ["3"], ["4"]]);
});
