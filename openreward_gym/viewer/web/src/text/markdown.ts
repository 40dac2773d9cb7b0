// Markdown as a good editor shows it: headings are large, lists hang, code stands in a box, and every sign stays where it
// is, dimmed. The text content of the result is the text, character for character, white space included.

import type { Render } from "../settings";
import { writeCode } from "./highlight";
import { ATOM, type Line, writeInline } from "./inline";
import { element, write } from "./invisible";
import { math } from "./maths";
import type { Piece } from "./pieces";

const MOST_CELLS = 4_000;
const LONGEST_LINE = 20_000;

/** A piece that is not plain text as an element, as the options say. */
export function pieceNode(piece: Exclude<Piece, { kind: "text" }>, how: Render): Node {
  if (piece.kind === "math" && how.latex) return math(piece.source, piece.body, piece.display);
  if (piece.kind === "span" && how.markdown) {
    const ticks = /^`+/.exec(piece.source)![0];
    const code = element("code", "");
    code.append(element("span", "sign", ticks));
    write(code, piece.source.slice(ticks.length, -ticks.length));
    code.append(element("span", "sign", ticks));
    return code;
  }
  return element("span", piece.kind === "code" && how.markdown ? "literal machine" : "literal", piece.source);
}

/** A block of code between its fences, which stay. A last line end is left to the caller. */
export function codeBlock(piece: Extract<Piece, { kind: "code" }>): HTMLElement {
  const pre = element("pre", "code");
  pre.tabIndex = 0;
  if (piece.language) pre.dataset.language = piece.language.slice(0, 30);
  const code = element("code", "");
  const [open, body, close] = [piece.open, piece.body, piece.close];
  const unended = (text: string) => (text.endsWith("\n") ? text.slice(0, -1) : text);
  pre.append(element("span", "sign", close || body ? open : unended(open)), code);
  writeCode(code, close ? body : unended(body), piece.language.toLowerCase());
  if (close) pre.append(element("span", "sign", unended(close)));
  return pre;
}

/** The lines of pieces; a block of code stands for itself. */
function linesOf(list: Piece[], how: Render): (Line | Extract<Piece, { kind: "code" }>)[] {
  const lines: (Line | Extract<Piece, { kind: "code" }>)[] = [];
  let line: Line | null = null;
  for (const piece of list) {
    if (piece.kind === "code" && how.code) {
      if (line && line.text) lines.push(line);
      line = null;
      lines.push(piece);
      continue;
    }
    line ??= { text: "", atoms: new Map() };
    if (piece.kind !== "text") {
      // The line end after a block of code ends the line.
      const ended = piece.kind === "code" && piece.source.endsWith("\n");
      const atom = ended ? { ...piece, source: piece.source.slice(0, -1) } : piece;
      line.atoms.set(line.text.length, () => pieceNode(atom, how));
      line.text += ATOM;
      if (ended) lines.push(line), (line = { text: "", atoms: new Map() });
      continue;
    }
    const parts = piece.source.split("\n");
    line.text += parts[0]!;
    for (const part of parts.slice(1)) {
      lines.push(line);
      line = { text: part, atoms: new Map() };
    }
  }
  if (line) lines.push(line);
  return lines;
}

const PREFIX = /^(?:([ \t]*)(?:(>)|(#{1,6})(?=[ \t])|((?:[-*+]|\d{1,9}[.)])(?=[ \t])(?:[ \t]+\[[ xX]\](?=[ \t]))?)))?([ \t]*)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*\r?$/;
const DELIMITERS = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const LAYOUT = /\S {2,}\S|\t|[\u2500-\u259F]/;
const GRID = /^(?:\S\s){2,}\S$/;

/** Whether a line has only blanks: no other character may be hidden with it. */
function isBlank(line: Line): boolean {
  return !line.atoms.size && !/[^ \t\r]/.test(line.text);
}

function lineBlock(line: Line): HTMLElement {
  const { text } = line;
  if (isBlank(line)) {
    const gap = element("div", "gap", text);
    gap.append(document.createElement("br"));
    return gap;
  }
  const block = element("div", "line-of");
  if (RULE.test(text)) {
    block.className = "line-of rule";
    block.append(element("span", "sign", text));
    return block;
  }
  let at = 0;
  let hang = 0;
  if (text.length <= LONGEST_LINE)
    for (let depth = 0; depth < 12; depth += 1) {
      const [all, blanks, quote, heading, item, gap] = PREFIX.exec(text.slice(at))!;
      if (quote === undefined && item === undefined && (heading === undefined || blanks!.length > 3)) break;
      write(block, blanks!);
      block.append(element("span", item === undefined ? "sign" : "bullet", (quote ?? heading ?? item)!));
      write(block, gap!);
      at += all.length;
      hang += (blanks!.length + gap!.length) * 0.28 + (quote ?? heading ?? item)!.length * 0.58;
      if (quote !== undefined) block.classList.add("quote");
      if (heading !== undefined) block.classList.add(`h${heading.length}`);
      if (item !== undefined) block.classList.add("hangs");
      if (heading !== undefined) break;
    }
  if (hang && hang < 20 && !block.classList.contains("h1")) {
    block.style.paddingInlineStart = `${hang.toFixed(2)}em`;
    block.style.textIndent = `${(-hang).toFixed(2)}em`;
  }
  if (text.length > LONGEST_LINE) writePlain(block, line);
  else writeInline(block, line, at, text.length);
  return block;
}

function writePlain(to: Node, line: Line): void {
  let from = 0;
  for (const [place, atom] of line.atoms) {
    write(to, line.text.slice(from, place));
    to.appendChild(atom());
    from = place + 1;
  }
  write(to, line.text.slice(from));
}

/** The places of the pipes that part a table's cells. */
function pipes(line: Line): number[] {
  const places: number[] = [];
  for (let at = line.text.indexOf("|"); at >= 0; at = line.text.indexOf("|", at + 1)) if (line.text[at - 1] !== "\\") places.push(at);
  return places;
}

function row(line: Line, kind: "th" | "td"): HTMLElement {
  const node = document.createElement("tr");
  const places = pipes(line);
  const first = line.text.slice(0, places[0]).trim() ? -1 : places[0]!;
  const last = places.length > 1 && !line.text.slice(places.at(-1)! + 1).trim() ? places.at(-1)! : line.text.length;
  const starts = first < 0 ? [-1, ...places] : places;
  const bounds = starts.filter((place) => place < last);
  bounds.forEach((place, index) => {
    const cell = element(kind, "");
    const isLast = index === bounds.length - 1;
    const end = isLast ? last : bounds[index + 1]!;
    if (index === 0 && place > 0) write(cell, line.text.slice(0, place));
    if (place >= 0) cell.append(element("span", "sign", "|"));
    writeInline(cell, line, place + 1, end);
    if (isLast && last < line.text.length) {
      cell.append(element("span", "sign", "|"));
      write(cell, line.text.slice(last + 1));
    }
    node.append(cell);
  });
  return node;
}

/** The number of lines of the table that begins at a place; 0 where none does. */
function tableAt(lines: ReturnType<typeof linesOf>, at: number): number {
  const [head, rule] = [lines[at], lines[at + 1]];
  if (!head || !rule || "kind" in head || "kind" in rule || !head.text.includes("|") || !rule.text.includes("|") || rule.text.length > 2_000 || !DELIMITERS.test(rule.text)) return 0;
  let end = at;
  let cells = 0;
  for (; end < lines.length; end += 1) {
    const line = lines[end]!;
    if ("kind" in line || !line.text.includes("|")) break;
    cells += pipes(line).length;
    if (cells > MOST_CELLS) return 0;
  }
  return end - at;
}

function table(lines: Line[]): HTMLElement {
  const box = element("div", "table");
  box.tabIndex = 0;
  const node = box.appendChild(document.createElement("table"));
  lines.forEach((line, index) => {
    if (index) node.append("\n");
    if (index === 1) {
      const rule = element("tr", "delimiters");
      const cell = element("td", "") as HTMLTableCellElement;
      cell.colSpan = Math.max(1, pipes(lines[0]!).length);
      cell.append(element("span", "sign", line.text));
      rule.append(cell);
      node.append(rule);
    } else node.append(row(line, index ? "td" : "th"));
  });
  return box;
}

/** Three lines or more that are laid out with blanks or signs: a grid, a board, a listing. Only their face changes. */
function laidOut(lines: ReturnType<typeof linesOf>, at: number): number {
  let end = at;
  for (; end < lines.length; end += 1) {
    const line = lines[end]!;
    if ("kind" in line || line.atoms.size || !(LAYOUT.test(line.text) || GRID.test(line.text.trim()))) break;
  }
  return end - at >= 3 ? end - at : 0;
}

/** Append pieces as Markdown. */
export function writeMarkdown(to: Node, list: Piece[], how: Render): void {
  const lines = linesOf(list, how);
  const last = lines.findLastIndex((line) => "kind" in line || !isBlank(line));
  let begun = false;
  for (let at = 0; at < lines.length; ) {
    const line = lines[at]!;
    let count = 1;
    let node: HTMLElement;
    const rows = tableAt(lines, at);
    const grid = rows ? 0 : laidOut(lines, at);
    if ("kind" in line) node = codeBlock(line);
    else if (rows) [count, node] = [rows, table(lines.slice(at, at + rows) as Line[])];
    else if (grid) [count, node] = [grid, element("div", "machine literal", (lines.slice(at, at + grid) as Line[]).map((one) => one.text).join("\n"))];
    else node = lineBlock(line);
    if (node.className === "gap" && (!begun || at > last)) node.className = "gap edge";
    else begun = true;
    to.appendChild(node);
    at += count;
    const ended = at < lines.length || ("kind" in line && line.source.endsWith("\n"));
    if (ended) to.appendChild(document.createTextNode("\n"));
  }
}
