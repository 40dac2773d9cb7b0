import { expect, test } from "vitest";
import { literal, pythonOf } from "../src/python";
import type { Rollout } from "../src/types";

test("a text cannot leave its literal, nor hide in it", () => {
  expect(literal('"""\'\\ \n\r # \u2028')).toBe('"\\"\\"\\"\'\\\\ \\n\\r # \\u2028"');
  expect(literal("a\u202eb\u200bc")).toBe('"a\\u202eb\\u200bc"');
});

const rollout: Rollout = {
  id: 'x"\n1', status: "completed", environment: { name: "weather", split: "train", origin: "http://127.0.0.1:8080" },
  task: { index: 3 }, terminal_tool: { name: "answer" },
  messages: [
    { role: "user", blocks: [{ type: "text", text: "?" }] },
    { role: "assistant", blocks: [{ type: "tool_call", id: "a", name: "get", input: { city: "Oslo" } }, { type: "tool_call", id: "b", name: "get", input_text: "[1" }] },
    { role: "tool", tool_call_id: "a", blocks: [{ type: "text", text: "Rain" }] },
    { role: "assistant", blocks: [{ type: "reasoning", text: "Hm." }, { type: "text", text: "Rain." }] },
    { role: "tool", tool_call_id: "", name: "answer", blocks: [] },
  ],
};

test("a program has the task, the calls in their order and the plain message that ended it", () => {
  const program = pythonOf(rollout);
  expect(program).toContain('# The calls of the rollout "x\\"\\n1"');
  expect(program).toContain('environment.session(split="train", index=3)');
  expect(program).toContain('show(await session.call("get", json.loads("{\\"city\\":\\"Oslo\\"}")))');
  expect(program).toContain('# A call of "get" whose arguments are no JSON object reached no tool.');
  expect(program).toContain('show(await session.call_terminal("Rain."))');
});

test("a task that has a spec goes by it", () => {
  expect(pythonOf({ ...rollout, task: { index: 3, spec: { a: 1 } } })).toContain('session(task_spec=json.loads("{\\"a\\":1}"))');
});
