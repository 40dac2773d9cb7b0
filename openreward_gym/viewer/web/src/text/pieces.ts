// A text is split into pieces: code, formulas, and the text between them. Each search for an end is remembered where it
// fails, so that hostile text takes no longer than other text.

export type Piece =
  | { kind: "text"; source: string }
  | { kind: "code"; source: string; language: string; open: string; body: string; close: string }
  | { kind: "span"; source: string }
  | { kind: "math"; source: string; body: string; display: boolean };

export interface Passage { kind: "think" | "text"; source: string; before: string; after: string }

/**
 * Split a text at its `<think>` passages. One that is not closed extends to the end of the text; where `</think>` comes
 * first, the thought began before the text, as in templates that open it in the prompt.
 */
export function passages(text: string): Passage[] {
  const list: Passage[] = [];
  const add = (kind: Passage["kind"], from: number, to: number, before = "", after = "") => {
    if (to > from || kind === "think") list.push({ kind, source: text.slice(from, to), before, after });
  };
  let at = 0;
  const lone = text.indexOf("</think>");
  if (lone >= 0 && !text.slice(0, lone).includes("<think>")) {
    add("think", 0, lone, "", "</think>");
    at = lone + 8;
  }
  for (let begin = text.indexOf("<think>", at); begin >= 0; begin = text.indexOf("<think>", at)) {
    add("text", at, begin);
    const end = text.indexOf("</think>", begin);
    add("think", begin + 7, end < 0 ? text.length : end, "<think>", end < 0 ? "" : "</think>");
    at = end < 0 ? text.length : end + 8;
  }
  add("text", at, text.length);
  return list;
}

const ENVIRONMENT = /\\begin\{((?:equation|align|alignat|gather|split|cases|rcases|[pbBvV]?matrix|smallmatrix|array|aligned|alignedat|gathered|multline|eqnarray|CD)\*?)\}/y;
const LONGEST_FORMULA = 10_000;
const PARAGRAPH_END = /\n[ \t\r]*\n/g;

class Splitter {
  private readonly missing = new Map<string, number>();
  private paragraph = -1;

  constructor(private readonly text: string) {}

  /** The piece that begins at this place, or the number of characters to pass over. */
  at(start: number): Piece | number {
    const { text } = this;
    const sign = text[start];
    if (sign === "`" || sign === "~") {
      let end = start + 1;
      while (text[end] === sign) end += 1;
      return (end - start >= 3 ? this.fence(start, end) : null) ?? (sign === "`" ? this.span(start, end) : null) ?? end - start;
    }
    if (sign === "\\") return this.escaped(start) ?? 2;
    if (text.startsWith("$$", start)) return this.between(start, "$$", "$$", true) ?? 2;
    return this.dollar(start) ?? 1;
  }

  /** The end of the paragraph that begins before or at this place. */
  private paragraphEnd(start: number): number {
    if (start < this.paragraph) return this.paragraph;
    PARAGRAPH_END.lastIndex = start;
    return (this.paragraph = PARAGRAPH_END.exec(this.text)?.index ?? this.text.length);
  }

