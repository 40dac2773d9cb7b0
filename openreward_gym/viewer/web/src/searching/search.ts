import { isTurn } from "../reading/rollout";
import { isEmpty, parseQuery, patternFor, patternOf, type Query } from "./query";
import type { Block, Card, Message, Opened } from "../types";

export { patternOf };

// Search in the rollouts of a shared file, as answers/searching.py does it on the server.

const CONTEXT = 80;
const MAX_MATCH = 200;
const MAX_COUNT = 1_000;
const MAX_SNIPPETS = 3;
const MAX_MATCHES = 200;

/** A message with hits (-1: the rollout's own error), the number of hits in it, and the first with its surroundings. */
export interface Snippet { message: number; role: string; turn: number; tool: string; count: number; before: string; match: string; after: string }

/** The hits of a rollout: their number, the number of messages with one, and the first of these messages. */
export interface Found { count: number; messages: number; roles: Record<string, number>; snippets: Snippet[] }

export interface Hit extends Card, Found { run: string }
export interface SearchResult { hits: Hit[]; searched: number; total: number; next: number | null }
/** All hits of one rollout; `matches` are the different texts that were matched. */
export interface HitsOf extends Found { matches: string[] }

interface Text { message: number; role: string; turn: number; tool: string; text: string }

/** The texts of JSON arguments: names and values, without escapes. */
function leaves(value: unknown): string[] {
  const texts: string[] = [];
  const pending = [value];
  while (pending.length) {
    const item = pending.pop();
    if (Array.isArray(item)) pending.push(...[...item].reverse());
    else if (item && typeof item === "object") pending.push(...Object.entries(item).flat().reverse());
    else texts.push(typeof item === "string" ? item : String(JSON.stringify(item)));
  }
  return texts;
}

function textsOf(block: Block): string[] {
  const plain = [block.text, block.content, block.summary, block.name].filter((text): text is string => typeof text === "string" && text !== "");
  return typeof block.content !== "string" && block.arguments && typeof block.arguments === "object" ? [...plain, ...leaves(block.arguments)] : plain;
}

function selected(opened: Opened, query: Query): Text[] {
  const texts: Text[] = [];
  const names = new Map<string, string>();
  let turn = 0;
  if (opened.rollout.error && !query.roles.length && !query.tools.length) texts.push({ message: -1, role: "error", turn: 0, tool: "", text: opened.rollout.error });
  (opened.rollout.messages ?? []).forEach((message: Message, number) => {
    if (isTurn(message)) turn += 1;
    const blocks = message.blocks ?? [];
    for (const block of blocks) if (block.type === "tool_call" && block.call_id) names.set(block.call_id, block.name ?? "");
    if (query.errors && !(message.role === "tool" && message.is_error)) return;
    const own = message.role === "tool" ? message.name || (names.get(message.call_id ?? "") ?? "") : "";
    for (const block of blocks) {
      const role = block.type === "reasoning" ? "reasoning" : message.role;
      const tool = block.type === "tool_call" ? (block.name ?? "") : own;
      if (query.roles.length && !query.roles.includes(role) && !query.roles.includes(message.role)) continue;
      if (query.tools.length && !query.tools.includes(tool.toLowerCase())) continue;
      for (const text of textsOf(block)) texts.push({ message: number, role, turn, tool, text });
    }
  });
  return texts;
}

/** The hits of a query in one rollout; null unless it has all words. */
export function hitsIn(opened: Opened, query: Query): HitsOf | null {
  if (isEmpty(query)) return null;
  const texts = selected(opened, query);
  if (!query.words.map((word) => patternFor([word])).every((one) => texts.some((text) => text.text.search(one) >= 0))) return null;
  const any = query.expression ?? (query.words.length ? patternFor(query.words) : null);
  const found = new Map<number, Snippet>();
  const roles: Record<string, number> = {};
  const matches = new Set<string>();
  for (const one of texts) {
    const known = found.get(one.message);
    let [count, first] = [0, null as RegExpMatchArray | null];
    if (any)
      for (const match of one.text.matchAll(any)) {
        if (!match[0]) continue;
        first ??= match;
        if (matches.size < MAX_MATCHES) matches.add(match[0].slice(0, MAX_MATCH));
        if (++count >= MAX_COUNT) break;
      }
    else if (!known) count = 1;
    if (!count) continue;
    roles[one.role] = (roles[one.role] ?? 0) + count;
    if (known) known.count += count;
    else found.set(one.message, { message: one.message, role: one.role, turn: one.turn, tool: one.tool, count, ...around(one.text, first?.index ?? 0, first?.[0] ?? "") });
  }
  if (!found.size) return null;
  const snippets = [...found.values()].sort((a, b) => a.message - b.message);
  return { count: Object.values(roles).reduce((sum, count) => sum + count, 0), messages: snippets.length, roles, snippets, matches: [...matches] };
}

/** The rollouts with all words of the query. `cardOf` gives a rollout's card. */
export function find(all: Opened[], text: string, regex: boolean, cardOf: (opened: Opened) => Card): SearchResult {
  const query = parseQuery(text, regex);
  const hits = all.flatMap((opened) => {
    const found = hitsIn(opened, query);
    if (!found) return [];
    const { matches: _, ...rest } = found;
    return [{ ...cardOf(opened), run: opened.run, ...rest, snippets: found.snippets.slice(0, MAX_SNIPPETS) }];
  });
  return { hits, searched: all.length, total: all.length, next: null };
}

function around(text: string, start: number, match: string): Pick<Snippet, "before" | "match" | "after"> {
  const end = start + Math.min(match.length, MAX_MATCH);
  const more = match ? CONTEXT : 2 * CONTEXT;
  return { before: text.slice(Math.max(0, start - CONTEXT), start).toWellFormed(), match: text.slice(start, end).toWellFormed(), after: text.slice(end, end + more).toWellFormed() };
}
