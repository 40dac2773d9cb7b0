import { argumentsOf, blocksOf, type Section, sections, textOf } from "../reading/rollout";
import type { Block, Message, Rollout } from "../types";

// Two rollouts turn by turn: what is the same in meaning, and where they part. An action is the calls of a turn, or its text
// if it makes none: the same tool with the same arguments is the same action, however it is written.

/** A turn, and the messages after it up to the next turn. */
export interface Step { turn: Section; after: Section[] }

/** Rollouts without their steps: the prompt (the messages before the first turn), and the steps. */
export interface Played { prompt: Section[]; steps: Step[] }

export type Verdict = "same" | "written differently" | "differs";

/** What two turns have in common: the action, the results, and in words what differs. */
export interface TurnPair { number: number; left: Step | null; right: Step | null; action: Verdict; results: Verdict; words: string[] }

export function playedOf(rollout: Rollout): Played {
  const prompt: Section[] = [];
  const steps: Step[] = [];
  for (const section of sections(rollout)) {
    if (section.kind === "turn") steps.push({ turn: section, after: [] });
    else (steps.at(-1)?.after ?? prompt).push(section);
  }
  return { prompt, steps };
}

/** The key of a rollout's task, the same as `TASK_KEY` in answers/selecting.py. */
export function taskKeyOf(rollout: Rollout): string {
  const { task, environment, group, id } = rollout;
  if (task?.id) return task.id;
  if (task?.index !== null && task?.index !== undefined) return `${environment?.name ?? ""}/${environment?.split ?? "None"}/${task.index}`;
  return group && group !== id ? group : `rollout ${id}`;
}

/** Arguments in one form: keys in order, numbers by value, no blanks between them nor at the ends of strings. */
export function canonical(block: Block): string {
  const text = typeof block.content === "string" ? block.content : null;
  let value: unknown = block.arguments;
  if (text !== null) {
    if (!text.trim()) return "{}";
    try {
      value = JSON.parse(text);
    } catch {
      return text.trim();
    }
    // A number with more digits than a double has is compared as it was written.
    if (/\d{16}/.test(text.replace(/"(?:[^"\\]|\\.)*"/g, ""))) return text.replace(/\s+/g, " ").trim();
  }
  return written(value ?? {});
}

function written(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.trimEnd());
  if (Array.isArray(value)) return `[${value.map(written).join(",")}]`;
  if (value && typeof value === "object") {
    const keys = Object.keys(value).sort();
    return `{${keys.map((key) => `${JSON.stringify(key)}:${written((value as Record<string, unknown>)[key])}`).join(",")}}`;
  }
  return Object.is(value, -0) ? "0" : String(JSON.stringify(value));
}

function callsOf(message: Message): Block[] {
  return (message.blocks ?? []).filter((block) => block.type === "tool_call");
}

function wordsOf(message: Message): string {
  return blocksOf(message).filter((block) => block.type !== "tool_call" && block.type !== "reasoning").map((block) => (block.type === "text" ? (block.text ?? "") : JSON.stringify(block))).join("\n").trim();
}

function thoughtOf(message: Message): string {
  return (message.blocks ?? []).filter((block) => block.type === "reasoning").map((block) => block.content ?? block.summary ?? "").join("\n").trim();
}

/** The action of a turn by its meaning: equal for turns with the same calls, or without calls with the same text. */
export function meaningOf(message: Message): string {
  const calls = callsOf(message);
  return calls.length ? JSON.stringify(calls.map((call) => [call.name ?? "", canonical(call)])) : `text ${wordsOf(message)}`;
}

/** Whether messages are the same by meaning, in the bytes of their texts, or not. */
export function sameTexts(left: Message[], right: Message[]): Verdict {
  const verdicts = left.map((message, index) => compareTexts(textOf(message), right[index] ? textOf(right[index]) : null));
  if (left.length !== right.length || verdicts.includes("differs")) return "differs";
  return verdicts.includes("written differently") ? "written differently" : "same";
}

function compareTexts(left: string, right: string | null): Verdict {
  if (left === right) return "same";
  if (right === null) return "differs";
  return left.trim() === right.trim() ? "written differently" : "differs";
}

/** The results of a step: those of its calls, and other messages before the next turn. */
function resultsOf(step: Step): Message[] {
  return [...step.turn.calls.flatMap((call) => (call.result ? [call.result] : [])), ...step.after.map((section) => section.message)];
}

