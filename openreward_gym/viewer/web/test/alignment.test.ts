import { expect, test } from "vitest";
import { alignTurns, canonical, partingOf, partingText, playedOf, taskKeyOf } from "../src/comparing/alignment";
import { choosePair, formatSide, parseSide } from "../src/comparing/choosing";
import { choiceOf, sortTasks } from "../src/comparing/ordering";
import type { Comparison, TaskRow } from "../src/comparing/runs";
import type { Block, Card, Message } from "../src/types";

const call = (name: string, args: unknown, more: Partial<Block> = {}): Block => ({ type: "tool_call", call_id: "c", name, arguments: args, ...more });
const text = (words: string): Block => ({ type: "text", text: words });
const turn = (...blocks: Block[]): Message => ({ role: "assistant", blocks });
const result = (words: string, more: Partial<Message> = {}): Message => ({ role: "tool", call_id: "c", blocks: [text(words)], ...more });
const align = (left: Message[], right: Message[]) => alignTurns(playedOf({ id: "l", status: "completed", messages: left }), playedOf({ id: "r", status: "completed", messages: right }));
const verdicts = (left: Message[], right: Message[]) => align(left, right).map((one) => [one.action, one.results, one.words.join("; ")]);

test("the same tool with the same arguments is the same action, however it is written", () => {
  const one = canonical(call("x", { b: [1, 2], a: { d: "s", c: null } }));
  for (const content of ['{"a": {"c": null, "d": "s"}, "b": [1.0, 2e0]}', ' {\n"b":[1,2],"a":{"d":"s  ","c":null}}'])
    expect(canonical(call("x", undefined, { content }))).toBe(one);
  for (const content of ['{"a":{"c":null,"d":"s"},"b":[2,1]}', '{"a":{"c":null,"d":" s"},"b":[1,2]}', '{"a":{"c":null,"d":"s"},"b":["1",2]}', "{"])
    expect(canonical(call("x", undefined, { content }))).not.toBe(one);
  expect(canonical(call("x", null))).toBe(canonical(call("x", {})));
  const long = (digits: string) => canonical(call("x", undefined, { content: `{"a": ${digits}}` }));
  expect(long("12345678901234567890")).not.toBe(long("12345678901234567891"));
  expect(verdicts([turn(call("ls", { a: 1, b: 2 }))], [turn(call("ls", undefined, { content: '{"b": 2.0, "a": 1}' }))])).toEqual([["written differently", "same", "same call, written differently"]]);
});

test("what differs is said in words", () => {
  expect(verdicts([turn(call("ls", { path: "a", n: 1 }))], [turn(call("ls", { path: "b", n: 1 }))])).toEqual([["differs", "same", "other arguments of ls: path"]]);
  expect(verdicts([turn(call("ls", {}))], [turn(call("cat", {}))])).toEqual([["differs", "same", "another tool: ls and cat"]]);
  expect(verdicts([turn(text("42"))], [turn(text("43"))])).toEqual([["differs", "same", "another text"]]);
  expect(verdicts([turn(text("42"))], [turn(text("42\n"))])).toEqual([["written differently", "same", "same text, other blanks at the ends"]]);
  expect(verdicts([turn(text("42"))], [turn(call("ls", {}))])).toEqual([["differs", "same", "only the right one calls a tool"]]);
  expect(verdicts([turn(text("I look."), call("ls", {}))], [turn(text("Let me see."), call("ls", {}))])).toEqual([["written differently", "same", "same call, other words beside it"]]);
  const thought = (words: string) => ({ type: "reasoning", content: words });
  expect(verdicts([turn(thought("a"), call("ls", {}))], [turn(thought("b"), call("ls", {}))])).toEqual([["written differently", "same", "same action, other reasoning"]]);
  expect(verdicts([turn(call("ls", {})), result("a")], [turn(call("ls", {})), result("b")])).toEqual([["same", "differs", "the same action has a different result"]]);
  expect(verdicts([turn(call("ls", {})), result("a")], [turn(call("ls", {})), result("a", { is_error: true })])).toEqual([["same", "differs", "the same action has a different result"]]);
  expect(verdicts([turn(call("ls", {}))], [])).toEqual([["differs", "differs", "the right rollout has ended"]]);
});

