// Hits are marked with the CSS Custom Highlight API, which leaves the DOM unchanged.

const MAX_RANGES = 5_000;
const SETTLE_FRAMES = 4;
const TEXTS = ".body, pre.code, .tool, .oneline";

let settling = 0;

/** Mark all matches of `pattern` in the sample in `box`, and scroll to the first one in the message of that number. */
export function showHits(box: HTMLElement, pattern: RegExp, message: string): void {
  const ranges: Range[] = [];
  let target: Range | null = null;
  for (const node of box.querySelectorAll<HTMLElement>(TEXTS)) {
    if (node.parentElement?.closest(TEXTS)) continue;
    const here = node.closest<HTMLElement>("[data-message]")?.dataset.message === message;
    if (ranges.length >= MAX_RANGES && (target || !here)) continue;
    const matches = rangesIn(node, pattern, MAX_RANGES);
    if (here) target ??= matches[0] ?? null;
    ranges.push(...matches);
  }
  if ("highlights" in CSS) {
    CSS.highlights.set("hit", new Highlight(...ranges));
    CSS.highlights.set("hit-now", target ? new Highlight(target) : new Highlight());
  }
  if (!target) return;
  unfold(target);
  settle(target, SETTLE_FRAMES);
}

export function clearHits(): void {
  cancelAnimationFrame(settling);
  if ("highlights" in CSS) for (const name of ["hit", "hit-now"]) CSS.highlights.delete(name);
}

function rangesIn(node: HTMLElement, pattern: RegExp, limit: number): Range[] {
  const texts: Text[] = [];
  const starts: number[] = [];
  let joined = "";
  for (const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT); walker.nextNode(); ) {
    const text = walker.currentNode as Text;
    texts.push(text);
    starts.push(joined.length);
    joined += text.data;
  }
  const ranges: Range[] = [];
  let at = 0;
  for (const match of joined.matchAll(pattern)) {
    const end = match.index + match[0].length;
    while (starts[at + 1] !== undefined && starts[at + 1]! <= match.index) at += 1;
    let last = at;
    while (starts[last + 1] !== undefined && starts[last + 1]! < end) last += 1;
    const range = document.createRange();
    range.setStart(texts[at]!, match.index - starts[at]!);
    range.setEnd(texts[last]!, end - starts[last]!);
    ranges.push(range);
    if (ranges.length >= limit) break;
  }
  return ranges;
}

/** Scroll again in the next frames, because content that is laid out when it becomes visible moves what is below it. */
function settle(range: Range, frames: number): void {
  cancelAnimationFrame(settling);
  show(range);
  if (frames > 0) settling = requestAnimationFrame(() => settle(range, frames - 1));
}

function unfold(range: Range): void {
  const node = range.startContainer.parentElement;
  for (let folded = node?.closest<HTMLDetailsElement>("details:not([open])"); folded; folded = folded.parentElement?.closest<HTMLDetailsElement>("details:not([open])")) folded.open = true;
}

function show(range: Range): void {
  const node = range.startContainer.parentElement;
  // Scroll all scrollable ancestors, from the inside out, so that the hit is in their upper third.
  for (let box = node; box && !box.classList.contains("page"); box = box.parentElement) {
    const style = getComputedStyle(box);
    if (!/auto|scroll/.test(`${style.overflowY} ${style.overflowX}`)) continue;
    const [hit, frame] = [range.getBoundingClientRect(), box.getBoundingClientRect()];
    if (box.scrollHeight > box.clientHeight) box.scrollTop += hit.top - frame.top - frame.height / 3;
    if (hit.left < frame.left || hit.right > frame.right) box.scrollLeft += hit.left - frame.left - frame.width / 3;
  }
}
