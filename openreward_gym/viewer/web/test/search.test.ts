import { expect, test } from "vitest";
import { parseQuery, patternOf, qualifiersOf, withQualifier } from "../src/searching/query";
import { find, hitsIn } from "../src/searching/search";
import type { Card, Message, Opened } from "../src/types";

function opened(id: string, list: Message[]): Opened {
  return { run: "a", place: { step: 0, group: "g", discarded: false }, label: { rating: null, tags: [], note: "" }, rollout: { id, status: "completed", messages: list } };
}

function messages(...texts: string[]): Message[] {
  return texts.map((text, index) => ({ role: index % 2 ? "assistant" : "user", blocks: [{ type: "text", text }] }));
}

const hits = (all: Opened[], query: string, regex = false) => find(all, query, regex, (one) => ({ id: one.rollout.id }) as Card).hits;
const one = (list: Message[], query: string, regex = false) => hitsIn(opened("r", list), parseQuery(query, regex));

test("a word is found in every kind of block, without regard to case", () => {
  const blocks = [{ type: "text", text: "ONE" }, { type: "reasoning", summary: "one" }, { type: "tool_call", name: "one", arguments: { a: "one" } }, { type: "tool_call", name: "x", content: "{one" }];
  const found = one([{ role: "assistant", blocks }], "one")!;
  expect([found.count, found.messages, found.snippets[0]!.turn, found.snippets[0]!.match, found.roles]).toEqual([5, 1, 1, "ONE", { assistant: 4, reasoning: 1 }]);
});

test("a rollout must have all words, a phrase as one, and all hits are counted", () => {
  const all = [opened("both", messages("a red fox", "the dog", "nothing", "fox and dog")), opened("one", messages("a fox"))];
  expect(hits(all, "fox dog").map((hit) => [hit.id, hit.count, hit.messages, hit.snippets.map((part) => [part.message, part.count])])).toEqual([["both", 4, 3, [[0, 1], [1, 1], [3, 2]]]]);
  expect(hits(all, '"red fox"').map((hit) => hit.snippets[0]!.message)).toEqual([0]);
  expect(hits(all, "fo fox").map((hit) => [hit.id, hit.count])).toEqual([["both", 2], ["one", 1]]);
  expect(hits(all, ' "" ')).toEqual([]);
});

test("characters with a meaning in regular expressions are searched literally", () => {
  const list = messages("costs $5.00 (or [more]) \\ a-b/c {x} ^|*+?");
  for (const text of ["$5.00", "(or", "[more])", "\\", "a-b/c", "{x}", "^|*+?"]) expect(one(list, `"${text}"`)?.snippets[0]!.match).toBe(text);
  expect(one(list, "5x00")).toBeNull();
  expect(patternOf("  ")).toBeNull();
});

test("the place of a hit is exact, also behind characters that get longer in lower case", () => {
  const found = one(messages(`${"İ".repeat(100)}Here`), "here")!.snippets[0]!;
  expect([found.match, found.before]).toEqual(["Here", "İ".repeat(80)]);
});

test("a snippet does not cut a character in two", () => {
  const found = one(messages(`${"😀".repeat(100)}x${"😀".repeat(100)}`), "x")!.snippets[0]!;
  expect([found.before.isWellFormed(), found.after.isWellFormed()]).toEqual([true, true]);
});

const shell: Message[] = [
  { role: "system", blocks: [{ type: "text", text: "Use bash." }] },
  { role: "assistant", blocks: [{ type: "reasoning", content: "bash it is" }, { type: "tool_call", name: "bash", call_id: "1", arguments: { command: 'echo "a\nb"', n: 7 } }, { type: "tool_call", name: "plot", call_id: "2", arguments: {} }] },
  { role: "tool", call_id: "1", is_error: true, blocks: [{ type: "text", text: "bash: no" }] },
  { role: "tool", call_id: "2", blocks: [{ type: "text", text: "bash, drawn" }] },
];

test("role, tool and error restrict what is searched", () => {
  const places = (query: string) => one(shell, query)?.snippets.map((part) => part.message) ?? null;
  expect(places("bash")).toEqual([0, 1, 2, 3]);
  expect(places("role:tool bash")).toEqual([2, 3]);
  expect(places("role:system role:tool bash")).toEqual([0, 2, 3]);
  expect(one(shell, "role:reasoning bash")!.roles).toEqual({ reasoning: 1 });
  expect(one(shell, "role:assistant bash")!.count).toBe(2);
  expect(places("tool:BASH bash")).toEqual([1, 2]);
  expect(places("is:error bash")).toEqual([2]);
  expect(places("is:error")).toEqual([2]);
  expect(places("tool:plot")).toEqual([1, 3]);
  expect(places("tool:plot is:error")).toBeNull();
  expect(places('"role:tool"')).toBeNull();
});

test("arguments are found by their decoded text", () => {
  expect(one(shell, '"a\nb"')!.snippets[0]!.match).toBe("a\nb");
  expect(one(shell, "command 7")!.count).toBe(2);
});

test("regular expressions, with what restricts them before", () => {
  expect(one(shell, "role:tool ba.h:? no", true)!.matches).toEqual(["bash: no"]);
  expect(one(shell, "^use", true)!.count).toBe(1);
  expect(one(shell, "x*", true)).toBeNull();
  expect(() => parseQuery("(", true)).toThrow("not a regular expression");
  expect(() => parseQuery("(a+)+$", true)).toThrow("too long");
  expect(patternOf("(?i)x", true)).toBeNull();
});

test("a query is read and written with its qualifiers", () => {
  expect(parseQuery('role:TOOL tool:"my tool" is:error "two words" x x')).toEqual({ words: ["two words", "x"], expression: null, roles: ["tool"], tools: ["my tool"], errors: true });
  expect(() => parseQuery("role:nobody")).toThrow("no role");
  expect(() => parseQuery("is:odd")).toThrow("is:error");
  expect(parseQuery("http://x.y xrole:tool").words).toEqual(["http://x.y", "xrole:tool"]);
  expect(withQualifier('role:tool "a b" c', "role", "user")).toBe('role:user "a b" c');
  expect(withQualifier('role:tool "a b" c', "role", null)).toBe('"a b" c');
  expect(withQualifier('"is:error"', "is", "error")).toBe('is:error "is:error"');
  expect(withQualifier("a.*b  c", "tool", "my tool", true)).toBe('tool:"my tool" a.*b  c');
  expect(qualifiersOf('tool:"my tool" x', "tool")).toEqual(["my tool"]);
});

test("words are marked as they are and as JSON writes them", () => {
  expect('say \\"hi\\" or \"hi\"'.replaceAll(patternOf("hi")!, "_")).toBe('say \\"_\\" or \"_\"');
  expect("a\\b".match(patternOf("\\")!)).not.toBeNull();
});