export function compareTurns(number: number, left: Step | null, right: Step | null): TurnPair {
  if (!left || !right) return { number, left, right, action: "differs", results: "differs", words: [`${left ? "the right" : "the left"} rollout has ended`] };
  const [a, b] = [left.turn.message, right.turn.message];
  const words: string[] = [];
  const action = compareActions(a, b, words);
  const [ours, theirs] = [resultsOf(left), resultsOf(right)];
  let results = sameTexts(ours, theirs);
  if (results !== "differs" && ours.some((message, index) => Boolean(message.is_error) !== Boolean(theirs[index]!.is_error))) results = "differs";
  if (results === "differs") words.push(action === "differs" ? "other results" : "the same action has a different result");
  return { number, left, right, action, results, words };
}

function compareActions(a: Message, b: Message, words: string[]): Verdict {
  const [ours, theirs] = [callsOf(a), callsOf(b)];
  const bytes = (calls: Block[]) => JSON.stringify(calls.map((call) => [call.name ?? "", argumentsOf(call)]));
  const sameWords = wordsOf(a) === wordsOf(b);
  let verdict: Verdict = "same";
  if (meaningOf(a) !== meaningOf(b)) {
    verdict = "differs";
    words.push(...differencesOf(ours, theirs, sameWords));
  } else {
    if (bytes(ours) !== bytes(theirs)) {
      verdict = "written differently";
      words.push(`same ${ours.length === 1 ? "call" : "calls"}, written differently`);
    } else if (ours.length && !sameWords) {
      verdict = "written differently";
      words.push(`same ${ours.length === 1 ? "call" : "calls"}, other words beside it`);
    } else if (!ours.length && textOf({ ...a, blocks: withoutReasoning(a) }) !== textOf({ ...b, blocks: withoutReasoning(b) })) {
      verdict = "written differently";
      words.push("same text, other blanks at the ends");
    }
    if (thoughtOf(a) !== thoughtOf(b)) {
      verdict = "written differently";
      words.push(words.length ? "other reasoning" : "same action, other reasoning");
    }
  }
  return verdict;
}

const withoutReasoning = (message: Message) => (message.blocks ?? []).filter((block) => block.type !== "reasoning");

/** In words, how the actions of two turns differ. */
function differencesOf(ours: Block[], theirs: Block[], sameWords: boolean): string[] {
  if (!ours.length && !theirs.length) return ["another text"];
  if (!ours.length || !theirs.length) return [`only the ${ours.length ? "left" : "right"} one calls a tool`];
  const words: string[] = [];
  if (ours.length !== theirs.length) words.push(`${ours.length} against ${theirs.length} calls`);
  for (let index = 0; index < Math.min(ours.length, theirs.length); index++) {
    const [one, other] = [ours[index]!, theirs[index]!];
    if (one.name !== other.name) words.push(`another tool: ${one.name ?? ""} and ${other.name ?? ""}`);
    else if (canonical(one) !== canonical(other)) words.push(`other arguments of ${one.name ?? "the call"}${argumentNames(one, other)}`);
  }
  if (!sameWords) words.push("other words");
  return words;
}

function argumentNames(one: Block, other: Block): string {
  const [left, right] = [objectOf(one), objectOf(other)];
  if (!left || !right) return "";
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])].filter((name) => written(left[name] ?? null) !== written(right[name] ?? null));
  return names.length && names.length < 6 ? `: ${names.join(", ")}` : "";
}

function objectOf(block: Block): Record<string, unknown> | null {
  let value: unknown = block.arguments;
  if (typeof block.content === "string")
    try {
      value = JSON.parse(block.content);
    } catch {
      return null;
    }
  return value && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
}

/** The turns of two rollouts, aligned by their number. */
export function alignTurns(left: Played, right: Played): TurnPair[] {
  return Array.from({ length: Math.max(left.steps.length, right.steps.length) }, (_, index) => compareTurns(index + 1, left.steps[index] ?? null, right.steps[index] ?? null));
}

/** Where two rollouts part: the index of the first turn that differs in its action or its results, and of the first other action; -1 if none does. */
export function partingOf(turns: TurnPair[]): { first: number; action: number } {
  return { first: turns.findIndex((turn) => turn.action === "differs" || turn.results === "differs"), action: turns.findIndex((turn) => turn.action === "differs") };
}

/** The parting in words. */
export function partingText(turns: TurnPair[]): string {
  const { first, action } = partingOf(turns);
  if (first < 0) {
    const other = turns.filter((turn) => turn.action !== "same" || turn.results !== "same").length;
    return other ? `The transcripts are the same in meaning; ${other === 1 ? "one turn is" : `${other} turns are`} written differently.` : "The transcripts are the same.";
  }
  const turn = turns[first]!;
  const text = `The transcripts part at turn ${turn.number}: ${turn.words.join("; ")}.`;
  return action > first ? `${text} The actions part at turn ${turns[action]!.number}.` : text;
}
