import DOMPurify from "dompurify";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import sql from "highlight.js/lib/languages/sql";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import katex from "katex";
import { Marked } from "marked";
import type { Render } from "../settings";

// Text is split into pieces, and pieces become safe DOM. Thoughts, code and maths are replaced by placeholders before
// Markdown is applied, and restored after the result has been sanitised.

for (const [name, language] of Object.entries({ bash, cpp, css, diff, javascript, json, python, sql, xml, yaml })) hljs.registerLanguage(name, language);
hljs.registerAliases(["sh", "shell", "zsh", "console"], { languageName: "bash" });

const HIGHLIGHT_LIMIT = 50_000;
const MARKDOWN_LIMIT = 400_000;
const CELLS_LIMIT = 4_000;

export type Piece =
  | { kind: "text"; source: string }
  | { kind: "code"; source: string; language: string; body: string }
  | { kind: "span"; source: string; body: string }
  | { kind: "tag"; source: string }
  | { kind: "math"; source: string; body: string; display: boolean };

export interface Passage { kind: "think" | "text"; source: string; open: boolean }

/** Split a text at its `<think>` passages; a passage that is not closed extends to the end of the text. */
export function passages(text: string): Passage[] {
  const list: Passage[] = [];
  let at = 0;
  while (at < text.length) {
    const begin = text.indexOf("<think>", at);
    if (begin < 0) break;
    if (begin > at) list.push({ kind: "text", source: text.slice(at, begin), open: false });
    const end = text.indexOf("</think>", begin);
    list.push({ kind: "think", source: text.slice(begin + 7, end < 0 ? text.length : end), open: end < 0 });
    at = end < 0 ? text.length : end + 8;
  }
  if (at < text.length) list.push({ kind: "text", source: text.slice(at), open: false });
  return list;
}

