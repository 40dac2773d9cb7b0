import { finite } from "../numbers";
import { stringifyExact } from "../text/exact";
import type { Block, Message, Num, Rollout } from "../types";

/** A call, and the message with its result, matched by the call's id. */
export interface Call { block: Block; result: Message | null; number: number | null }

export interface Section { kind: "message" | "turn"; message: Message; number: number; turn: number; calls: Call[]; earned: Num; total: number | null }

/** Whether the policy produced the message, as far as the record tells: an assistant message of the prompt is no turn. */
export function isTurn(message: Message): boolean {
  return message.role === "assistant" && (message.origin ?? "policy") === "policy";
}

/**
 * Group the messages into sections, in their order. A result stands with its call, whenever it comes; each message is in one
 * section, once.
 */
export function sections(rollout: Rollout): Section[] {
  const list: Section[] = [];
  let turn = 0;
  (rollout.messages ?? []).forEach((message, number) => {
    if (message.role === "tool") {
      const call = callOf(message, list);
      if (call) {
        call.result = message;
        call.number = number;
        return;
      }
    }
    const calls = (message.blocks ?? []).filter((block) => block.type === "tool_call").map((block): Call => ({ block, result: null, number: null }));
    if (isTurn(message)) turn += 1;
    list.push({ kind: isTurn(message) ? "turn" : "message", message, number, turn: isTurn(message) ? turn : 0, calls, earned: null, total: null });
  });
  return withRewards(list);
}

/**
 * The call that a tool's message answers: of the last message with an open call of that id, the first such call. A message
 * without an id answers the first open call without one of the last message with calls.
 */
function callOf(message: Message, before: Section[]): Call | undefined {
  for (let index = before.length - 1; index >= 0; index--) {
    const { calls, message: caller } = before[index]!;
    const found = calls.find((call) => !call.result && (call.block.call_id || "") === (message.call_id || ""));
    if (found) return found;
    if (!message.call_id && (calls.length || caller.role === "assistant")) return undefined;
  }
  return undefined;
}

function withRewards(list: Section[]): Section[] {
  let total: number | null = null;
  for (const section of list) {
    const known = [section.message.reward ?? null, ...section.calls.map((call) => call.result?.reward ?? null)].filter((value) => value !== null);
    section.earned = known.length === 1 ? known[0]! : known.length ? known.reduce<number>((sum, value) => sum + (finite(value) ?? NaN), 0) : null;
    if (finite(section.earned) !== null) total = (total ?? 0) + (section.earned as number);
    section.total = total;
  }
  return list;
}

/** A part of a section: blocks that follow each other, or a call with its result. */
export type Part = { kind: "blocks"; blocks: Block[] } | { kind: "call"; call: Call };

/** What a section shows, in recorded order: each call stands where it was made. */
export function partsOf(section: Section): Part[] {
  const parts: Part[] = [];
  let next = 0;
  for (const block of blocksOf(section.message)) {
    const last = parts.at(-1);
    const call = block.type === "tool_call" ? section.calls[next++] : undefined;
    if (call) parts.push({ kind: "call", call });
    else if (last?.kind === "blocks") last.blocks.push(block);
    else parts.push({ kind: "blocks", blocks: [block] });
  }
  return parts;
}

/** The index of the section that contains the message of that number. */
export function sectionOf(list: Section[], number: number): number {
  const exact = list.findIndex((section) => section.number === number || section.calls.some((call) => call.number === number));
  return exact >= 0 ? exact : list.findLastIndex((section) => section.number <= number);
}

/** The blocks of a message. The texts of an assistant that follow each other are one, because they were sampled so. */
export function blocksOf(message: Message): Block[] {
  const blocks: Block[] = [];
  for (const block of message.blocks ?? []) {
    const last = blocks.at(-1);
    if (message.role === "assistant" && block.type === "text" && last?.type === "text") blocks[blocks.length - 1] = { ...last, text: (last.text ?? "") + (block.text ?? "") };
    else blocks.push(block);
  }
  return blocks;
}

/** Facts about a message that its role does not tell, each with an explanation: another origin, a weight, an unusual end. */
export function notesOf(message: Message): [string, string][] {
  const notes: [string, string][] = [];
  if (message.origin === "given" && message.role === "assistant") notes.push(["given", "Part of the prompt or the history. The model did not write it, and no export trains it."]);
  if (message.origin === "environment" && message.role === "user") notes.push(["environment", "Written by the environment during the episode."]);
  if (message.origin === "client") notes.push(["client", "Written by openreward-gym. The environment was not called."]);
  if (isTurn(message) && message.weight !== null && message.weight !== undefined) {
    notes.push([`weight ${message.weight}`, message.weight === 0 ? "No export trains this turn." : "The weight of this turn in a training loss."]);
  }
  if (message.ended && !["stop", "tool_calls", message.sampled?.stop_reason].includes(message.ended)) notes.push([`ended: ${message.ended}`, "How the sampling of this turn ended."]);
  return notes;
}

export function textOf(message: Message): string {
  return blocksOf(message).map((block) => blockText(block)).filter(Boolean).join("\n");
}

export function argumentsOf(block: Block): string {
  if (typeof block.content === "string") return block.content;
  return block.arguments === undefined || block.arguments === null ? "" : stringifyExact(block.arguments);
}

export function blockText(block: Block): string {
  switch (block.type) {
    case "text": return block.text ?? "";
    case "reasoning": return block.content ?? block.summary ?? "";
    case "tool_call": return `${block.name ?? ""}(${argumentsOf(block)})`;
    case "image": return `[image ${block.mimeType ?? "image/png"}]`;
    default: return JSON.stringify(block);
  }
}

/** The sample as one string. */
export function raw(rollout: Rollout): string {
  return (rollout.messages ?? [])
    .map((message) => {
      const about = [message.call_id && `call ${message.call_id}`, message.is_error && "error", message.reward != null && `reward ${message.reward}`, message.finished && "finished"].filter(Boolean);
      const body = blocksOf(message)
        .map((block) => {
          if (block.type === "reasoning") return `<reasoning>\n${blockText(block)}\n</reasoning>`;
          if (block.type === "tool_call") return `<tool_call id="${block.call_id ?? ""}" name="${block.name ?? ""}">\n${argumentsOf(block)}\n</tool_call>`;
          return blockText(block);
        })
        .join("\n");
      return `<|${message.role}${about.length ? ` ${about.join(", ")}` : ""}|>\n${body}`;
    })
    .join("\n\n");
}

/** The number of tokens of a message: as recorded, or estimated from its length. */
export function tokensOf(message: Message, text: string): { count: number; estimated: boolean } {
  const recorded = message.sampled?.usage?.output_tokens ?? message.sampled?.token_ids?.length ?? message.sampled?.left_out?.tokens;
  if (typeof recorded === "number") return { count: recorded, estimated: false };
  return { count: Math.round(text.length / 4), estimated: true };
}

export function durationOf(started?: string | null, ended?: string | null): number | null {
  if (!started || !ended) return null;
  const value = (Date.parse(ended) - Date.parse(started)) / 1000;
  return Number.isFinite(value) ? value : null;
}

/** The action of a turn, for comparing samples: its text and its calls. */
export function actionOf(message: Message): string {
  return (message.blocks ?? []).filter((block) => block.type !== "reasoning").map(blockText).join("\n").trim();
}

/** The number of turns with which all samples begin. */
export function commonTurns(all: string[][]): number {
  if (!all.length) return 0;
  let count = 0;
  while (all.every((turns) => count < turns.length && turns[count] === all[0]![count])) count += 1;
  return count;
}
