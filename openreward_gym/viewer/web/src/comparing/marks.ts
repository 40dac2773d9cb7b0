import { useEffect } from "preact/hooks";
import { markAgain, passagesIn, rangeOf } from "../searching/highlights";
import { differenceOf, type Span } from "./difference";

const MAX_RANGES = 4_000;

/** Mark the words in which the two sides of each turn in `box` differ: elements with `data-side` inside `.turn-pair.changed`. */
export function useDifferenceMarks(box: { current: HTMLElement | null }, drawn: unknown[]): void {
  useEffect(() => {
    const node = box.current;
    if (!node || !("highlights" in CSS)) return;
    const mark = () => {
      const ranges: Range[] = [];
      for (const pair of node.querySelectorAll<HTMLElement>(".turn-pair.changed")) if (ranges.length < MAX_RANGES) ranges.push(...rangesOf(pair));
      CSS.highlights.set("differs", new Highlight(...ranges));
    };
    const end = markAgain(node, mark);
    return () => {
      end();
      CSS.highlights.delete("differs");
    };
  }, drawn);
}

function rangesOf(pair: HTMLElement): Range[] {
  const sides = ["left", "right"].map((side) => pair.querySelector<HTMLElement>(`[data-side=${side}]`));
  const [left, right] = sides.map((side) => (side ? passagesIn(side)[0] : undefined));
  if (!left || !right) return [];
  const found = differenceOf(left.joined, right.joined);
  const ranges = (passage: typeof left, spans: Span[]) => {
    let at = 0;
    return spans.filter(([start]) => start >= passage.starts[0]!).map(([start, end]) => {
      const one = rangeOf(passage, start, end, at);
      at = one.at;
      return one.range;
    });
  };
  return [...ranges(left, found.left), ...ranges(right, found.right)];
}
