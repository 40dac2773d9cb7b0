// JSON is laid out anew from its own tokens. It is never parsed into values, so that all digits of numbers, all characters
// of strings, repeated keys and the order of keys stay.

import { element, write } from "./invisible";

export type Json =
  | { kind: "atom"; source: string }
  | { kind: "list"; open: string; close: string; members: { key: string | null; value: Json }[] };

const TOKEN = /[ \t\r\n]*(?:("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|-?Infinity)|([[\]{},:]))/y;
const DEEPEST = 200;
const MOST_TOKENS = 40_000;

class NotJson extends Error {}

class Reader {
  private at = 0;
  private count = 0;
  private token = "";
  private kind = "";

  constructor(private readonly text: string) {}

  whole(): Json {
    this.next();
    const value = this.value(0);
    if (/[^ \t\r\n]/.test(this.text.slice(this.at))) throw new NotJson();
    return value;
  }

  private next(): void {
    TOKEN.lastIndex = this.at;
    const found = TOKEN.exec(this.text);
    if (!found || (this.count += 1) > MOST_TOKENS) throw new NotJson();
    this.at = TOKEN.lastIndex;
    this.kind = found[1] !== undefined ? "string" : found[2] !== undefined ? "word" : "sign";
    this.token = found[1] ?? found[2] ?? found[3]!;
  }

  private is(sign: string): boolean {
    return this.kind === "sign" && this.token === sign;
  }

  private value(depth: number): Json {
    if (this.kind !== "sign") return { kind: "atom", source: this.token };
    const open = this.token;
    if ((open !== "{" && open !== "[") || depth > DEEPEST) throw new NotJson();
    const close = open === "{" ? "}" : "]";
    const members: { key: string | null; value: Json }[] = [];
    this.next();
    while (!this.is(close)) {
      const key = open === "{" ? this.key() : null;
      members.push({ key, value: this.value(depth + 1) });
      this.next();
      if (this.is(close)) break;
      if (!this.is(",")) throw new NotJson();
      this.next();
      if (this.is(close)) throw new NotJson();
    }
    return { kind: "list", open, close, members };
  }

  private key(): string {
    const key = this.token;
    if (this.kind !== "string") throw new NotJson();
    this.next();
    if (!this.is(":")) throw new NotJson();
    this.next();
    return key;
  }
}

/** The structure of a text that is JSON (NaN and Infinity pass); null where it is not, or too large. */
export function readJson(text: string): Json | null {
  if (!/^[ \t\r\n]*[[{"\d\-tfnNI]/.test(text)) return null;
  try {
    return new Reader(text).whole();
  } catch (error) {
    if (error instanceof NotJson) return null;
    throw error;
  }
}

const INLINE = 72;

/** The text of a short value on one line; null where it is long or has lists within lists. */
function short(value: Json): string | null {
  if (value.kind === "atom") return value.source;
  let text = value.open;
  for (const [index, { key, value: member }] of value.members.entries()) {
    if (member.kind === "list" && member.members.length) return null;
    const source = member.kind === "atom" ? member.source : member.open + member.close;
    if (/\\n/.test(source)) return null;
    text += `${index ? ", " : ""}${key === null ? "" : `${key}: `}${source}`;
    if (text.length > INLINE) return null;
  }
  return text + value.close;
}

function writeAtom(to: Node, source: string): void {
  if (!source.startsWith('"')) {
    to.appendChild(element("span", /^[tfn]/.test(source) ? "hljs-literal" : "hljs-number", source));
    return;
  }
  const node = element("span", "hljs-string");
  // A string with line ends is shown in lines; their `\n` stay, dimmed, before each.
  const lines = source.split(/(?<=(?:^|[^\\])(?:\\\\)*)(?=\\n)/);
  if (lines.length === 1 || (lines.length === 2 && lines[1] === '\\n"')) write(node, source);
  else
    for (const line of lines) {
      if (!line.startsWith("\\n")) write(node, line);
      else {
        node.append("\n", element("span", "sign", "\\n"));
        write(node, line.slice(2));
      }
    }
  to.appendChild(node);
}

function writeKey(to: Node, key: string | null): void {
  if (key === null) return;
  to.appendChild(element("span", "hljs-attr", key));
  to.appendChild(document.createTextNode(": "));
}

function writeShort(to: Node, value: Json): void {
  if (value.kind === "atom") return writeAtom(to, value.source);
  to.appendChild(document.createTextNode(value.open));
  value.members.forEach(({ key, value: member }, index) => {
    if (index) to.appendChild(document.createTextNode(", "));
    writeKey(to, key);
    writeShort(to, member);
  });
  to.appendChild(document.createTextNode(value.close));
}

const counted = (count: number, open: string) => `${count.toLocaleString("en")} ${open === "{" ? (count === 1 ? "key" : "keys") : count === 1 ? "item" : "items"}`;

/** Append a value: short ones on one line, others with their members below, which can be folded. */
function writeValue(to: HTMLElement, key: string | null, value: Json, end: string): void {
  if (short(value) !== null || value.kind === "atom") {
    const line = to.appendChild(element("div", "json-line"));
    writeKey(line, key);
    writeShort(line, value);
    if (end) line.append(end);
    return;
  }
  const fold = element("details", "fold-json") as HTMLDetailsElement;
  fold.open = true;
  const summary = fold.appendChild(element("summary", "json-line"));
  writeKey(summary, key);
  summary.append(value.open);
  summary.dataset.folded = ` ${counted(value.members.length, value.open)} ${value.close}${end}`;
  const inside = fold.appendChild(element("div", "json-members"));
  value.members.forEach((member, index) => writeValue(inside, member.key, member.value, index < value.members.length - 1 ? "," : ""));
  to.append(fold, element("div", "json-line json-close", value.close + end));
}

/** A JSON value laid out, with lists and objects that fold. */
export function jsonTree(value: Json): HTMLElement {
  const box = element("div", "json");
  writeValue(box, null, value, "");
  return box;
}
