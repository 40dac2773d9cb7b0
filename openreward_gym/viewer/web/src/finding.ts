import type { Block, Num, Opened } from "./types";

const AROUND = 80;
const LONGEST = 200;

/** A message that has what is looked for: where it is, how often, and the first place with what is around it. */
export interface Found {
  run: string; id: string; step: number | null; group: string; discarded: boolean; name: string; reward: Num;
  order: number; message: number; role: string; turn: number; count: number; before: string; match: string; after: string;
}

/** The words of a query; what stands in double quotes belongs together. */
export function wordsOf(query: string): string[] {
  const found = query.split('"').flatMap((part, index) => (index % 2 ? [part] : part.split(/\s+/)));
  return [...new Set(found.filter((word) => word.trim()))];
}

function patternFor(words: string[]): RegExp {
  const longest = [...words].sort((a, b) => b.length - a.length);
  return new RegExp(longest.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|"), "giu");
}

/** Finds any of the query's words without regard to case; null where it has none. */
export function patternOf(query: string): RegExp | null {
  const words = wordsOf(query);
  return words.length ? patternFor(words) : null;
}

function textsOf(block: Block): string[] {
  const given = block.input_text ?? (block.input === undefined || block.input === null ? null : JSON.stringify(block.input));
  return [block.text, block.summary, block.name, given].filter((text): text is string => typeof text === "string");
}

/** Messages with a word of the query, of rollouts that have all of its words, in the order of the rollouts. */
export function find(all: Opened[], query: string): Found[] {
  const words = wordsOf(query);
  if (!words.length) return [];
  const any = patternFor(words);
  const each = words.map((word) => patternFor([word]));
  return all.flatMap((opened, order) => {
    const missing = new Set(each);
    const found: Found[] = [];
    let turn = 0;
    (opened.rollout.messages ?? []).forEach((message, number) => {
      if (message.role === "assistant") turn += 1;
      let first: Pick<Found, "before" | "match" | "after"> | null = null;
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
      found.push({
        run: opened.run, id: rollout.id, step: place.step, group: place.group, discarded: place.discarded,
        name: rollout.name || (rollout.sample != null ? `sample ${rollout.sample}` : rollout.id), reward: rollout.reward ?? null,
        order, message: number, role: message.role, turn, count, ...first,
      });
    });
    return missing.size ? [] : found;
  });
}

function around(text: string, start: number, match: string): Pick<Found, "before" | "match" | "after"> {
  const end = start + match.length;
  return { before: text.slice(Math.max(0, start - AROUND), start).toWellFormed(), match: match.slice(0, LONGEST), after: text.slice(end, end + AROUND).toWellFormed() };
}
