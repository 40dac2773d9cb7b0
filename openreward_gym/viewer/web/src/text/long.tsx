import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { hasManyMarks } from "./invisible";
import { marked } from "./literal";

/** Longer texts are shown in chunks, and cut until a reader asks for all. */
export const INLINE = 250_000;
const CHUNK = 20_000;
const SMALL_CHUNK = 1_000;
const LINE_PX = 21;
const REVEAL = "reveal-text";

/** A place near `end` where a text may be parted: after a line end, and not within a character. */
function cutAt(text: string, from: number, end: number): number {
  if (end >= text.length) return text.length;
  const line = text.lastIndexOf("\n", end - 1);
  if (line >= from) return line + 1;
  const last = text.charCodeAt(end - 1);
  return last >= 0xd800 && last <= 0xdbff ? end - 1 : end;
}

/** Whether a text is shown in chunks: it is long, or has thousands of characters that are marks. */
export function isLong(text: string, total = text.length): boolean {
  return total > INLINE || hasManyMarks(text);
}

/** The parts of a text, each of whole lines where its lines are not too long. */
export function chunksOf(text: string): string[] {
  const size = hasManyMarks(text.slice(0, INLINE)) ? SMALL_CHUNK : CHUNK;
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = cutAt(text, at, Math.min(text.length, at + size));
    parts.push(text.slice(at, end));
    at = end;
  }
  return parts;
}

/** About how high a part is, so that the page keeps its length before the part is laid out. */
function heightOf(part: string, columns: number): number {
  let lines = 0;
  let from = 0;
  for (let at = part.indexOf("\n"); at >= 0; at = part.indexOf("\n", from)) {
    lines += Math.max(1, Math.ceil((at - from) / columns));
    from = at + 1;
  }
  return (lines + Math.ceil((part.length - from) / columns)) * LINE_PX;
}

/** Show all of the cut texts in an element. */
export function revealAll(box: ParentNode): void {
  for (const node of box.querySelectorAll(".plain")) node.dispatchEvent(new CustomEvent(REVEAL));
}

/** What is known of a text of which only the beginning is here: its length, and how to load the rest. */
export interface Rest { total?: number; more?: () => Promise<unknown> }

/**
 * A text in chunks that the browser lays out when they become visible. It is cut at 250,000 characters, unless `all`.
 * The button to show the rest stays at the lower end of the window, where laying out the text above does not move it.
 */
export function LongText({ text, all = false, machine = false, total = text.length, more }: { text: string; all?: boolean; machine?: boolean } & Rest) {
  const [expanded, setExpanded] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const whole = (all || expanded || text.length <= INLINE) && more === undefined;
  const expand = () => {
    setExpanded(true);
    void more?.();
  };
  const shownText = whole ? text : text.slice(0, cutAt(text, 0, INLINE));
  useEffect(() => {
    const node = box.current!;
    node.addEventListener(REVEAL, expand);
    return () => node.removeEventListener(REVEAL, expand);
  }, [more]);
  useLayoutEffect(() => {
    const columns = Math.max(20, Math.floor(box.current!.clientWidth / (machine ? 7.8 : 6.8)));
    for (const node of box.current!.querySelectorAll<HTMLElement>(".chunk")) node.style.containIntrinsicHeight = `auto ${heightOf(node.textContent ?? "", columns)}px`;
  }, [shownText, machine]);
  return (
    <div class="plain" ref={box}>
      {useMemo(() => chunksOf(shownText), [shownText]).map((part, index) => <div key={index} class={`body literal chunk${machine ? " machine" : ""}`}>{marked(part)}</div>)}
      {!whole && <p class="cut" data-ui><button type="button" onClick={expand}>Show all {total.toLocaleString("en")} characters</button></p>}
    </div>
  );
}
