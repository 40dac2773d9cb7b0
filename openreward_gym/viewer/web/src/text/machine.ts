// The text of a tool: what it is (JSON, a diff, code, a page's source, a terminal's output) is guessed from its content. A
// guess chooses colours and, for JSON, the layout. It never changes a character.

import { writeCode } from "./highlight";
import { element, write } from "./invisible";
import { jsonTree, readJson } from "./json";

export type Kind = "json" | "diff" | "traceback" | "ansi" | "grid" | "text" | (string & {});

const GUESS = 6_000;
const LONGEST_JSON = 250_000;
const MOST_DIFF_LINES = 4_000;

const PYTHON = /^(?:#!.*\bpython|(?:async )?def \w+\(.*|class \w+.*:\s*$|from [\w.]+ import |import \w+(?:[.,\w ]*)$|@\w+|if __name__ ==)/m;
const SHELL = /^(?:#!.*\b(?:ba|z)?sh\b|\$ \w)/m;
const CPP = /^#include\s*[<"]/m;
const SCRIPT = /^(?:export )?(?:const|let|var|function|async function|import) [\w{*].*[;{(]\s*$/m;
const SQL = /^\s*(?:SELECT\b[\s\S]*\bFROM|INSERT INTO|CREATE TABLE|UPDATE \w+ SET)\b/i;
const STYLE = /^[.#@]?[\w-]+[^{}\n]*\{\s*\n\s*[\w-]+:[^\n]*;/;

/** What kind of text this seems to be: a kind of its own, or the name of a language. */
export function kindOf(text: string, hint = ""): Kind {
  const head = text.slice(0, GUESS);
  if (/\x1b\[[\d;:?]*[ -/]*[@-~]/.test(head)) return "ansi";
  if (/^(?:diff --git |Index: )/m.test(head) || /^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@/m.test(head) || /^--- .*\r?\n\+\+\+ /m.test(head)) return "diff";
  if (/^Traceback \(most recent call last\):/m.test(head)) return "traceback";
  if (/^\s*[[{]/.test(head)) return "json";
  if (/^\s*(?:<!doctype|<\?xml|<html|<svg)\b/i.test(head) || /^\s*<([A-Za-z][\w:-]*)\b[^<>]*>[\s\S]*<\/\1>\s*$/.test(head)) return "xml";
  if (hint) return hint;
  if (isGrid(head)) return "grid";
  if (PYTHON.test(head)) return "python";
  if (CPP.test(head)) return "cpp";
  if (SCRIPT.test(head)) return "javascript";
  if (SHELL.test(head)) return "bash";
  if (SQL.test(head)) return "sql";
  return STYLE.test(head) ? "css" : "text";
}

/** A board or a table of signs: its lines must not wrap. */
function isGrid(text: string): boolean {
  const lines = text.split("\n").filter((line) => line.trim());
  if (lines.length < 2 || lines.some((line) => line.length > 240)) return false;
  const drawn = lines.filter((line) => /^\s*(?:\S\s+)*\S\s*$/.test(line) && !/\w{2}/.test(line) || /[\u2500-\u259F]|^[ .#|+*@=_-]+$/.test(line));
  return drawn.length >= lines.length * 0.6;
}

const ESCAPE = /\x1b\[([\d;:?]*)[ -/]*([@-~])/g;
const PAINTS: Record<string, string> = { 1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "inverse", 9: "struck" };

/** Apply a terminal's colour codes to the classes in force. */
function paint(classes: Set<string>, codes: string[]): void {
  const drop = (pattern: RegExp) => [...classes].filter((one) => pattern.test(one)).forEach((one) => classes.delete(one));
  for (let at = 0; at < codes.length; at += 1) {
    const code = Number(codes[at] || 0);
    if (code === 0) classes.clear();
    else if (code === 38 || code === 48) at += codes[at + 1] === "5" ? 2 : 4;
    else if (PAINTS[code]) classes.add(`ansi-${PAINTS[code]}`);
    else if (code === 22) drop(/bold|faint/);
    else if (code === 39) drop(/ansi-fg/);
    else if (code === 49) drop(/ansi-bg/);
    else if (code === 23 || code === 24 || code === 27 || code === 29) classes.delete(`ansi-${PAINTS[code - 20]}`);
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) drop(/ansi-fg/), classes.add(`ansi-fg${code % 10}`);
    else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) drop(/ansi-bg/), classes.add(`ansi-bg${code % 10}`);
  }
}

function writeAnsi(to: Node, text: string): void {
  const classes = new Set<string>();
  let from = 0;
  const plain = (end: number) => {
    if (end > from) to.appendChild(element("span", [...classes].join(" "), text.slice(from, end)));
  };
  for (const match of text.matchAll(ESCAPE)) {
    plain(match.index);
    to.appendChild(element("span", "sign escape", match[0]));
    if (match[2] === "m") paint(classes, match[1]!.split(/[;:]/));
    from = match.index + match[0].length;
  }
  plain(text.length);
}

const DIFF_LINES: [RegExp, string][] = [
  [/^(?:diff |index |--- |\+\+\+ |Index: |rename |new file|deleted file|similarity )/, "diff-head"], [/^@@/, "diff-hunk"], [/^\+/, "diff-added"], [/^-/, "diff-removed"],
];

function byLine(to: Node, text: string, classOf: (line: string) => string): void {
  for (const line of text.split(/(?<=\n)/)) {
    const name = classOf(line);
    if (name) to.appendChild(element("span", name, line));
    else write(to, line);
  }
}

const lines = (text: string) => text.split("\n", MOST_DIFF_LINES + 1).length;

/** The text of a tool as DOM: preformatted. With `coloured` false it is the text alone. */
export function machineBlock(text: string, hint = "", coloured = true): HTMLElement {
  const kind = coloured ? kindOf(text, hint) : "text";
  const json = kind === "json" && text.length <= LONGEST_JSON ? readJson(text) : null;
  if (json) {
    const box = element("div", "code machine body");
    box.tabIndex = 0;
    box.dataset.kind = "json";
    box.append(jsonTree(json));
    return box;
  }
  const pre = element("pre", "code machine");
  pre.tabIndex = 0;
  pre.dataset.kind = kind;
  if (kind === "ansi") writeAnsi(pre, text);
  else if (kind === "diff" && lines(text) <= MOST_DIFF_LINES) byLine(pre, text, (line) => DIFF_LINES.find(([pattern]) => pattern.test(line))?.[1] ?? "");
  else if (kind === "traceback" && lines(text) <= MOST_DIFF_LINES) byLine(pre, text, (line) => (/^\w[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b/.test(line) ? "traceback-error" : /^\s+File "/.test(line) ? "traceback-file" : ""));
  else writeCode(pre, text, kind === "json" ? "" : kind);
  return pre;
}
