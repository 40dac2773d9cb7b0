// @vitest-environment jsdom
import { expect, test } from "vitest";
import { find, patternOf } from "../src/searching/search";
import { requestOf } from "../src/api";
import { rolloutsOf, derive } from "../src/embedded";
import type { Card, Group, Histograms, Message, Opened } from "../src/types";

function opened(id: string, list: Message[], step: number | null = 0): Opened {
  return { run: "a", place: { step, group: "g", discarded: false }, label: { rating: null, tags: [], note: "" }, rollout: { id, status: "completed", messages: list } };
}

function messages(...texts: string[]): Message[] {
  return texts.map((text, index) => ({ role: index % 2 ? "assistant" : "user", blocks: [{ type: "text", text }] }));
}

test("a word is found in every kind of block, without regard to case", () => {
  const blocks = [{ type: "text", text: "ONE" }, { type: "reasoning", summary: "one" }, { type: "tool_call", name: "one", arguments: { a: "one" } }, { type: "tool_call", name: "x", content: "{one" }];
  const [hit, ...more] = find([opened("r", [{ role: "assistant", blocks }])], "one");
  expect([hit!.count, hit!.message, hit!.turn, hit!.match, more.length]).toEqual([5, 0, 1, "ONE", 0]);
});

test("a rollout must have all words, a phrase as one, and each message with a word is a hit", () => {
  const all = [opened("both", messages("a red fox", "the dog", "nothing", "fox and dog")), opened("one", messages("a fox"))];
  expect(find(all, "fox dog").map((hit) => [hit.id, hit.message, hit.count])).toEqual([["both", 0, 1], ["both", 1, 1], ["both", 3, 2]]);
  expect(find(all, '"red fox"').map((hit) => hit.message)).toEqual([0]);
  expect(find(all, "fo fox").map((hit) => [hit.id, hit.count])).toEqual([["both", 1], ["both", 1], ["one", 1]]);
  expect(find(all, ' "" ')).toEqual([]);
});

test("characters with a meaning in regular expressions are searched literally", () => {
  const all = [opened("r", messages("costs $5.00 (or [more]) \\ a-b/c {x} ^|*+?"))];
  for (const text of ["$5.00", "(or", "[more])", "\\", "a-b/c", "{x}", "^|*+?"]) expect(find(all, `"${text}"`)[0]?.match).toBe(text);
  expect(find(all, "5x00")).toEqual([]);
  expect(patternOf("  ")).toBeNull();
});

test("the place of a hit is exact, also behind characters that get longer in lower case", () => {
  const [hit] = find([opened("r", messages(`${"İ".repeat(100)}Here`))], "here");
  expect([hit!.match, hit!.before]).toEqual(["Here", "İ".repeat(80)]);
});

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
