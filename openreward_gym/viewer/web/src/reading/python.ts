import { argumentsOf, sections, textOf } from "./rollout";
import type { Rollout } from "../types";

// Bidirectional controls and invisible characters must not hide in a program.
const HIDDEN = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A text as a Python literal. JSON's escapes are valid in Python. */
export function literal(text: string): string {
  return JSON.stringify(text).replace(HIDDEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function parsedJson(value: unknown): string {
  return `json.loads(${literal(typeof value === "string" ? value : JSON.stringify(value))})`;
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** A Python program that makes the calls of a rollout again, in a new session of its task. */
export function pythonOf(rollout: Rollout): string {
  const { environment = {}, task = {} } = rollout;
  const taskArguments = task.spec !== null && task.spec !== undefined
    ? `task_spec=${parsedJson(task.spec)}`
    : `split=${literal(environment.split ?? "train")}, index=${Number.isInteger(task.index) ? task.index : 0}`;
  const lines: string[] = [];
  const all = sections(rollout);
  all.forEach((section, index) => {
    if (section.kind !== "turn") return;
    for (const call of section.calls) {
      const json = argumentsOf(call.block) || "{}";
      if (isObject(json)) lines.push(`show(await session.call(${literal(call.block.name ?? "")}, ${parsedJson(json)}))`);
      else lines.push(`# A call of ${literal(call.block.name ?? "")} is left out: its arguments were not a JSON object.`);
    }
    const next = all[index + 1];
    if (!section.calls.length && rollout.terminal_tool && next?.message.role === "tool") {
      const answer = (section.message.blocks ?? []).filter((block) => block.type === "text").map((block) => block.text ?? "").join("");
      lines.push(`show(await session.call_terminal(${literal(answer || textOf(section.message))}))`);
    }
  });
  return `# The calls of the rollout ${literal(rollout.id)}, made again. Needs: pip install openreward-gym
import asyncio
import json

from openreward_gym import Client

BASE_URL = ${environment.origin ? literal(environment.origin) : "None"}


def show(output):
    print(output.text)
    print(f"reward {output.reward}" + (", finished" if output.finished else ""))


async def main():
    async with Client(BASE_URL) as client:
        environment = client.environment(${literal(environment.name ?? "")}${environment.variant ? `, ${literal(environment.variant)}` : ""})
        async with environment.session(${taskArguments}) as session:
            for message in await session.messages():
                print(message)
${lines.map((line) => `            ${line}`).join("\n")}${lines.length ? "\n" : ""}

asyncio.run(main())
`;
}
