// @vitest-environment jsdom
import { expect, test } from "vitest";
import { parseExact, stringifyExact } from "../src/text/exact";
import { hasInvisible, split, write } from "../src/text/invisible";
import { readJson } from "../src/text/json";
import { chunksOf } from "../src/text/long";
import { kindOf, machineBlock } from "../src/text/machine";
import { passages, pieces } from "../src/text/pieces";
import { rendered } from "../src/text/rendering";

const OFF = { think: false, markdown: false, latex: false, code: false };
const ON = { think: true, markdown: true, latex: true, code: true };

function box(text: string, how = ON): HTMLElement {
  const node = document.createElement("div");
  node.append(rendered(text, how));
  return node;
}

/** The text of rendered DOM, with formulas as their source. */
function source(node: HTMLElement): string {
  for (const formula of node.querySelectorAll<HTMLElement>("[data-source]")) formula.replaceWith(formula.dataset.source!);
  return node.textContent ?? "";
}

const TEXTS = [
  "a `b` $c$ \\(d\\) \\[e\\] $$f$$\n```py\ng\n```\nh", "``` never ends\n$", "costs $5 and $6", "<think>x</think>`", "~~~\na\n~~~\n~~~\nb", "# <b>x</b> &amp; $x$ `y`\n",
  "It is <answer>42</answer>, says <module> of __init__ and __main__.py", "- a\n  - b\n\n\n      1. c\r\n> q\n>> r", "| a | b |\n|--|:-:|\n| 1 | `x|y` |\n\ntail", "a|b\n-|-\n1|2", "  ```sh\n  ls\n  ```\n  x",
  "**a *b* c** ***d*** ~~e~~ _f_ \\*g\\* 2*3*4 **", "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}\n", "[t](https://x.example/a_(b)) [j](javascript:1) ![i](https://x.example/i.png) <https://x.example>", "---\n***\n\n", "\n\n  x\n\n", "\uFEFF", "```\n```", "```", "|\n|-\n|",
  ". . #\n. P .\n# . G\n",
];

test.each(TEXTS)("nothing is lost of %j", (text) => {
  expect(pieces(text).map((piece) => piece.source).join("")).toBe(text);
  for (const how of [ON, OFF, { ...ON, markdown: false }, { ...ON, latex: false }, { ...ON, code: false }]) expect(source(box(text, how))).toBe(text);
});

test("thoughts: without an end to the end, without a beginning from the beginning", () => {
  const kinds = (text: string) => passages(text).map(({ kind, source, before, after }) => [kind, source, before, after]);
  expect(kinds("a<think>b")).toEqual([["text", "a", "", ""], ["think", "b", "<think>", ""]]);
  expect(kinds("b</think>\nc")).toEqual([["think", "b", "", "</think>"], ["text", "\nc", "", ""]]);
  expect(kinds("a</think>b<think>c</think>d</think>e").map(([kind]) => kind)).toEqual(["think", "text", "think", "text"]);
});

test("money is not maths, and maths in code is code", () => {
  for (const text of ["costs $5 and $6", "$HOME and $PATH", "between $5-$6", "US$ 5 or 6$", "$100 for me, 5$ for you", "`$x$`", "$x % y$"]) expect(box(text).querySelector("math")).toBeNull();
  for (const text of ["$x_1$ and $y_1$", "\\(x\\)", "$$x$$", "\\[x\\]", "$\\boxed{42}$", "\\begin{equation}x\\end{equation}"]) expect(box(text).querySelector("math")).not.toBeNull();
  expect(box("$\\boxed{42}$").querySelector("menclose")?.getAttribute("notation")).toBe("box");
});

test("what a formula would hide, and what is no formula, is shown as its source", () => {
  for (const text of ["$\\phantom{42}$", "$\\frac{1$", "$\\def\\x{1}\\x$", "\\begin{align}a", "$a\u200Bb$"]) {
    expect(box(text).querySelector("math")).toBeNull();
    expect(box(text).textContent).toBe(text);
  }
});

test("Markdown's signs stay and mean something", () => {
  const node = box("# Title\n**bold** *em* ~~gone~~ `code` [t](https://x.example)\n- item\n__init__ a*b*c");
  for (const [tag, text] of [["strong", "**bold**"], ["em", "*em*"], ["del", "~~gone~~"], ["code", "`code`"], [".h1", "# Title"], [".hangs", "- item"], ["a", "t"]] as const) expect(node.querySelector(tag)?.textContent).toBe(text);
  expect(node.querySelectorAll("strong, em")).toHaveLength(2);
});

test.each(["<script>x</script>", "<img src=x onerror=y>", "[a](javascript:x)", "<a href='data:text/html,x'>a</a>", "<svg onload=x>", "<style>a{}</style>", "<p style='color:red' onclick='x'>a</p>", "$\\href{javascript:x}{y}$"])("nothing that runs: %s", (attack) => {
  const node = box(attack);
  expect(node.querySelector("script, img, svg, style, p, a, [style], [onclick]")).toBeNull();
  expect(node.textContent).toBe(attack);
});

test("a table of thousands of cells stays text, and a bad text takes no longer", () => {
  const table = (rows: number) => `|a|b|\n|-|-|\n${"|1|2|\n".repeat(rows)}`;
  expect(box(table(10)).querySelector("table")).not.toBeNull();
  expect(box(table(2000)).querySelector("table")).toBeNull();
  const begun = performance.now();
  for (const part of ["*a ", "`", "`a ``b ", "$a ", "[", "[a](", "<a ", "\\begin{align}", "\\[ ", "_a_b", "> ", "__ a", "|", "```\n", "https://"]) expect(box(part.repeat(4_000)).textContent).toBe(part.repeat(4_000));
  expect(performance.now() - begun).toBeLessThan(20_000);
}, 30_000);