const PIECE = new RegExp(
  [
    /(?:^|\n)(?<fence>`{3,}|~{3,})(?<language>[^\n`]*)\n(?<code>[\s\S]*?)(?:\n\k<fence>[ \t]*(?=\n|$)|$(?![\s\S]))/.source,
    /(?<tag><\/?think>)/.source,
    /(?<tick>`+)(?<span>(?:(?!\n\n)[\s\S])+?)(?<!`)\k<tick>(?!`)/.source,
    /\$\$(?<display>[^$][\s\S]*?)\$\$/.source,
    /\\\[(?<bracket>[\s\S]*?)\\\]/.source,
    /\\\((?<paren>[\s\S]*?)\\\)/.source,
    /(?<![\\$\w])\$(?<inline>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?![\d\w])/.source,
  ].join("|"),
  "g",
);

/** Split a text into pieces; their sources joined are the text. */
export function pieces(text: string): Piece[] {
  const list: Piece[] = [];
  let at = 0;
  const plain = (end: number) => {
    if (end > at) list.push({ kind: "text", source: text.slice(at, end) });
  };
  for (const match of text.matchAll(PIECE)) {
    const groups = match.groups!;
    let source = match[0];
    let begin = match.index;
    if (groups.fence !== undefined && source.startsWith("\n")) {
      source = source.slice(1);
      begin += 1;
    }
    plain(begin);
    if (groups.fence !== undefined) list.push({ kind: "code", source, language: groups.language!.trim().split(/\s/)[0] ?? "", body: groups.code! });
    else if (groups.tag !== undefined) list.push({ kind: "tag", source });
    else if (groups.tick !== undefined) list.push({ kind: "span", source, body: groups.span!.trim() });
    else {
      const display = groups.display ?? groups.bracket;
      list.push({ kind: "math", source, body: display ?? groups.paren ?? groups.inline!, display: display !== undefined });
    }
    at = begin + source.length;
  }
  plain(text.length);
  return list;
}

const marked = new Marked({ gfm: true, breaks: true, async: false });
const purify = DOMPurify(window);
const TAGS = "p br hr h1 h2 h3 h4 h5 h6 strong em b i u s del sub sup blockquote ul ol li table thead tbody tr th td a code pre span div details summary kbd".split(" ");

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** Sanitised DOM of HTML: it runs nothing and loads nothing. */
export function safe(html: string): DocumentFragment {
  const named = html.replace(/<img\b[^>]*?\balt="([^"]*)"[^>]*>/gi, "[image: $1]");
  return purify.sanitize(named, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["href", "title", "colspan", "rowspan", "align", "start"],
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    RETURN_DOM_FRAGMENT: true,
  });
}

function codeBlock(language: string, body: string): HTMLElement {
  const pre = document.createElement("pre");
  pre.className = "code";
  pre.tabIndex = 0;
  if (language) pre.dataset.language = language.slice(0, 30);
  const code = document.createElement("code");
  if (language && hljs.getLanguage(language) && body.length < HIGHLIGHT_LIMIT) code.innerHTML = hljs.highlight(body, { language, ignoreIllegals: true }).value;
  else code.textContent = body;
  pre.append(code);
  return pre;
}

/** JSON, highlighted. */
export function jsonBlock(text: string): HTMLElement {
  return codeBlock("json", text);
}

function math(piece: Extract<Piece, { kind: "math" }>): HTMLElement {
  const place = document.createElement("span");
  place.className = piece.display ? "math display" : "math";
  try {
    place.innerHTML = katex.renderToString(piece.body, {
      output: "mathml", displayMode: piece.display, throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200,
    });
    for (const node of place.querySelectorAll("[style]")) node.removeAttribute("style");
  } catch {
    place.className = "math wrong";
    place.title = "This could not be read as LaTeX.";
    place.textContent = piece.source;
  }
  return place;
}

function element(piece: Piece, how: Render): Node {
  if (piece.kind === "code" && how.code) return codeBlock(piece.language, piece.body);
  if (piece.kind === "math" && how.latex) return math(piece);
  if (piece.kind === "span" && how.markdown) {
    const code = document.createElement("code");
    code.textContent = piece.body;
    return code;
  }
  const literal = document.createElement("span");
  literal.className = "literal";
  literal.textContent = piece.source;
  return literal;
}

/** The approximate number of table cells in a text: thousands of them would block a browser for seconds. */
function cells(text: string): number {
  let count = 0;
  for (let at = text.indexOf("|"); at >= 0; at = text.indexOf("|", at + 1)) count += 1;
  return count;
}

/** A passage without thoughts as DOM. With all options off it is the text, character for character. */
export function rendered(text: string, how: Render): DocumentFragment {
  const output = document.createDocumentFragment();
  if (!how.markdown && !how.latex && !how.code) {
    output.append(text);
    return output;
  }
  const list = pieces(text);
  if (!how.markdown || text.length > MARKDOWN_LIMIT || cells(text) > CELLS_LIMIT) {
    for (const piece of list) output.append(piece.kind === "text" && !how.markdown ? piece.source : element(piece, how));
    return output;
  }
  const mark = `x${Math.random().toString(36).slice(2)}x`;
  const source = list.map((piece, number) => (piece.kind === "text" ? piece.source : `${mark}${number}${mark}`)).join("");
  const fragment = safe(marked.parse(source) as string);
  restorePieces(fragment, list, mark, how);
  return fragment;
}

function restorePieces(fragment: DocumentFragment, list: Piece[], mark: string, how: Render): void {
  const place = new RegExp(`${mark}(\\d+)${mark}`);
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  const texts: Text[] = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node instanceof Text) {
      if (node.data.includes(mark)) texts.push(node);
    } else
      for (const attribute of [...(node as Element).attributes])
        if (attribute.value.includes(mark)) (node as Element).removeAttribute(attribute.name);
  }
  for (const node of texts) {
    const parts = node.data.split(new RegExp(place, "g"));
    const nodes = parts.map((part, index) => (index % 2 ? element(list[Number(part)]!, how) : document.createTextNode(part)));
    // A block inside a paragraph is invalid HTML but valid DOM, and is displayed as a block.
    node.replaceWith(...nodes);
  }
}
