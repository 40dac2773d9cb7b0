import { expect, test } from "vitest";
import { differenceOf, type Span } from "../src/comparing/difference";

const cut = (text: string, spans: Span[]) => spans.map(([start, end]) => text.slice(start, end));
const rest = (text: string, spans: Span[]) => {
  let [at, kept] = [0, ""];
  for (const [start, end] of spans) [kept, at] = [kept + text.slice(at, start), end];
  return kept + text.slice(at);
};
function marks(left: string, right: string): [string[], string[]] {
  const found = differenceOf(left, right);
  return [cut(left, found.left), cut(right, found.right)];
}

test("words that differ are marked, and only these", () => {
  expect(marks("the red fox runs", "the blue fox ran")).toEqual([["red", "runs"], ["blue", "ran"]]);
  expect(marks("same", "same")).toEqual([[], []]);
  expect(marks("ls -l", "ls -la")).toEqual([["l"], ["la"]]);
  expect(marks("", "new")).toEqual([[], ["new"]]);
  expect(marks("a\nb\nc\n", "a\nc\n")).toEqual([["b\n"], []]);
  expect(marks("x = 1\ny = 2\nz = 3", "x = 1\ny = 5\nz = 3\nw = 4")).toEqual([["2"], ["5", "\nw = 4"]]);
});

test("what is not marked is the same on both sides, for random texts", () => {
  let seed = 7;
  const draw = (most: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % most;
  for (let round = 0; round < 300; round++) {
    const words = () => Array.from({ length: draw(30) }, () => ["a", "bb", "c", "\n", " ", "Zoë", "😀", "."][draw(8)]).join(draw(2) ? "" : " ");
    const [left, right] = [words(), words()];
    const found = differenceOf(left, right);
    expect(rest(left, found.left)).toBe(rest(right, found.right));
  }
});

test("a difference of long texts takes little time, and marks the middle if there is too much of it", () => {
  const line = (n: number) => `line ${n} of a log\n`;
  const long = Array.from({ length: 400_000 }, (_, n) => line(n)).join("");
  const started = performance.now();
  expect(marks(long, long.replace("line 200000 ", "row 200000 "))).toEqual([["line"], ["row"]]);
  const other = Array.from({ length: 400_000 }, (_, n) => line(n * 7 + 1)).join("");
  const [left] = marks(long, other);
  expect(left.join("").length).toBeGreaterThan(long.length * 0.9);
  expect(performance.now() - started).toBeLessThan(3_000);
});
