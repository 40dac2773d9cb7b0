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
import { element, write } from "./invisible";

for (const [name, language] of Object.entries({ bash, cpp, css, diff, javascript, json, python, sql, xml, yaml })) hljs.registerLanguage(name, language);
hljs.registerAliases(["sh", "shell", "zsh", "console"], { languageName: "bash" });
hljs.registerAliases(["ts", "typescript", "tsx"], { languageName: "javascript" });

const LONGEST = 50_000;
const LONGEST_LINE = 4_000;
const SLOW_MS = 150;

/** The longest text that is coloured, by language; halved whenever one took too long. */
const limits = new Map<string, number>();

interface Scope { scope?: string; children: (Scope | string)[] }

/** Append code to an element, in colours. Only the scopes come from the highlighter: the characters are those of the text. */
export function writeCode(to: Node, text: string, language: string): void {
  const limit = limits.get(language) ?? LONGEST;
  if (!language || text.length > limit || !hljs.getLanguage(language) || /[^\n]{4001}/.test(text)) return write(to, text);
  const started = performance.now();
  let root: Scope;
  try {
    root = (hljs.highlight(text, { language, ignoreIllegals: true }) as unknown as { _emitter: { rootNode: Scope } })._emitter.rootNode;
  } catch {
    return write(to, text);
  }
  if (performance.now() - started > SLOW_MS) limits.set(language, Math.max(LONGEST_LINE / 4, text.length / 2));
  if (joined(root) !== text) return write(to, text);
  writeScope(to, root);
}

function joined(scope: Scope | string): string {
  return typeof scope === "string" ? scope : scope.children.map(joined).join("");
}

function writeScope(to: Node, scope: Scope): void {
  for (const child of scope.children) {
    if (typeof child === "string") write(to, child);
    else if (!child.scope || child.scope.startsWith("language:")) writeScope(to, child);
    else {
      const span = element("span", `hljs-${child.scope.split(".")[0]}`);
      writeScope(span, child);
      to.appendChild(span);
    }
  }
}

const EXTENSIONS: Record<string, string> = {
  py: "python", pyi: "python", js: "javascript", mjs: "javascript", jsx: "javascript", ts: "javascript", tsx: "javascript", json: "json", jsonl: "json", html: "xml", htm: "xml",
  xml: "xml", svg: "xml", css: "css", sh: "bash", bash: "bash", sql: "sql", yaml: "yaml", yml: "yaml", c: "cpp", h: "cpp", cc: "cpp", cpp: "cpp", hpp: "cpp", diff: "diff", patch: "diff",
};

/** The language of a file, by the end of its name. */
export function languageOf(path: string): string {
  return EXTENSIONS[/\.(\w{1,5})["']?$/.exec(path.trim())?.[1]?.toLowerCase() ?? ""] ?? "";
}
