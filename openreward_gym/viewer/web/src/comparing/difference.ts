// The difference of two texts with a bounded cost: what they have in common at both ends, then lines, then words.

/** A part of a text, from `start` to `end`. */
export type Span = [start: number, end: number];
export interface Difference { left: Span[]; right: Span[] }

/** The largest number of edits that is looked for; texts that differ more are marked as a whole between their equal ends. */
const MAX_EDITS = 400;
const MAX_TOKENS = 40_000;
const WORDS = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;

/** The parts of two texts that differ. */
export function differenceOf(left: string, right: string): Difference {
  const { start, end } = commonEnds(left, right);
  const [a, b] = [left.slice(start, left.length - end), right.slice(start, right.length - end)];
  const found: Difference = { left: [], right: [] };
  if (!a && !b) return found;
  const byLine = a.includes("\n") || b.includes("\n");
  const changes = edits(tokens(a, byLine), tokens(b, byLine));
  for (const change of changes ?? [{ left: [0, a.length], right: [0, b.length] } as Change]) refine(a, b, change, byLine && changes !== null, start, found);
  return { left: joined(found.left), right: joined(found.right) };
}

interface Change { left: Span; right: Span }

/** Mark the words of changed lines; lines that were only added or removed are marked whole. */
function refine(a: string, b: string, { left, right }: Change, byWord: boolean, shift: number, found: Difference): void {
  const [one, other] = [a.slice(...left), b.slice(...right)];
  const inner = byWord && one && other ? edits(tokens(one, false), tokens(other, false)) : null;
  for (const change of inner ?? [{ left: [0, one.length], right: [0, other.length] } as Change]) {
    add(found.left, left[0] + shift, change.left);
    add(found.right, right[0] + shift, change.right);
  }
}

function add(list: Span[], shift: number, [start, end]: Span): void {
  if (end > start) list.push([start + shift, end + shift]);
}

function commonEnds(left: string, right: string): { start: number; end: number } {
  const most = Math.min(left.length, right.length);
  let start = 0;
  while (start < most && left.charCodeAt(start) === right.charCodeAt(start)) start += 1;
  // Back to the beginning of the word, so that whole words are marked.
  while (start > 0 && start < Math.max(left.length, right.length) && /[\p{L}\p{N}_\uD800-\uDFFF]/u.test(left[start - 1]!)) start -= 1;
  let end = 0;
  while (end < most - start && left.charCodeAt(left.length - 1 - end) === right.charCodeAt(right.length - 1 - end)) end += 1;
  while (end > 0 && /[\p{L}\p{N}_\uD800-\uDFFF]/u.test(left[left.length - end]!)) end -= 1;
  return { start, end };
}

interface Tokens { ids: Int32Array; starts: number[]; texts: string[]; length: number }

function tokens(text: string, byLine: boolean): Tokens {
  const texts = byLine ? (text.match(/[^\n]*\n|[^\n]+$/g) ?? []) : (text.match(WORDS) ?? []);
  const starts: number[] = [];
  let at = 0;
  for (const one of texts) {
    starts.push(at);
    at += one.length;
  }
  starts.push(text.length);
  return { ids: new Int32Array(texts.length), starts, texts, length: texts.length };
}

/** The changed runs of tokens, by Myers' algorithm; null if there are too many tokens or edits. */
function edits(left: Tokens, right: Tokens): Change[] | null {
  if (left.length + right.length > 2 * MAX_TOKENS) return null;
  number(left, right);
  const trace = search(left.ids, right.ids);
  if (!trace) return null;
  const pairs = matches(trace, left.length, right.length);
  const changes: Change[] = [];
  let [x, y] = [0, 0];
  for (const [i, j] of [...pairs, [left.length, right.length] as const]) {
    if (i > x || j > y) changes.push({ left: [left.starts[x]!, left.starts[i]!], right: [right.starts[y]!, right.starts[j]!] });
    [x, y] = [i + 1, j + 1];
  }
  return changes;
}

function number(...all: Tokens[]): void {
  const ids = new Map<string, number>();
  for (const list of all)
    list.texts.forEach((text, index) => {
      const id = ids.get(text) ?? ids.size;
      ids.set(text, id);
      list.ids[index] = id;
    });
}

/** The furthest points reached with 0, 1, 2, ... edits; null if more than `MAX_EDITS` are needed. */
function search(a: Int32Array, b: Int32Array): Int32Array[] | null {
  const most = Math.min(a.length + b.length, MAX_EDITS);
  const reached = new Int32Array(2 * most + 3);
  const trace: Int32Array[] = [];
  for (let edit = 0; edit <= most; edit++) {
    trace.push(reached.slice(most + 1 - edit - 1, most + 1 + edit + 2));
    for (let k = -edit; k <= edit; k += 2) {
      const at = most + 1 + k;
      let x = k === -edit || (k !== edit && reached[at - 1]! < reached[at + 1]!) ? reached[at + 1]! : reached[at - 1]! + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) {
        x += 1;
        y += 1;
      }
      reached[at] = x;
      if (x >= a.length && y >= b.length) return trace;
    }
  }
  return null;
}

/** The pairs of equal tokens on the way that `search` found. */
function matches(trace: Int32Array[], width: number, height: number): [number, number][] {
  const pairs: [number, number][] = [];
  let [x, y] = [width, height];
  for (let edit = trace.length - 1; edit >= 0; edit--) {
    const before = trace[edit]!;
    const at = (k: number) => before[k + edit + 1]!;
    const k = x - y;
    const from = k === -edit || (k !== edit && at(k - 1) < at(k + 1)) ? k + 1 : k - 1;
    const [startX, startY] = edit === 0 ? [0, 0] : [at(from), at(from) - from];
    while (x > startX && y > startY && (edit === 0 || x > startX + (from === k - 1 ? 1 : 0)) && (edit === 0 || y > startY + (from === k + 1 ? 1 : 0))) pairs.push([--x, --y]);
    [x, y] = [startX, startY];
  }
  return pairs.reverse();
}

/** Spans that touch each other as one. */
function joined(spans: Span[]): Span[] {
  const list: Span[] = [];
  for (const [start, end] of spans) {
    const last = list.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else list.push([start, end]);
  }
  return list;
}
