import { expect, test } from "vitest";
import { shortArguments } from "../src/reading/arguments";
import { type Drift, driftsOf, driftWords, leftOut, shadeOf, tokenCount, tokensRecorded } from "../src/reading/sampled";
import { partsOf, sections, textOf } from "../src/reading/rollout";
import { covered, timelineOf } from "../src/reading/timeline";
import { endOf, headlineOf, oneLine, promptOf, tabNameOf } from "../src/reading/words";
import { titleOf } from "../src/title";
import type { Block, Message, Rollout } from "../src/types";

const text = (value: string): Block => ({ type: "text", text: value });
const call = (id: string, name = "f"): Block => ({ type: "tool_call", name, call_id: id, arguments: {} });
const result = (id: string | null, value = "r"): Message => ({ role: "tool", call_id: id, blocks: [text(value)] });
const rollout = (messages: Message[], more: Partial<Rollout> = {}): Rollout => ({ id: "abcdef1234567", status: "completed", messages, ...more });

/** A generator of numbers from 0 to n - 1, the same for the same seed. */
function dice(seed: number): (n: number) => number {
  let state = seed * 2654435761 + 1;
  return (n) => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) >>> 0;
    return ((state ^ (state >>> 13)) >>> 0) % n;
  };
}

function generated(seed: number): Message[] {
  const draw = dice(seed);
  const ids = ["", "a", "b", "a", "c"];
  const block = (): Block => [text(`t${draw(99)}`), { type: "reasoning", content: "hm" } as Block, call(ids[draw(5)]!), call(ids[draw(5)]!)][draw(4)]!;
  return Array.from({ length: draw(14) }, (): Message => {
    const role = ["assistant", "assistant", "tool", "tool", "user", "system"][draw(6)]!;
    if (role === "tool") return result([...ids, null][draw(6)]!);
    const origin = role === "assistant" ? (["policy", "given", null] as const)[draw(3)] : null;
    return { role, origin, blocks: Array.from({ length: draw(5) }, block) };
  });
}

test("every message is shown exactly once, and every block in its order", () => {
  for (let seed = 0; seed < 3000; seed++) {
    const messages = generated(seed);
    const list = sections(rollout(messages));
    const shown = list.flatMap((section) => [section.number, ...section.calls.flatMap((one) => (one.number === null ? [] : [one.number]))]);
    expect([...shown].sort((a, b) => a - b), `seed ${seed}`).toEqual(messages.map((_, index) => index));
    expect(list.map((section) => section.number)).toEqual([...list.map((section) => section.number)].sort((a, b) => a - b));
    for (const section of list) {
      const blocks = partsOf(section).flatMap((part) => (part.kind === "call" ? [part.call.block] : part.blocks));
      expect(textOf({ ...section.message, blocks })).toBe(textOf(section.message));
      for (const { number, result: answer, block } of section.calls) {
        if (number === null) continue;
        expect(number).toBeGreaterThan(section.number);
        expect(messages[number]).toBe(answer);
        expect(answer!.call_id || "").toBe(block.call_id || "");
      }
    }
  }
});

test("a text after a call stands below it", () => {
  const turn: Message = { role: "assistant", blocks: [{ type: "reasoning", content: "1" }, text("2"), text("2b"), call("a"), text("3"), { type: "reasoning", content: "4" }, call("b")] };
  const [section] = sections(rollout([turn, result("b"), result("a")]));
  expect(partsOf(section!).map((part) => (part.kind === "call" ? part.call.block.call_id : part.blocks.map((block) => block.text ?? block.content).join("|")))).toEqual(["1|22b", "a", "3|4", "b"]);
  expect(section!.calls.map((one) => one.number)).toEqual([2, 1]);
});

test("an id that a later turn uses again belongs to the later call", () => {
  const list = sections(rollout([{ role: "assistant", blocks: [call("x")] }, { role: "assistant", blocks: [call("x")] }, result("x")]));
  expect(list.map((section) => section.calls.map((one) => one.number))).toEqual([[null], [2]]);
  const late = sections(rollout([{ role: "assistant", blocks: [call("x")] }, { role: "assistant", blocks: [call("y")] }, result("x"), result("z")]));
  expect(late.map((section) => [section.number, ...section.calls.map((one) => one.number)])).toEqual([[0, 2], [1, null], [3]]);
});

