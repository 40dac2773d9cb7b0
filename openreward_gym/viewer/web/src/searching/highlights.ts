import { signal } from "@preact/signals";
import { settle, stopScrolling } from "../scrolling";

// Hits are marked with the CSS Custom Highlight API, which leaves the DOM unchanged.

const MAX_RANGES = 5_000;
// What is read as one text: within it a hit may span elements, and between two of them is the end of a line.
const BLOCKS = "p, div, pre, li, td, th, dd, dt, tr, h1, h2, h3, h4, h5, h6, summary, blockquote, section, header, details";
// The page's own words, which are no part of what was recorded.
const OWN = "button, select, textarea, .badge, .reward, .tokens, .kind, .none, .unseen, .id, .note, .think > summary, [aria-hidden=true], [data-ui]";
const HEADS = "header, .call-head, .result-head";
const RECORDED_IN_HEADS = ".tool, .oneline, .problem, .prompt";

/** The hits that are marked in the message of the address, and which of them is the current one (from 0). */
export const marked = signal<{ message: string; count: number; now: number }>({ message: "", count: 0, now: 0 });

/** Mark all matches of `pattern` in the sample in `box`; return the current one: in `message`, the one of that number (-1: the last). */
export function markHits(box: HTMLElement, pattern: RegExp, message: string, number: number): Range | null {
  const ranges: Range[] = [];
  const here: Range[] = [];
  for (const passage of passagesIn(box)) {
    const own = passage.message === message;
    if (ranges.length >= MAX_RANGES && !own) continue;
    const found = rangesIn(passage, pattern, MAX_RANGES);
    ranges.push(...found);
    if (own) here.push(...found);
  }
  const now = number < 0 ? here.length - 1 : Math.min(number, here.length - 1);
  const target = here[now] ?? null;
  if ("highlights" in CSS) {
    CSS.highlights.set("hit", new Highlight(...ranges));
    CSS.highlights.set("hit-now", target ? new Highlight(target) : new Highlight());
  }
  marked.value = { message, count: here.length, now: Math.max(0, now) };
  return target;
}

/** Open what is folded around a hit, and scroll to it. */
export function scrollToHit(target: Range): void {
  unfold(target);
  const box = target.startContainer.parentElement?.closest<HTMLElement>(".middle, .page");
  if (box) settle(box, () => show(target));
}

const REMARK_MS = 120;

/** Call `mark` now, and again after each change of what is in `node`; the answer ends it. */
export function markAgain(node: HTMLElement, mark: () => void): () => void {
  let waiting = 0;
  mark();
  const changes = new MutationObserver(() => {
    window.clearTimeout(waiting);
    waiting = window.setTimeout(mark, REMARK_MS);
  });
  changes.observe(node, { childList: true, subtree: true });
  return () => {
    changes.disconnect();
    window.clearTimeout(waiting);
  };
}

export function clearHits(): void {
  stopScrolling();
  if ("highlights" in CSS) for (const name of ["hit", "hit-now"]) CSS.highlights.delete(name);
  marked.value = { message: "", count: 0, now: 0 };
}

export interface Passage { message: string | undefined; texts: Text[]; starts: number[]; joined: string }

/** The recorded texts in `box`, one passage for each message. */
export function passagesIn(box: HTMLElement): Passage[] {
  const passages = new Map<string | undefined, Passage & { block: Element | null; parts: string[]; length: number }>();
  let [parent, holder, block, own] = [null as Element | null, undefined as string | undefined, null as Element | null, false];
  for (const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT); walker.nextNode(); ) {
    const text = walker.currentNode as Text;
    if (text.parentElement !== parent) {
      parent = text.parentElement!;
      holder = parent.closest<HTMLElement>("[data-message]")?.dataset.message;
      block = parent.closest(BLOCKS);
      own = parent.closest(OWN) !== null || (parent.closest(HEADS) !== null && parent.closest(RECORDED_IN_HEADS) === null);
    }
    if (own || holder === undefined) continue;
    let passage = passages.get(holder);
    if (!passage) passages.set(holder, (passage = { message: holder, texts: [], starts: [], joined: "", block, parts: [], length: 0 }));
    if (passage.block !== block) {
      passage.parts.push("\n");
      passage.length += 1;
      passage.block = block;
    }
    passage.texts.push(text);
    passage.starts.push(passage.length);
    passage.parts.push(text.data);
    passage.length += text.data.length;
  }
  return [...passages.values()].map((passage) => ({ ...passage, joined: passage.parts.join("") }));
}

/** The range of the characters from `start` to `end` of a passage; the passage's text at `from` is at or before it. */
export function rangeOf(passage: Passage, start: number, end: number, from = 0): { range: Range; at: number } {
  const { texts, starts } = passage;
  let at = from;
  while (starts[at + 1] !== undefined && starts[at + 1]! <= start) at += 1;
  let last = at;
  while (starts[last + 1] !== undefined && starts[last + 1]! < end) last += 1;
  const range = document.createRange();
  range.setStart(texts[at]!, Math.min(start - starts[at]!, texts[at]!.length));
  range.setEnd(texts[last]!, Math.min(end - starts[last]!, texts[last]!.length));
  return { range, at };
}

function rangesIn(passage: Passage, pattern: RegExp, limit: number): Range[] {
  const ranges: Range[] = [];
  let at = 0;
  for (const match of passage.joined.matchAll(pattern)) {
    if (!match[0].trim() || match.index < passage.starts[0]!) continue;
    const found = rangeOf(passage, match.index, match.index + match[0].length, at);
    at = found.at;
    ranges.push(found.range);
    if (ranges.length >= limit) break;
  }
  return ranges;
}

function unfold(range: Range): void {
  const node = range.startContainer.parentElement;
  for (let folded = node?.closest<HTMLDetailsElement>("details:not([open])"); folded; folded = folded.parentElement?.closest<HTMLDetailsElement>("details:not([open])")) folded.open = true;
}

/** Scroll all scrollable ancestors, from the inside out, so that the hit is in their upper third; return by how much. */
function show(range: Range): number {
  const node = range.startContainer.parentElement;
  let moved = 0;
  for (let box = node; box && !box.classList.contains("page"); box = box.parentElement) {
    const style = getComputedStyle(box);
    if (!/auto|scroll/.test(`${style.overflowY} ${style.overflowX}`)) continue;
    const [hit, frame] = [range.getBoundingClientRect(), box.getBoundingClientRect()];
    const before = box.scrollTop;
    if (box.scrollHeight > box.clientHeight) box.scrollTop += hit.top - frame.top - frame.height / 3;
    moved += Math.abs(box.scrollTop - before);
    if (hit.left < frame.left || hit.right > frame.right) box.scrollLeft += hit.left - frame.left - frame.width / 3;
  }
  return moved;
}