test("the parting is the first turn that differs, and it is said where the actions part", () => {
  const [ls, done] = [turn(call("ls", {})), turn(text("done"))];
  const parted = align([ls, result("a"), ls, result("x"), done], [ls, result("a"), ls, result("y"), turn(text("no"))]);
  expect(partingOf(parted)).toEqual({ first: 1, action: 2 });
  expect(partingText(parted)).toBe("The transcripts part at turn 2: the same action has a different result. The actions part at turn 3.");
  expect(partingText(align([ls, done], [ls, done]))).toBe("The transcripts are the same.");
  expect(partingText(align([ls, done], [ls, turn(text("done "))]))).toBe("The transcripts are the same in meaning; one turn is written differently.");
  expect(partingText(align([ls], [ls, done]))).toBe("The transcripts part at turn 2: the left rollout has ended.");
});

test("messages of the user belong to the turn before them, and given turns to the prompt", () => {
  const played = playedOf({ id: "r", status: "completed", messages: [{ role: "user", blocks: [] }, { role: "assistant", origin: "given", blocks: [text("hi")] }, { role: "user", blocks: [] }, turn(text("a")), { role: "user", blocks: [text("more")] }, turn(text("b"))] });
  expect([played.prompt.length, played.steps.map((step) => step.after.length)]).toEqual([3, [1, 0]]);
});

const attempt = (run: string, id: string, reward: Card["reward"]) => ({ run, id, reward }) as Card & { run: string };

test("the pair that shows the difference best is chosen", () => {
  const all = [attempt("a", "1", 0), attempt("a", "2", 1), attempt("b", "3", 0.5), attempt("b", "4", "nan"), attempt("b", "5", 0)];
  const ids = (runs: string[], given: string | null = null) => choosePair(all, runs, given ? { run: given[0]!, id: given[1]! } : null)?.map((side) => side.id);
  expect(ids(["a", "b"])).toEqual(["2", "5"]);
  expect(ids(["b", "a"])).toEqual(["5", "2"]);
  expect(ids(["a"])).toEqual(["2", "1"]);
  expect(ids(["a"], "a1")![1]).toBe("2");
  expect(ids(["a"], "a2")![1]).toBe("1");
  expect(ids(["a", "c"])).toBeUndefined();
  expect(choosePair([all[0]!], ["a"], null)).toBeNull();
  const side = { run: "my run/2", id: "x,%/y" };
  expect(parseSide(formatSide(side))).toEqual(side);
  expect([parseSide("a"), parseSide("a/b/c"), parseSide("%/b"), parseSide(undefined)]).toEqual([null, null, null, null]);
});

test("tasks are sorted by every column and chosen by who is better", () => {
  const row = (task: string, ...rewards: (number | null)[]): TaskRow => ({ task, prompt: `do ${task}`, environment: "e", index: Number(task), rewards, counts: [], spread: Math.max(...rewards.map((one) => one ?? 0)) });
  const comparison = { tasks: [row("10", 0, 1), row("9", 0.5, 0.25), row("2", 1, 1), row("3", null, 1)], alone: [row("7", 1, null)] } as unknown as Comparison;
  const names = (order: string, show = "all", contains = "") => sortTasks(choiceOf(comparison, show as never, 1, contains), order, 1).map((one) => one.task);
  expect(names("task")).toEqual(["2", "3", "9", "10"]);
  expect(names("-difference")).toEqual(["10", "2", "9", "3"]);
  expect(names("difference")).toEqual(["9", "2", "10", "3"]);
  expect(names("-run0")).toEqual(["2", "9", "10", "3"]);
  expect(names("task", "better")).toEqual(["10"]);
  expect(names("task", "worse")).toEqual(["9"]);
  expect(names("task", "alone")).toEqual(["7"]);
  expect(names("task", "all", "DO 1")).toEqual(["10"]);
});

test("the key of a task is the one of the reports", () => {
  expect(taskKeyOf({ id: "r", status: "", task: { id: "t", index: 1 } })).toBe("t");
  expect(taskKeyOf({ id: "r", status: "", task: { id: "", index: 1 }, environment: { name: "e" } })).toBe("e/None/1");
  expect(taskKeyOf({ id: "r", status: "", group: "r" })).toBe("rollout r");
});