test("invisible characters are marks, where they do no visible work", () => {
  const marks = (text: string) => split(text).filter((_, index) => index % 2);
  expect(marks("a\u202Eb\0c\u200Bd\u00ADe\uFEFFf\x1Bg\uD800h\u2028i\u{E0041}")).toEqual(["\u202E", "\0", "\u200B", "\u00AD", "\uFEFF", "\x1B", "\uD800", "\u2028", "\u{E0041}"]);
  for (const text of ["👩‍👩‍👧 ❤️ 1️⃣ 👍🏽‍ 🏴\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}".replace("👍🏽‍", "👩🏽‍💻"), "می‌خواهم", "क्‍ष", "a\tb\nc", "\u845B\u{E0100}"]) expect(marks(text)).toEqual([]);
  for (const text of ["pass\u200Dcode", "pass\u200Ccode", "a\uFE0F", "1\uFE0Fa", "\u{E0041}\u{E007F}", "👩\u200Da"]) expect(hasInvisible(text)).toBe(true);
  const node = document.createElement("div");
  write(node, "x\u202Ey\r\n");
  expect(node.textContent).toBe("x\u202Ey\r\n");
  expect([...node.querySelectorAll<HTMLElement>(".invisible")].map((mark) => mark.dataset.mark)).toEqual(["RLO", "CR"]);
});

test("JSON is laid out from its own tokens", () => {
  const text = '{"a": 1.0, "a": 12345678901234567890, "b": "x\\n  y\\u00e9", "c": [1e5, [2, {"d": {}, "long": "' + "z".repeat(80) + '"}]]}';
  const node = machineBlock(text);
  expect(node.dataset.kind).toBe("json");
  expect(node.querySelectorAll("details[open]").length).toBeGreaterThan(1);
  const tokens = (one: string) => one.replace(/"(?:[^"\\]|\\[^])*"|\s+/g, (found) => (found.startsWith('"') ? found.replaceAll("\n", "") : ""));
  expect(tokens(node.textContent ?? "")).toBe(tokens(text));
  for (const bad of ["{a: 1}", '{"a": 1,}', "[1 2]", '{"a": "\n"}', "[01]", "{", '["\\x"]', "{} x", "[".repeat(300)]) {
    expect(readJson(bad)).toBeNull();
    expect(machineBlock(bad).textContent).toBe(bad);
  }
});

// Where JSON.parse tells how a number was written (Node 22, every browser of 2025); elsewhere numbers are JavaScript's.
const tells = "rawJSON" in JSON;

test("numbers in arguments keep their digits", () => {
  for (const given of ['{"x":1.0,"y":[12345678901234567890,1e+22,3]}', '{"a":-0.0,"s":"1.0"}', '{"arguments":{"q":"}\\"","r":2.50}}']) {
    const text = `{"note":"{\\"arguments\\":{","m":[{"arguments":{"a":1}},{"arguments":${given}}]}`;
    expect(stringifyExact((parseExact(text) as { m: { arguments: unknown }[] }).m[1]!.arguments)).toBe(tells ? given : JSON.stringify(JSON.parse(given)));
  }
});

test("an answer without such numbers, or a broken one, is parsed as ever", () => {
  const text = '{"m":[{"arguments":{"a":1,"b":"1.0 \\u00e9"}},{"arguments":null}],"reward":1.0}';
  expect(parseExact(text)).toEqual(JSON.parse(text));
  expect(stringifyExact(JSON.parse(text))).toBe(JSON.stringify(JSON.parse(text)));
  for (const broken of ['{"arguments":{"a":1', '{"arguments":', ""]) expect(() => parseExact(broken)).toThrow(SyntaxError);
});

test("the kind of a tool's text is a guess that changes no character", () => {
  const kinds: [string, string][] = [
    ['{"a": 1}', "json"], ["--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y", "diff"], ["Traceback (most recent call last):\n  File", "traceback"], ["\x1b[31mred\x1b[0m", "ansi"], ["<html>\n</html>", "xml"],
    ["#!/usr/bin/env python\nx", "python"], [". . #\n. P .\n# . G", "grid"], ["It rains.", "text"], ["#include <a>\nint x;", "cpp"],
  ];
  for (const [text, kind] of kinds) expect(kindOf(text)).toBe(kind);
  for (const [text] of kinds.slice(1)) expect(machineBlock(text).textContent).toBe(text);
  for (const [text] of kinds) expect(machineBlock(text, "", false).textContent).toBe(text);
});

test("a long text is parted at line ends, and never within a character", () => {
  for (const text of ["line\n".repeat(20_000), "😀".repeat(30_001), "x".repeat(50_000)]) {
    const parts = chunksOf(text);
    expect(parts.join("")).toBe(text);
    expect(parts.every((part) => part.isWellFormed() && part.length <= 20_000)).toBe(true);
  }
});

test("a JSON string is shown in its lines, however short it is", () => {
  const lines = (text: string) => machineBlock(text).textContent;
  expect(lines('[{"cmd": "ls\\npwd"}]')).toContain('"cmd": "ls\n\\npwd"');
  expect(lines('{"a": "ends\\n", "b": "\\\\n"}'), "an end of a line alone, and a backslash before an n").toContain('"a": "ends\\n"');
  expect(lines('{"a": "ends\\n", "b": "\\\\n"}')).toContain('"b": "\\\\n"');
});

test("a tag within a formula is no product of variables", () => {
  for (const text of ["\\(<answer>\\)", "$<b>x</b>$", "$$</think>$$"]) expect(box(text).querySelector("math"), text).toBeNull();
  expect(box("$a < b$ and $i<n$").querySelectorAll("math")).toHaveLength(2);
});
