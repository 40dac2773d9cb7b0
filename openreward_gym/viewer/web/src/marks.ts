// Hits are marked with the browser's own highlights: the page's elements stay as they were drawn.

const MOST = 5_000;
const SETTLING = 4;
const TEXTS = ".body, pre.code, .tool";

let settling = 0;

/** Mark what `pattern` finds in the sample in `box`, and show the first hit in the message of that number. */
export function showHits(box: HTMLElement, pattern: RegExp, message: string): void {
  const ranges: Range[] = [];
  let wanted: Range | null = null;
  for (const node of box.querySelectorAll<HTMLElement>(TEXTS)) {
    if (node.parentElement?.closest(TEXTS)) continue;
    const here = node.closest<HTMLElement>("[data-message]")?.dataset.message === message;
    if (ranges.length >= MOST && (wanted || !here)) continue;
    const found = rangesIn(node, pattern, MOST);
    if (here) wanted ??= found[0] ?? null;
    ranges.push(...found);
  }
  if ("highlights" in CSS) {
    CSS.highlights.set("hit", new Highlight(...ranges));
    CSS.highlights.set("hit-now", wanted ? new Highlight(wanted) : new Highlight());
  }
  if (!wanted) return;
  unfold(wanted);
  settle(wanted, SETTLING);
}

export function clearHits(): void {
  cancelAnimationFrame(settling);
  if ("highlights" in CSS) for (const name of ["hit", "hit-now"]) CSS.highlights.delete(name);
}

function rangesIn(node: HTMLElement, pattern: RegExp, most: number): Range[] {
  const texts: Text[] = [];
  const starts: number[] = [];
  let whole = "";
  for (const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT); walker.nextNode(); ) {
    const text = walker.currentNode as Text;
    texts.push(text);
    starts.push(whole.length);
    whole += text.data;
  }
  const found: Range[] = [];
  let at = 0;
  for (const match of whole.matchAll(pattern)) {
    const end = match.index + match[0].length;
    while (starts[at + 1] !== undefined && starts[at + 1]! <= match.index) at += 1;
    let last = at;
    while (starts[last + 1] !== undefined && starts[last + 1]! < end) last += 1;
    const range = document.createRange();
    range.setStart(texts[at]!, match.index - starts[at]!);
    range.setEnd(texts[last]!, end - starts[last]!);
    found.push(range);
    if (found.length >= most) break;
  }
  return found;
}

/** Show it again in the next frames: what is laid out only when it is seen moves what stands below it. */
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
  // Everything around it that scrolls is moved, from the inside out, so that the hit stands in its upper third.
  for (let box = node; box && !box.classList.contains("page"); box = box.parentElement) {
    const style = getComputedStyle(box);
    if (!/auto|scroll/.test(`${style.overflowY} ${style.overflowX}`)) continue;
    const [hit, frame] = [range.getBoundingClientRect(), box.getBoundingClientRect()];
    if (box.scrollHeight > box.clientHeight) box.scrollTop += hit.top - frame.top - frame.height / 3;
    if (hit.left < frame.left || hit.right > frame.right) box.scrollLeft += hit.left - frame.left - frame.width / 3;
  }
}