test("calls of an assistant's message that is part of the prompt are shown with their results", () => {
  const list = sections(rollout([{ role: "assistant", origin: "given", blocks: [call("p")] }, result("p"), { role: "assistant", origin: "policy", blocks: [] }]));
  expect(list.map((section) => [section.kind, section.calls.length, section.calls[0]?.number ?? null])).toEqual([["message", 1, 1], ["turn", 0, null]]);
});

test.each<[string, string, string]>([
  ["completed", "finished", "Finished"], ["completed", "message", "Finished with a message"], ["truncated", "max_steps", "Truncated: max steps"],
  ["error", "tool_failed", "Error: a tool failed"], ["cancelled", "cancelled", "Cancelled"], ["running", "", "Running"], ["error", "their_own_word", "Error: their own word"],
  ["truncated", "truncated", "Truncated"],
])("the end of %s, %s", (status, stop_reason, words) => {
  expect(endOf({ status, stop_reason })).toBe(words);
});

test("the headline is how the prompt begins, else the name, else the id", () => {
  const prompt: Message = { role: "user", blocks: [{ type: "image" }, text("  How many\n ships?\u202e ")] };
  expect(headlineOf(rollout([{ role: "system", blocks: [text("Be kind.")] }, prompt], { name: "harbour" }))).toBe("How many ships?·");
  expect(headlineOf(rollout([], { name: "harbour" }))).toBe("harbour");
  expect(headlineOf(rollout([{ role: "user", blocks: [text(" ")] }]))).toBe("Rollout abcdef12");
  expect(tabNameOf(rollout([prompt], { name: "harbour" }))).toBe("harbour");
  expect(tabNameOf(rollout([prompt]))).toBe("How many ships?·");
  expect(promptOf(rollout([prompt, { role: "user", blocks: [text("Later")] }]))).not.toContain("Later");
  expect(oneLine("\ud800".repeat(3) + "x".repeat(50), 20)).toHaveLength(20);
});

test("titles name the page", () => {
  expect(titleOf({ page: "runs" })).toBe("Runs");
  expect(titleOf({ page: "rollouts", run: "city", step: "3" })).toBe("Rollouts of step 3 – city");
  expect(titleOf({ page: "rollouts", run: "city", group: "g1" })).toBe("Group g1 – city");
  expect(titleOf({ page: "rollouts", run: "city", step: "3", group: "g1" })).toBe("Group g1 of step 3 – city");
  expect(titleOf({ page: "task", task: "lab-4" })).toBe("Task history lab-4");
  expect(titleOf({ page: "pair", left: "city/a", right: "sea/b" })).toBe("Compare city/a with sea/b");
  expect(titleOf({ page: "pair", task: "lab-4", runs: "city,sea" })).toBe("Compare two rollouts of lab-4");
  expect(titleOf({ page: "compare", runs: "a%2Cb,c" })).toBe("Compare a,b, c");
  expect(titleOf({ page: "search", run: "city", query: "fish" })).toBe("Search: fish – city");
  expect(titleOf({ page: "metrics", run: "city" })).toBe("Metrics – city");
});

test.each<[Partial<Block>, [string, string][] | null]>([
  [{ arguments: { query: "ships", n: 3 } }, [["query", '"ships"'], ["n", "3"]]],
  [{ arguments: {} }, []],
  [{ content: '{"a": 1}' }, [["a", "1"]]],
  [{ content: '{"a": 12345678901234567890}' }, null],
  [{ content: '{"a": 1, "a": 2}' }, null],
  [{ content: '{"a": ' }, null],
  [{ content: "[1]" }, null],
  [{ arguments: { command: "cd /\nls" } }, null],
  [{ arguments: { text: "a\u202eb" } }, null],
  [{ arguments: { text: "x".repeat(200) } }, null],
  [{ arguments: { "odd name": 1 } }, null],
  [{}, null],
  [{ content: "" }, null],
  [{ name: "two\nlines", arguments: {} }, null],
  [{ arguments: { text: "a\ufe0fb" } }, null],
  [{ arguments: { text: "a\u{e0041}b" } }, null],
  [{ arguments: { text: "\ud800" } }, null],
  [{ content: '{"a": "\\u0041"}' }, null],
  [{ content: '{"a": -0}' }, null],
  [{ arguments: { text: "two  blanks 👩‍🚀" } }, [["text", '"two  blanks 👩‍🚀"']]],
])("arguments in one line: %j", (block, pairs) => {
  expect(shortArguments({ type: "tool_call", name: "f", ...block })).toEqual(pairs);
});

