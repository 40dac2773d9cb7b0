// @vitest-environment jsdom
import { expect, test } from "vitest";
import { passages, pieces, rendered, safe } from "../src/text/rendering";

const OFF = { think: false, markdown: false, latex: false, code: false };
const ON = { think: true, markdown: true, latex: true, code: true };

function html(text: string, how = ON): string {
  const box = document.createElement("div");
  box.append(rendered(text, how));
  return box.innerHTML;
}

test.each(["a `b` $c$ \\(d\\) \\[e\\] $$f$$\n```py\ng\n```\nh", "``` never ends\n$", "costs $5 and $6", "<think>x</think>`", "~~~\na\n~~~\n~~~\nb"])("pieces are the whole text: %s", (text) => {
  expect(pieces(text).map((piece) => piece.source).join("")).toBe(text);
});

test("with everything off the text is as it is stored", () => {
  const box = document.createElement("div");
  const text = "# <b>x</b> &amp; $x$ `y`\n";
  box.append(rendered(text, OFF));
  expect(box.textContent).toBe(text);
});

test("a thought without an end goes to the end", () => {
  expect(passages("a<think>b").map(({ kind, source, open }) => [kind, source, open])).toEqual([["text", "a", false], ["think", "b", true]]);
});

test("money is not maths, and maths in code is code", () => {
  expect(html("costs $5 and $6")).not.toContain("<math");
  expect(html("`$x$`")).toContain("<code>$x$</code>");
  expect(html("$x_1$ and $y_1$")).toContain("<math");
});

test.each(["<script>x</script>", "<img src=x onerror=y>", "[a](javascript:x)", "<a href='data:text/html,x'>a</a>", "<svg onload=x>", "<style>a{}</style>", "<p style='color:red' onclick='x'>a</p>"])("nothing that runs: %s", (attack) => {
  const box = document.createElement("div");
  box.append(safe(html(attack)));
  expect(box.innerHTML).not.toMatch(/<(script|img|svg|style)|javascript:|data:|\son\w+=|style=/i);
});

test("a table of thousands of cells stays text", () => {
  const table = (rows: number) => `|a|b|\n|-|-|\n${"|1|2|\n".repeat(rows)}`;
  expect(html(table(10))).toContain("<table>");
  expect(html(table(2000))).toMatch(/^<span class="literal">\|a\|b\|\n/);
});
