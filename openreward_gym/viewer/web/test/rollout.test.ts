import { expect, test } from "vitest";
import { blocksOf, notesOf, raw, textOf } from "../src/reading/rollout";
import type { Message } from "../src/types";

const text = (value: string) => ({ type: "text", text: value });

test("the texts of an assistant are joined by nothing, also in the raw sample", () => {
  const message: Message = { role: "assistant", blocks: [{ type: "reasoning", content: "Hm." }, text("The sum "), text("is 4"), { type: "tool_call", name: "add", content: "{}" }, text(".")] };
  expect(blocksOf(message).map((block) => block.text ?? block.type)).toEqual(["reasoning", "The sum is 4", "tool_call", "."]);
  expect(textOf(message)).toContain("The sum is 4\n");
  expect(raw({ id: "a", status: "completed", messages: [message] })).toContain("The sum is 4\n");
  expect(textOf({ role: "user", blocks: [text("One."), text("Two.")] })).toBe("One.\nTwo.");
});

test.each<[Message, string[]]>([
  [{ role: "assistant", origin: "given" }, ["given"]],
  [{ role: "user", origin: "given" }, []],
  [{ role: "user", origin: "environment" }, ["environment"]],
  [{ role: "tool", origin: "client" }, ["client"]],
  [{ role: "tool", origin: "environment" }, []],
  [{ role: "assistant", origin: "policy", weight: 0, ended: "stop" }, ["weight 0"]],
  [{ role: "assistant", origin: "policy", weight: 0.5, ended: "refusal", sampled: { stop_reason: "end_turn" } }, ["weight 0.5", "ended: refusal"]],
  [{ role: "assistant", origin: "policy", ended: "length", sampled: { stop_reason: "length" } }, []],
  [{ role: "assistant" }, []],
])("notes of %j", (message, notes) => {
  expect(notesOf(message).map(([note]) => note)).toEqual(notes);
});
