import { expect, test } from "vitest";
import { literal, pythonOf } from "../src/reading/python";
import type { Rollout } from "../src/types";

test("a text cannot end its literal or hide in it", () => {
  expect(literal('"""\'\\ \n\r # \u2028')).toBe('"\\"\\"\\"\'\\\\ \\n\\r # \\u2028"');
  expect(literal("a\u202eb\u200bc")).toBe('"a\\u202eb\\u200bc"');
});

const rollout: Rollout = {
  id: 'x"\n1', status: "completed", environment: { name: "weather", split: "train", origin: "http://127.0.0.1:8080" },
  task: { index: 3 }, terminal_tool: { name: "answer" },
  messages: [
    { role: "user", blocks: [{ type: "text", text: "?" }] },
    { role: "assistant", blocks: [{ type: "tool_call", call_id: "a", name: "get", arguments: { city: "Oslo" } }, { type: "tool_call", call_id: "b", name: "get", content: "[1" }] },
    { role: "tool", call_id: "a", blocks: [{ type: "text", text: "Rain" }] },
    { role: "assistant", blocks: [{ type: "reasoning", content: "Hm." }, { type: "text", text: "Rain." }] },
    { role: "tool", call_id: "", name: "answer", blocks: [] },
  ],
};

test("a program has the task, the calls in their order and the plain message that ended the episode", () => {
  const program = pythonOf(rollout);
  expect(program).toContain('# The calls of the rollout "x\\"\\n1"');
  expect(program).toContain('environment.session(split="train", index=3)');
  expect(program).toContain('show(await session.call("get", json.loads("{\\"city\\":\\"Oslo\\"}")))');
  expect(program).toContain('# A call of "get" is left out: its arguments were not a JSON object.');
  expect(program).toContain('show(await session.call_terminal("Rain."))');
});

test("a task with a spec is opened by its spec", () => {
  expect(pythonOf({ ...rollout, task: { index: 3, spec: { a: 1 } } })).toContain('session(task_spec=json.loads("{\\"a\\":1}"))');
});
