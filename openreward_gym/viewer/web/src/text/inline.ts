// Markdown within a line. The signs that Markdown consumes stay, dimmed: the characters of the result are those of the line.

import { element, write } from "./invisible";

/** A line, in which a piece (code, a formula) stands as one character; `atoms` are these pieces by their place. */
export interface Line { text: string; atoms: Map<number, () => Node> }

export const ATOM = "\0";
const SIGN = /[\\*_~[!<\0]|https?:\/\//g;
const LINK = /\[((?:[^[\]\\\n]|\\.){1,1000})\]\(([^\s()<>\0]{1,2000}(?:\([^\s()<>\0]{0,200}\))?[^\s()<>\0]{0,200})((?:\s+"[^"\n\0]{0,200}")?\))/y;
const TAG = /<[/!?]?[A-Za-z][^<>\n\0]{0,500}>/y;
const URL = /https?:\/\/[^\s<>"'`\0\\^{}|]+/y;
const DEEPEST = 6;
const WORD = /[\p{L}\p{N}_]/u;

interface Inside { line: Line; end: number; depth: number; missing: Set<string> }

/** Append the characters of a line from one place to another, with what Markdown says of them. */
export function writeInline(to: Node, line: Line, start: number, end: number, depth = 0): void {
  const inside: Inside = { line, end, depth, missing: new Set() };
  let plain = start;
  for (let at = start; at < end; ) {
    SIGN.lastIndex = at;
    const found = SIGN.exec(line.text);
    if (!found || found.index >= end) break;
    at = found.index;
    const made = nodeAt(inside, at);
    if (typeof made === "number") {
      at += made;
      continue;
    }
    write(to, line.text.slice(plain, at));
    to.appendChild(made.node);
    plain = at = made.end;
  }
  write(to, line.text.slice(plain, end));
}

/** The element that begins at a place, and where it ends; or the number of characters to pass over. */
function nodeAt(inside: Inside, at: number): { node: Node; end: number } | number {
  const { line, end } = inside;
  switch (line.text[at]) {
    case ATOM: {
      const atom = line.atoms.get(at);
      return atom ? { node: atom(), end: at + 1 } : 1;
    }
    case "\\": return line.atoms.has(at + 1) ? 1 : 2;
    case "[": return link(inside, at) ?? 1;
    case "!": {
      LINK.lastIndex = at + 1;
      const image = line.text[at + 1] === "[" ? LINK.exec(line.text) : null;
      return image && at + 1 + image[0].length <= end ? image[0].length + 1 : 1;
    }
    case "<": {
      TAG.lastIndex = at;
      const tag = TAG.exec(line.text);
      return tag && at + tag[0].length <= end ? { node: element("span", "tag", tag[0]), end: at + tag[0].length } : 1;
    }
    case "h": return address(inside, at) ?? 4;
    default: return emphasis(inside, at);
  }
}

function anchor(url: string): HTMLAnchorElement {
  const node = document.createElement("a");
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

function link({ line, end, depth }: Inside, at: number): { node: Node; end: number } | null {
  LINK.lastIndex = at;
  const found = LINK.exec(line.text);
  if (!found || at + found[0].length > end) return null;
  const [, label, url, rest] = found as unknown as [string, string, string, string];
  const node = document.createElement("span");
  const name = /^(https?:\/\/|mailto:)/i.test(url) && !line.text.slice(at, at + found[0].length).includes("\u202E") ? anchor(url) : document.createElement("span");
  writeInline(name, line, at + 1, at + 1 + label.length, depth + 1);
  node.append(element("span", "sign", "["), name, element("span", "sign", `](${url}${rest}`));
  return { node, end: at + found[0].length };
}

function address({ line, end }: Inside, at: number): { node: Node; end: number } | null {
  URL.lastIndex = at;
  const found = URL.exec(line.text)?.[0].slice(0, end - at).replace(/[.,;:!?*_~)\]]+$/, "");
  if (!found || found.length < 10) return null;
  const node = anchor(found);
  write(node, found);
  return { node, end: at + found.length };
}

const KINDS: Record<string, string[]> = { "*": ["em"], _: ["em"], "**": ["strong"], __: ["strong"], "***": ["strong", "em"], "~~": ["del"] };

function emphasis(inside: Inside, at: number): { node: Node; end: number } | number {
  const { line: { text }, end, depth, missing } = inside;
  const sign = text[at]!;
  let length = 1;
  while (text[at + length] === sign && at + length < end) length += 1;
  const marker = sign.repeat(length);
  const begin = at + length;
  const tags = KINDS[marker];
  if (!tags || missing.has(marker) || depth >= DEEPEST || begin >= end || /\s/.test(text[begin]!) || WORD.test(text[at - 1] ?? "")) return length;
  const close = closing(text, marker, begin + 1, end);
  if (close < 0) {
    missing.add(marker);
    return length;
  }
  // `__init__` is a name.
  if (marker === "__" && !/\s/.test(text.slice(begin, close))) return close + length - at;
  const node = document.createElement(tags[0]!);
  let inner: HTMLElement = node;
  for (const tag of tags.slice(1)) inner = inner.appendChild(document.createElement(tag));
  inner.append(element("span", "sign", marker));
  writeInline(inner, inside.line, begin, close, depth + 1);
  inner.append(element("span", "sign", marker));
  return { node, end: close + length };
}

/** Where a marker closes: after no blank, not within a longer run of the sign, and `_` not within a word. */
function closing(text: string, marker: string, from: number, end: number): number {
  const sign = marker[0]!;
  for (let at = text.indexOf(marker, from); at >= 0 && at + marker.length <= end; ) {
    let length = marker.length;
    while (text[at + length] === sign) length += 1;
    const apart = length === marker.length && text[at - 1] !== sign && !/[\s\\]/.test(text[at - 1]!);
    if (apart && (sign !== "_" || !WORD.test(text[at + length] ?? ""))) return at;
    at = text.indexOf(marker, at + length);
  }
  return -1;
}
