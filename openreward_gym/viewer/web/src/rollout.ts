import { finite } from "./figures";
import type { Block, Message, Num, Rollout } from "./types";

/** A call with the message that answers it, found by its id. */
export interface Call { block: Block; result: Message | null; number: number | null }

export interface Section { kind: "message" | "turn"; message: Message; number: number; turn: number; calls: Call[]; earned: Num; total: number | null }

/** The messages as sections in their order: results stand with the calls they answer, others alone. */
export function sections(rollout: Rollout): Section[] {
  const messages = rollout.messages ?? [];
  const answered = new Set<number>();
  const found: Section[] = [];
  let turn = 0;
  let total: number | null = null;
  messages.forEach((message, number) => {
    if (answered.has(number)) return;
    const calls: Call[] = [];
    const rewards: Num[] = [message.reward ?? null];
    if (message.role === "assistant") {
      turn += 1;
      for (const block of message.blocks ?? []) if (block.type === "tool_call") calls.push(answer(block, messages, number, answered));
      for (const call of calls) rewards.push(call.result?.reward ?? null);
    }
    const given = rewards.filter((value) => value !== null);
    const earned = given.length === 1 ? given[0]! : given.length ? given.reduce<number>((sum, value) => sum + (finite(value) ?? NaN), 0) : null;
    if (finite(earned) !== null) total = (total ?? 0) + (earned as number);
    found.push({ kind: message.role === "assistant" ? "turn" : "message", message, number, turn: message.role === "assistant" ? turn : 0, calls, earned, total });
  });
  return found;
}

/** The section in which the message of that number stands. */
export function sectionOf(list: Section[], number: number): number {
  const exact = list.findIndex((section) => section.number === number || section.calls.some((call) => call.number === number));
  return exact >= 0 ? exact : list.findLastIndex((section) => section.number <= number);
}

function answer(block: Block, messages: Message[], from: number, answered: Set<number>): Call {
  for (let number = from + 1; number < messages.length; number++) {
    const message = messages[number]!;
    if (message.role === "assistant") {
      // A result may be late, but not one without an id.
      if (!block.id) break;
      continue;
    }
    if (message.role === "tool" && !answered.has(number) && (block.id ? message.tool_call_id === block.id : !message.tool_call_id)) {
      answered.add(number);
      return { block, result: message, number };
    }
  }
  return { block, result: null, number: null };
}

export function textOf(message: Message): string {
  return (message.blocks ?? []).map((block) => blockText(block)).filter(Boolean).join("\n");
}

export function argumentsOf(block: Block): string {
  if (typeof block.input_text === "string") return block.input_text;
  return block.input === undefined || block.input === null ? "" : JSON.stringify(block.input);
}

export function blockText(block: Block): string {
  switch (block.type) {
    case "text": return block.text ?? "";
    case "reasoning": return block.text ?? block.summary ?? "";
    case "tool_call": return `${block.name ?? ""}(${argumentsOf(block)})`;
    case "image": return `[image ${block.mimeType ?? "image/png"}]`;
    default: return JSON.stringify(block);
  }
}

/** The whole sample as one string. */
export function raw(rollout: Rollout): string {
  return (rollout.messages ?? [])
    .map((message) => {
      const about = [message.tool_call_id && `call ${message.tool_call_id}`, message.is_error && "error", message.reward != null && `reward ${message.reward}`, message.finished && "finished"].filter(Boolean);
      const body = (message.blocks ?? [])
        .map((block) => {
          if (block.type === "reasoning") return `<reasoning>\n${blockText(block)}\n</reasoning>`;
          if (block.type === "tool_call") return `<tool_call id="${block.id ?? ""}" name="${block.name ?? ""}">\n${argumentsOf(block)}\n</tool_call>`;
          return blockText(block);
        })
        .join("\n");
      return `<|${message.role}${about.length ? ` ${about.join(", ")}` : ""}|>\n${body}`;
    })
    .join("\n\n");
}

/** Tokens of a message: those that were observed, or a guess from its length, which says so. */
export function tokensOf(message: Message, text: string): { count: number; guessed: boolean } {
  const observed = message.role === "assistant" ? message.usage?.output_tokens ?? message.token_ids?.length : message.token_ids?.length;
  if (typeof observed === "number") return { count: observed, guessed: false };
  return { count: Math.round(text.length / 4), guessed: true };
}

export function durationOf(started?: string | null, ended?: string | null): number | null {
  if (!started || !ended) return null;
  const value = (Date.parse(ended) - Date.parse(started)) / 1000;
  return Number.isFinite(value) ? value : null;
}

/** What an action is, for comparing samples: its text and its calls, in one line each. */
export function actionOf(message: Message): string {
  return (message.blocks ?? []).filter((block) => block.type !== "reasoning").map(blockText).join("\n").trim();
}

/** How many turns all the samples begin with in the same way. */
export function commonTurns(all: string[][]): number {
  if (!all.length) return 0;
  let count = 0;
  while (all.every((turns) => count < turns.length && turns[count] === all[0]![count])) count += 1;
  return count;
}
