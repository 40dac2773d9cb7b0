import { isTurn } from "../reading/rollout";
import type { Block, Num, Opened } from "../types";

const CONTEXT = 80;
const MAX_MATCH = 200;

/** A message with hits: its place, the number of hits, and the first hit with its surroundings. */
export interface MessageHit {
  run: string; id: string; step: number | null; group: string; discarded: boolean; name: string; reward: Num;
  order: number; message: number; role: string; turn: number; count: number; before: string; match: string; after: string;
}

/** The words of a query; double quotes enclose a phrase. */
export function wordsOf(query: string): string[] {
  const words = query.split('"').flatMap((part, index) => (index % 2 ? [part] : part.split(/\s+/)));
  return [...new Set(words.filter((word) => word.trim()))];
}

function patternFor(words: string[]): RegExp {
  const longest = [...words].sort((a, b) => b.length - a.length);
  return new RegExp(longest.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|"), "giu");
}

/** A pattern that matches any word of the query and ignores case; null for a query without words. */
export function patternOf(query: string): RegExp | null {
  const words = wordsOf(query);
  return words.length ? patternFor(words) : null;
}

function textsOf(block: Block): string[] {
  const json = block.content ?? (block.arguments === undefined || block.arguments === null ? null : JSON.stringify(block.arguments));
  return [block.text, block.summary, block.name, json].filter((text): text is string => typeof text === "string");
}

/** The messages with a word of the query, in rollouts that contain all of its words, in the order of the rollouts. */
export function find(all: Opened[], query: string): MessageHit[] {
  const words = wordsOf(query);
  if (!words.length) return [];
  const any = patternFor(words);
  const each = words.map((word) => patternFor([word]));
  return all.flatMap((opened, order) => {
    const missing = new Set(each);
    const hits: MessageHit[] = [];
    let turn = 0;
    (opened.rollout.messages ?? []).forEach((message, number) => {
      if (isTurn(message)) turn += 1;
      let first: Pick<MessageHit, "before" | "match" | "after"> | null = null;
      let count = 0;
      for (const text of (message.blocks ?? []).flatMap(textsOf)) {
        any.lastIndex = 0;
        for (let match = any.exec(text); match; match = any.exec(text)) {
          count += 1;
          first ??= around(text, match.index, match[0]);
        }
        for (const one of missing) if (text.search(one) >= 0) missing.delete(one);
      }
      if (!first) return;
      const { rollout, place } = opened;
      hits.push({
        run: opened.run, id: rollout.id, step: place.step, group: place.group, discarded: place.discarded,
        name: rollout.name || (rollout.sample != null ? `sample ${rollout.sample}` : rollout.id), reward: rollout.reward ?? null,
        order, message: number, role: message.role, turn, count, ...first,
      });
    });
    return missing.size ? [] : hits;
  });
}

function around(text: string, start: number, match: string): Pick<MessageHit, "before" | "match" | "after"> {
  const end = start + match.length;
  return { before: text.slice(Math.max(0, start - CONTEXT), start).toWellFormed(), match: match.slice(0, MAX_MATCH), after: text.slice(end, end + CONTEXT).toWellFormed() };
}
