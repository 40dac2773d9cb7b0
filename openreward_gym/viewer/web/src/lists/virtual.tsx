import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";

/** The body of a table of which only the visible rows are in the DOM. `showKey` names the row that is scrolled to, once. */
export function VirtualRows({ count, size, row, label, keyOf, show, showKey, onRange }: {
  count: number; size: (index: number) => number; row: (index: number) => ComponentChildren; label: string;
  keyOf: (index: number) => string; show?: number; showKey?: string; onRange?: (first: number, last: number) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement | null>(null);
  const [, redraw] = useState(0);
  const options = {
    count, estimateSize: size, getItemKey: keyOf, getScrollElement: () => box.current, overscan: 12,
    scrollToFn: elementScroll, observeElementRect, observeElementOffset, onChange: () => redraw((n) => n + 1),
  };
  const [virtualizer] = useState(() => new Virtualizer<HTMLDivElement, HTMLElement>(options));
  virtualizer.setOptions(options);
  useLayoutEffect(() => virtualizer._didMount(), []);
  useLayoutEffect(() => virtualizer._willUpdate());
  // Rows are identified by key: when rows are inserted above, sizes are measured again and the first visible row stays in place.
  const shape = count ? `${count} ${keyOf(0)} ${keyOf(count - 1)}` : "";
  const seen = useRef<{ key: string; start: number; end: number }[]>([]);
  useLayoutEffect(() => {
    const node = box.current!;
    const top = node.scrollTop;
    const first = top > 0 ? seen.current.find((item) => item.end > top) : undefined;
    virtualizer.measure();
    if (!first) return;
    let start = 0;
    for (let index = 0; index < count; index++) {
      if (keyOf(index) === first.key) {
        if (start !== first.start) {
          list.current!.style.height = `${virtualizer.getTotalSize()}px`;
          node.scrollTop = top + start - first.start;
        }
        return;
      }
      start += size(index);
    }
  }, [shape]);
  const items = virtualizer.getVirtualItems();
  useLayoutEffect(() => {
    seen.current = items.map((item) => ({ key: keyOf(item.index), start: item.start, end: item.end }));
  });
  const shownKey = useRef<string | undefined>(undefined);
  useLayoutEffect(() => {
    if (showKey === undefined || show === undefined || show < 0) return;
    if (shownKey.current !== showKey) virtualizer.scrollToIndex(show, { align: "auto" });
    shownKey.current = showKey;
  }, [show, showKey]);
  const [first, last] = [items[0]?.index ?? 0, items[items.length - 1]?.index ?? 0];
  useEffect(() => onRange?.(first, last), [first, last, count]);
  return (
    <div class="virtual" ref={box} role="rowgroup" aria-label={label} tabIndex={0}>
      <div class="all" role="presentation" ref={(node) => { list.current = node; if (node) node.style.height = `${virtualizer.getTotalSize()}px`; }}>
        {items.map((item) => (
          <div key={keyOf(item.index)} role="presentation" class="item" ref={(node) => { if (node) { node.style.transform = `translateY(${item.start}px)`; node.style.height = `${item.size}px`; } }}>
            {row(item.index)}
          </div>
        ))}
      </div>
    </div>
  );
}
