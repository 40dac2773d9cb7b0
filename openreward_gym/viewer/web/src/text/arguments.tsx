import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { render } from "../settings";
import type { Block } from "../types";
import { stringifyExact } from "./exact";
import { languageOf } from "./highlight";
import { type Json as JsonValue, jsonTree, readJson } from "./json";
import { marked } from "./literal";
import { INLINE, isLong, LongText, type Rest } from "./long";
import { machineBlock } from "./machine";

const LONGEST_LINE = 600;
const LANGUAGES: Record<string, string> = {
  command: "bash", cmd: "bash", bash: "bash", shell: "bash", script: "bash", code: "python", python: "python", source: "python", query: "sql", sql: "sql", html: "xml", xml: "xml", diff: "diff", patch: "diff",
};

/** A text of a tool: preformatted, coloured by its kind. `hint` is a language, used where the content does not tell. */
export function ToolText({ text, hint, all, ...rest }: { text: string; hint?: string; all?: boolean } & Rest) {
  const box = useRef<HTMLDivElement>(null);
  const coloured = render.value.code;
  const long = useMemo(() => isLong(text, rest.total), [text, rest.total]);
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

type Members = { key: string | null; value: JsonValue }[];

/** The text of a JSON string; null for other values. */
function stringOf(value: JsonValue): string | null {
  return value.kind === "atom" && value.source.startsWith('"') ? (JSON.parse(value.source) as string) : null;
}

function hintFor(key: string, members: Members): string {
  const known = LANGUAGES[key.toLowerCase()];
  if (known || !/content|text|new_str|old_str|body/i.test(key)) return known ?? "";
  const path = members.find((member) => /path|file/i.test(member.key ?? "") && stringOf(member.value) !== null);
  return path ? languageOf(stringOf(path.value)!) : "";
}

function Tree({ value }: { value: JsonValue }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => box.current?.replaceChildren(jsonTree(value)), [value]);
  return <div ref={box} class="body machine" />;
}

const isShort = (text: string) => !text.includes("\n") && text.length <= LONGEST_LINE;

function Argument({ name, value, hint }: { name: string; value: JsonValue; hint: string }) {
  const text = stringOf(value);
  const short = text !== null ? isShort(text) : value.kind === "atom" || !value.members.length;
  return (
    <div class={short ? "argument short" : "argument"}>
      <dt class="body machine">{marked(name)}</dt>
      <dd>
        {text === null ? <Tree value={value} />
          : short ? <span class={`body machine literal value${needsQuotes(text) ? " quoted" : ""}`}>{marked(text)}</span>
          : <ToolText text={text} hint={hint} />}
      </dd>
    </div>
  );
}

/**
 * The arguments of a call, read from the text that the model wrote where it was recorded: each by its name, a text of
 * several lines as these lines, other values as JSON. What is not a JSON object is shown as it is.
 */
export function Arguments({ block }: { block: Block }) {
  const source = block.content ?? (block.arguments === undefined || block.arguments === null ? null : stringifyExact(block.arguments));
  const json = useMemo(() => (source !== null && source.length <= INLINE ? readJson(source) : null), [source]);
  if (source === null) return <p class="none" data-ui>No arguments were recorded.</p>;
  if (!source.trim()) return <p class="none" data-ui>Empty arguments</p>;
  if (json?.kind === "list" && !json.members.length) return <div class="arguments"><span class="body machine literal">{source}</span></div>;
  if (!render.value.code || json?.kind !== "list" || json.open !== "{") return <div class="arguments"><ToolText text={source} /></div>;
  return (
    <dl class="arguments">
      {json.members.map(({ key, value }, index) => {
        const name = JSON.parse(key!) as string;
        return <Argument key={index} name={name} value={value} hint={hintFor(name, json.members)} />;
      })}
    </dl>
  );
}