  private fence(start: number, end: number): Piece | null {
    const { text } = this;
    const line = text.lastIndexOf("\n", start - 1) + 1;
    if (/[^ \t]/.test(text.slice(line, start))) return null;
    const first = text.indexOf("\n", end);
    if (first < 0 || (text[start] === "`" && text.slice(end, first).includes("`"))) return null;
    const closing = new RegExp(`^[ \\t]*${text[start]}{${end - start},}[ \\t]*\\r?(?:\\n|$(?![\\s\\S]))`, "gm");
    closing.lastIndex = first + 1;
    const found = closing.exec(text);
    const bodyEnd = found?.index ?? text.length;
    return {
      kind: "code", source: text.slice(line, found ? found.index + found[0].length : text.length),
      language: text.slice(end, first).trim().split(/[\s{,]/)[0] ?? "",
      open: text.slice(line, first + 1), body: text.slice(first + 1, bodyEnd), close: found?.[0] ?? "",
    };
  }

  private span(start: number, end: number): Piece | null {
    const key = "`".repeat(end - start);
    const limit = this.paragraphEnd(end);
    if ((this.missing.get(key) ?? -1) >= end) return null;
    const runs = /`+/g;
    runs.lastIndex = end;
    for (let run = runs.exec(this.text); run && run.index < limit; run = runs.exec(this.text))
      if (run[0].length === key.length) return { kind: "span", source: this.text.slice(start, run.index + key.length) };
    this.missing.set(key, limit);
    return null;
  }

  private escaped(start: number): Piece | null {
    const next = this.text[start + 1];
    if (next === "[") return this.between(start, "\\[", "\\]", true);
    if (next === "(") return this.between(start, "\\(", "\\)", false);
    if (next !== "b") return null;
    ENVIRONMENT.lastIndex = start;
    const name = ENVIRONMENT.exec(this.text)?.[1];
    if (name === undefined) return null;
    const [open, close] = [`\\begin{${name}}`, `\\end{${name}}`];
    if (this.missing.has(close)) return null;
    let depth = 1;
    for (let at = start + open.length; at < start + LONGEST_FORMULA; ) {
      const end = this.text.indexOf(close, at);
      if (end < 0) {
        this.missing.set(close, this.text.length);
        return null;
      }
      const inner = this.text.indexOf(open, at);
      depth += inner >= 0 && inner < end ? 1 : -1;
      at = inner >= 0 && inner < end ? inner + open.length : end + close.length;
      if (depth === 0) return formula(this.text.slice(start, at), this.text.slice(start, at), true);
    }
    return null;
  }

  private between(start: number, open: string, close: string, display: boolean): Piece | null {
    const begin = start + open.length;
    if ((this.missing.get(close) ?? -1) >= begin) return null;
    const end = this.text.indexOf(close, begin);
    const limit = this.paragraphEnd(begin);
    if (end < 0 || end > limit) {
      this.missing.set(close, limit);
      return null;
    }
    return formula(this.text.slice(start, end + close.length), this.text.slice(begin, end), display);
  }

  /** `$x$`: no blank inside its ends, no word or number beside it, and not just words: `$5 and $6` is money. */
  private dollar(start: number): Piece | null {
    const { text } = this;
    if (/[\\$\w]/.test(text[start - 1] ?? "") || /[\s$]/.test(text[start + 1] ?? " ")) return null;
    const signs = /[$\n]/g;
    signs.lastIndex = start + 1;
    let end = signs.exec(text);
    while (end && text[end.index - 1] === "\\") end = signs.exec(text);
    if (!end || end[0] === "\n" || /\s/.test(text[end.index - 1]!) || /[\w$]/.test(text[end.index + 1] ?? "")) return null;
    const body = text.slice(start + 1, end.index);
    if (/[a-z]{3,} +[a-z]{2,}/i.test(body) && !body.includes("\\")) return null;
    return formula(text.slice(start, end.index + 1), body, false);
  }
}

function formula(source: string, body: string, display: boolean): Piece | null {
  return body.trim() && source.length <= LONGEST_FORMULA ? { kind: "math", source, body, display } : null;
}

/** Split a text into pieces; their sources joined are the text. */
export function pieces(text: string): Piece[] {
  const list: Piece[] = [];
  const splitter = new Splitter(text);
  const signs = /[`~\\$]/g;
  let from = 0;
  for (let found = signs.exec(text); found; found = signs.exec(text)) {
    const piece = splitter.at(found.index);
    if (typeof piece === "number") {
      signs.lastIndex = found.index + piece;
      continue;
    }
    // A fence has the blanks before it.
    const start = piece.kind === "code" ? text.lastIndexOf("\n", found.index - 1) + 1 : found.index;
    if (start > from) list.push({ kind: "text", source: text.slice(from, start) });
    list.push(piece);
    signs.lastIndex = from = start + piece.source.length;
  }
  if (from < text.length) list.push({ kind: "text", source: text.slice(from) });
  return list;
}
