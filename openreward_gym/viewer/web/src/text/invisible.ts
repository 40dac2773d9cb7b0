// Characters that cannot be seen, or that reorder what is around them, are shown as a small mark with their name. The
// character itself stays in the document, inside its mark, so that a copy or a search of the text has what is stored.

/** Flags of England, Scotland and Wales: the only tag characters that a reader can see. */
const FLAG = "\\u{1F3F4}\\u{E0067}\\u{E0062}(?:\\u{E0065}\\u{E006E}\\u{E0067}|\\u{E0073}\\u{E0063}\\u{E0074}|\\u{E0077}\\u{E006C}\\u{E0073})\\u{E007F}";
const CONTROLS = "\\0-\\x08\\x0B-\\x1F\\x7F-\\x9F";
const FORMATS =
  "\\xAD\\u034F\\u061C\\u070F\\u115F\\u1160\\u17B4\\u17B5\\u180B-\\u180F\\u200B-\\u200F\\u2028-\\u202E\\u2060-\\u206F\\u3164\\uFDD0-\\uFDEF\\uFE00-\\uFE0F\\uFEFF\\uFFA0\\uFFF0-\\uFFFC\\uFFFE\\uFFFF" +
  "\\u{13430}-\\u{1343F}\\u{1BCA0}-\\u{1BCA3}\\u{1D173}-\\u{1D17A}\\u{1FFFE}\\u{1FFFF}\\u{E0000}-\\u{E0FFF}\\u{10FFFE}\\u{10FFFF}";
const SUSPECT = new RegExp(`${FLAG}|[${CONTROLS}${FORMATS}]|\\p{Cs}`, "gu");
const PRESENT = new RegExp(`[${CONTROLS}${FORMATS}]|\\p{Cs}`, "u");

const MANY = 4_000;
const JOINING = ["Arabic", "Syriac", "Mongolian", "Nko", "Mandaic", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Khmer", "Myanmar", "Tibetan"];
const JOINED = new RegExp(`^[${JOINING.map((script) => `\\p{Script=${script}}`).join("")}]$`, "u");
const PICTURE = /^\p{Extended_Pictographic}$/u;
const SKIN_OR_STYLE = /^[\u{1F3FB}-\u{1F3FF}\uFE0F]$/u;

const C0 = "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
const NAMES: Record<number, string> = {
  0x7f: "DEL", 0x85: "NEL", 0xad: "SHY", 0x34f: "CGJ", 0x61c: "ALM", 0x180e: "MVS", 0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM",
  0x2028: "LS", 0x2029: "PS", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI",
  0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM", 0xfffc: "OBJ",
};

const codeOf = (point: number) => `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;

/** The short name of a character, such as `RLO`, or its code. */
export function nameOf(character: string): string {
  const point = character.codePointAt(0)!;
  return C0[point] ?? NAMES[point] ?? codeOf(point);
}

function before(text: string, at: number): string {
  const last = text.charCodeAt(at - 1);
  return text.slice(at - (last >= 0xdc00 && last <= 0xdfff ? 2 : 1), at);
}

function after(text: string, at: number): string {
  const point = text.codePointAt(at);
  return point === undefined ? "" : String.fromCodePoint(point);
}

/**
 * Whether an invisible character does visible work at its place, and so needs no mark:
 * a joiner between two emoji; a joiner after, or a non-joiner between, letters of a script whose letters join; a variation
 * selector after an emoji, in a keycap, or after a Chinese character, a mathematical sign or a Mongolian letter.
 */
function ordinary(text: string, at: number, character: string): boolean {
  if (character.codePointAt(0) === 0x1f3f4) return true;
  const [left, right] = [before(text, at), after(text, at + character.length)];
  if (character === "\u200D" || character === "\u200C") {
    if (JOINED.test(left) && (JOINED.test(right) || character === "\u200D")) return true;
    let base = at;
    while (base > 0 && SKIN_OR_STYLE.test(before(text, base))) base -= before(text, base).length;
    return character === "\u200D" && PICTURE.test(before(text, base)) && PICTURE.test(right);
  }
  if (character === "\uFE0F" || character === "\uFE0E") return PICTURE.test(left) || (/^[0-9#*]$/.test(left) && right === "\u20E3");
  if (/^[\uFE00-\uFE0D]$/.test(character)) return /^[\p{Script=Han}\p{Sm}\p{Script=Myanmar}\p{Script=Phags_Pa}]$/u.test(left);
  if (/^[\u{E0100}-\u{E01EF}]$/u.test(character)) return /^\p{Script=Han}$/u.test(left);
  return /^[\u180B-\u180D\u180F]$/.test(character) && /^\p{Script=Mongolian}$/u.test(left);
}

/** A text in parts: every second one is a character to mark, or a run of the same one. */
export function split(text: string): string[] {
  if (!PRESENT.test(text)) return [text];
  const parts: string[] = [];
  let from = 0;
  for (const match of text.matchAll(SUSPECT)) {
    if (ordinary(text, match.index, match[0])) continue;
    if (match.index === from && parts.length && parts.at(-1)!.startsWith(match[0])) parts[parts.length - 1] += match[0];
    else parts.push(text.slice(from, match.index), match[0]);
    from = match.index + match[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}

/** Whether a text has characters that are shown as marks. */
export function hasInvisible(text: string): boolean {
  return split(text).length > 1;
}

/** Whether a text has so many marks that it is laid out in small chunks. */
export function hasManyMarks(text: string): boolean {
  return split(text).length > MANY;
}

/** What a mark says and how it looks: the carriage return of a line's end is a quiet one. */
export function markOf(run: string, next: string): { class: string; name: string; title: string } {
  const character = String.fromCodePoint(run.codePointAt(0)!);
  const times = run.length > character.length ? ` ×${(run.length / character.length).toLocaleString("en")}` : "";
  const [name, code] = [nameOf(character) + times, codeOf(character.codePointAt(0)!)];
  return { class: run === "\r" && next.startsWith("\n") ? "invisible quiet-mark" : "invisible", name, title: name === code ? code : `${name}, ${code}` };
}

/** Append a text to an element as it is stored, with marks. */
export function write(to: Node, text: string): void {
  const parts = split(text);
  if (parts.length === 1) {
    if (text) to.appendChild(document.createTextNode(text));
    return;
  }
  parts.forEach((part, index) => {
    if (index % 2 === 0) {
      if (part) to.appendChild(document.createTextNode(part));
      return;
    }
    const mark = document.createElement("span");
    const about = markOf(part, parts[index + 1]!);
    mark.className = about.class;
    mark.dataset.mark = about.name;
    mark.title = about.title;
    mark.textContent = part;
    to.appendChild(mark);
  });
}

/** An element with a text that is written as it is stored. */
export function element(tag: string, name: string, text = ""): HTMLElement {
  const node = document.createElement(tag);
  if (name) node.className = name;
  write(node, text);
  return node;
}
