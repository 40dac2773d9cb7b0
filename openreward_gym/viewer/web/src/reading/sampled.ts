import { finite } from "../numbers";
import { isTurn } from "./rollout";
import type { Message, Rollout } from "../types";

// What is known of the sampled tokens: which are trained, how probable they were, and where a prompt is not what was sampled before.

/** Where the prompt of a turn differs from the prompt and the tokens of the turns before it: the first such token, counted from 0. */
export interface Drift { at: number; turn: number; before: number; expected: number; found: number }

/** The number of recorded sampled tokens, whether they are here or were left out by the server. */
export function tokenCount(message: Message): number {
  return message.sampled?.token_ids?.length ?? leftOut(message);
}

export function tokensRecorded(message: Message): boolean {
  return tokenCount(message) > 0;
}

/** The number of the sampled tokens that are recorded and not here. */
export function leftOut(message: Message): number {
  return message.sampled?.left_out?.tokens ?? 0;
}

/** Whether training with the recorded weights trains the message: the policy's turns, unless their weight is 0. */
export function isTrained(message: Message): boolean {
  return isTurn(message) && message.weight !== 0;
}

/** The drifts of a rollout, by the number of the message whose prompt differs. */
export function driftsOf(rollout: Rollout): Map<number, Drift> {
  const drifts = new Map<number, Drift>();
  let before: { ids: number[][]; turn: number } | null = null;
  let turn = 0;
  (rollout.messages ?? []).forEach((message, number) => {
    if (!isTurn(message)) return;
    turn += 1;
    const { prompt_token_ids: prompt, token_ids: sampled } = message.sampled ?? {};
    if (!prompt) {
      before = null;
      return;
    }
    if (before) {
      const expected = before.ids[0]!.length + before.ids[1]!.length;
      const at = firstDifference(before.ids, prompt);
      if (at < expected) drifts.set(number, { at, turn, before: before.turn, expected, found: prompt.length });
    }
    before = sampled ? { ids: [prompt, sampled], turn } : null;
  });
  return drifts;
}

function firstDifference([prompt, sampled]: number[][], found: number[]): number {
  const expected = prompt!.length + sampled!.length;
  for (let at = 0; at < expected; at++) {
    if (found[at] !== (at < prompt!.length ? prompt![at] : sampled![at - prompt!.length])) return at;
  }
  return expected;
}

/** The drift in words. */
export function driftWords(drift: Drift): string {
  const turns = drift.before === 1 ? "turn 1" : `turns 1–${drift.before}`;
  return `The prompt of turn ${drift.turn} differs from ${turns} as sampled from token ${drift.at.toLocaleString("en")} on: re-rendered.`;
}

/** The class of a token by its log-probability: 0 (certain) to 5 (probability below 1 %); null where none is known. */
export function shadeOf(logprob: unknown): number | null {
  const value = finite(logprob as never);
  if (value === null) return null;
  const limits = [0.9, 0.7, 0.4, 0.1, 0.01];
  const found = limits.findIndex((limit) => Math.exp(value) >= limit);
  return found < 0 ? 5 : found;
}

/** The mean of the log-probabilities that are known. */
export function meanLogprob(message: Message): number | null {
  const known = (message.sampled?.logprobs ?? []).map(finite).filter((value): value is number => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