const sampled = (prompt: number[] | null, tokens: number[] | null): Message => ({ role: "assistant", blocks: [], sampled: { prompt_token_ids: prompt, token_ids: tokens } });

test("a prompt that does not begin with what was sampled drifts at its first other token", () => {
  const user: Message = { role: "user", blocks: [] };
  expect([...driftsOf(rollout([user, sampled([1, 2], [3]), sampled([1, 2, 3, 4], [5]), sampled([1, 2, 3, 4, 5], [6])]))]).toEqual([]);
  const [[number, drift]] = [...driftsOf(rollout([user, sampled([1, 2], [3]), sampled([1, 2, 3, 4], [5, 6]), user, sampled([1, 2, 3, 4, 9, 6], [7])]))] as [[number, Drift]];
  expect([number, drift.at, drift.turn, drift.before]).toEqual([4, 4, 3, 2]);
  expect(driftWords(drift)).toBe("The prompt of turn 3 differs from turns 1–2 as sampled from token 4 on: re-rendered.");
  expect([...driftsOf(rollout([sampled([1, 2], [3, 4]), sampled([1, 2, 3], [5])])).values()].map((one) => one.at)).toEqual([3]);
  expect(driftsOf(rollout([sampled([1], null), sampled([9], [1]), sampled(null, [1]), sampled([7], [1])])).size).toBe(0);
});

test.each<[Message["sampled"], number, number]>([
  [null, 0, 0], [{}, 0, 0], [{ token_ids: [] }, 0, 0], [{ token_ids: [1, 2] }, 2, 0], [{ left_out: { tokens: 7 } }, 7, 7], [{ left_out: { tokens: null } }, 0, 0],
])("tokens that the server left out count: %j", (sampled, count, missing) => {
  const message: Message = { role: "assistant", sampled };
  expect([tokenCount(message), leftOut(message), tokensRecorded(message)]).toEqual([count, missing, count > 0]);
});

test("colours of log-probabilities", () => {
  expect([0, -0.2, -0.6, -2, -4, -9, null, "nan", undefined].map(shadeOf)).toEqual([0, 1, 2, 3, 4, 5, null, null, null]);
});

test("the time of an episode by turn", () => {
  const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
  const messages: Message[] = [
    { role: "user", blocks: [] },
    { role: "assistant", blocks: [call("a"), call("b")], started_at: at(2), ended_at: at(5) },
    { role: "tool", call_id: "a", blocks: [], started_at: at(5), ended_at: at(9) }, { role: "tool", call_id: "b", blocks: [], started_at: at(6), ended_at: at(10) },
    { role: "assistant", blocks: [], ended_at: at(14), sampled: { duration_s: 3 } },
  ];
  const one = rollout(messages, { started_at: at(0), timing: { reset_s: 2, policy_s: 7 } });
  const timeline = timelineOf(one, sections(one))!;
  expect(timeline.spans.map((span) => [span.kind, span.seconds, span.turn])).toEqual([["reset", 2, 0], ["policy", 3, 1], ["environment", 5, 1], ["gap", 1, 2], ["policy", 3, 2]]);
  expect(timeline.totals).toEqual({ reset: 2, policy: 7, environment: 5, gap: 1 });
  const none = rollout([{ role: "user", blocks: [] }, { role: "assistant", blocks: [] }]);
  expect(timelineOf(none, sections(none))).toBeNull();
  expect(covered([[0, 4], [3, 5], [8, 9]])).toBe(6);
});
