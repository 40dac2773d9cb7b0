import { useLayoutEffect, useRef } from "preact/hooks";
import { render } from "../settings";
import type { Block } from "../types";
import { stringifyExact, writtenNumber } from "./exact";
import { languageOf } from "./highlight";
import { readJson, jsonTree } from "./json";
import { marked } from "./literal";
import { INLINE, LongText, type Rest } from "./long";
import { machineBlock } from "./machine";

const ONE_LINE = 160;
const LANGUAGES: Record<string, string> = {
  command: "bash", cmd: "bash", bash: "bash", shell: "bash", script: "bash", code: "python", python: "python", source: "python", query: "sql", sql: "sql", html: "xml", xml: "xml", diff: "diff", patch: "diff",
};

/** A text of a tool: preformatted, coloured by its kind. `hint` is a language, used where the content does not tell. */
export function ToolText({ text, hint, all, ...rest }: { text: string; hint?: string; all?: boolean } & Rest) {
  const box = useRef<HTMLDivElement>(null);
  const coloured = render.value.code;
  const long = (rest.total ?? text.length) > INLINE;
  useLayoutEffect(() => {
    if (!long) box.current?.replaceChildren(machineBlock(text, hint, coloured));
  }, [text, hint, coloured]);
  return long ? <LongText text={text} all={all} machine {...rest} /> : <div ref={box} class="tool-text" />;
}

/** JSON laid out, with lists and objects that fold; a text that is not JSON as it is. */
export function Json({ text }: { text: string }) {
  return <ToolText text={text} />;
}

/** A string could be taken for another value where it is shown without quotation marks. */
function needsQuotes(text: string): boolean {
  return text === "" || /^\s|\s$|^["'[{]/.test(text) || (text.length < 400 && readJson(text) !== null);
}

function hintFor(key: string, holder: Record<string, unknown>): string {
  const path = Object.entries(holder).find(([name, value]) => typeof value === "string" && /path|file/i.test(name))?.[1];
  return LANGUAGES[key.toLowerCase()] ?? (/content|text|new_str|old_str|body/i.test(key) && typeof path === "string" ? languageOf(path) : "");
}

function Nested({ text }: { text: string }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const json = text.length <= INLINE ? readJson(text) : null;
    if (json) box.current?.replaceChildren(jsonTree(json));
    else if (box.current) box.current.textContent = text;
  }, [text]);
  return text.length > INLINE ? <LongText text={text} machine /> : <div ref={box} class="body machine" />;
}

function Value({ name, holder }: { name: string; holder: Record<string, unknown> }) {
  const value = holder[name];
  if (typeof value === "string") {
    if (value.includes("\n") || value.length > ONE_LINE * 4) return <ToolText text={value} hint={hintFor(name, holder)} />;
    return <span class={`body machine literal value${needsQuotes(value) ? " quoted" : ""}`}>{marked(value)}</span>;
  }
  if (typeof value === "object" && value !== null && Object.keys(value).length) return <Nested text={stringifyExact(value)} />;
  return <span class={`body machine value ${typeof value === "number" ? "hljs-number" : "hljs-literal"}`}>{writtenNumber(holder, name) ?? JSON.stringify(value)}</span>;
}

const isShort = (value: unknown) => (typeof value === "string" ? !value.includes("\n") && value.length <= ONE_LINE * 4 : typeof value !== "object" || value === null || !Object.keys(value).length);

/** The arguments of a call: each by its name, a text of several lines as these lines, other values as JSON. */
export function Arguments({ block }: { block: Block }) {
  const { arguments: given } = block;
  if (typeof block.content === "string" && (given === null || given === undefined)) return block.content ? <div class="arguments"><ToolText text={block.content} /></div> : <p class="none" data-ui>No arguments</p>;
  if (given === null || given === undefined) return <p class="none" data-ui>No arguments</p>;
  if (typeof given !== "object" || Array.isArray(given)) return <div class="arguments"><ToolText text={stringifyExact(given)} /></div>;
  const holder = given as Record<string, unknown>;
  const names = Object.keys(holder);
  if (!names.length) return <div class="arguments"><div class="argument short"><span class="body machine">{"{}"}</span></div></div>;
  if (!render.value.code) return <div class="arguments"><Nested text={stringifyExact(given)} /></div>;
  return (
    <dl class="arguments">
      {names.map((name) => (
        <div key={name} class={isShort(holder[name]) ? "argument short" : "argument"}>
          <dt class="body machine">{marked(name)}</dt>
          <dd><Value name={name} holder={holder} /></dd>
        </div>
      ))}
    </dl>
  );
}
