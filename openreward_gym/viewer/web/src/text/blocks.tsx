import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { address } from "../address";
import { shared } from "../api";
import { lengthOf, wholeText } from "../opened";
import { patternOf } from "../searching/search";
import { type Render, render } from "../settings";
import { Arguments, Json, ToolText } from "./arguments";
import { stringifyExact } from "./exact";
import { Literal } from "./literal";
import { INLINE, isLong, LongText, type Rest, revealAll } from "./long";
import { passages } from "./pieces";
import { isLaidOut, rendered } from "./rendering";
import type { Block } from "../types";

export { Arguments, Json, Literal, revealAll, ToolText };
export { ErrorText, marked } from "./literal";

function Passage({ text, how }: { text: string; how: Render }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    box.current?.replaceChildren(rendered(text, how));
  }, [text, how.markdown, how.latex, how.code]);
  return <div ref={box} dir="auto" class={isLaidOut(text, how) ? "body prose" : "body prose literal"} />;
}

/** Whether a search that led here has a hit beyond the cut of a long text. */
function useHitBeyond(text: string): boolean {
  const { query, regex } = address.value;
  return useMemo(() => {
    if (query === undefined || text.length <= INLINE) return false;
    const pattern = patternOf(query, regex === "1");
    return pattern !== null && text.slice(INLINE - 2_000).search(pattern) >= 0;
  }, [text, query, regex]);
}

/** Prose that was recorded, rendered as the Render menu says. `thoughts` are `<think>` passages, which only a model writes. */
export function Body({ text, thoughts = true, ...rest }: { text: string; thoughts?: boolean } & Rest) {
  const how = render.value;
  const all = useHitBeyond(text);
  const long = useMemo(() => isLong(text, rest.total), [text, rest.total]);
  if (long) return <LongText text={text} all={all} {...rest} />;
  if (!how.think || !thoughts) return <Passage text={text} how={how} />;
  return (
    <>
      {passages(text).map((passage, index) =>
        passage.kind === "text" ? <Passage key={index} text={passage.source} how={how} /> : (
          <details class="think" key={index} open data-before={passage.before} data-after={passage.after}>
            <summary data-ui>Thinking{passage.after ? "" : " (not closed)"}{passage.before ? "" : " (begun before this text)"}</summary>
            <Passage text={passage.source} how={how} />
          </details>
        ),
      )}
    </>
  );
}

const IMAGES = /^image\/(png|jpeg|gif|webp|bmp|svg\+xml|avif)$/;

const unknownType = (type: string) => `a browser does not show images of the type ${type}`;

/** Why an image cannot be shown; null where it can be tried. */
function obstacle(block: Block, type: string): string | null {
  if (block.sha256) return shared && !block.data ? "it is stored beside the run, and this file does not have it" : null;
  if (!block.data) return "the record has no data of it";
  if (/^https?:/i.test(block.data)) return "it is an address, and the viewer loads nothing from other places";
  if (!/^data:image\//.test(block.data) && /[^A-Za-z0-9+/=\s]/.test(block.data.slice(0, 1_000))) return "what was recorded is a path or a name, not the image itself";
  return IMAGES.test(type) ? null : unknownType(type);
}

/** A recorded image: inside the record, or stored beside the run. */
export function Picture({ block, run }: { block: Block; run: string }) {
  const [wrong, setWrong] = useState(false);
  const type = (block.mimeType ?? "image/png").toLowerCase();
  const why = obstacle(block, type) ?? (wrong ? (!IMAGES.test(type) ? unknownType(type) : block.sha256 ? "its file is missing or damaged" : "its data is damaged") : null);
  if (why) return <p class="none" data-ui>An image (<Literal text={type.slice(0, 100)} />) that cannot be shown: <Literal text={why.slice(0, 200)} />.</p>;
  const source = block.sha256 && !shared
    ? `api/image?run=${encodeURIComponent(run)}&sha256=${encodeURIComponent(block.sha256)}`
    : block.data!.startsWith("data:image/") ? block.data! : `data:${type};base64,${block.data}`;
  return <img src={source} alt={`Recorded image, ${type}`} loading="lazy" onError={() => setWrong(true)} />;
}

function Reasoning({ block }: { block: Block }) {
  const text = block.content ?? "";
  return (
    <details class="think" open>
      <summary data-ui>{text ? "Reasoning" : "Hidden reasoning"}</summary>
      {text ? <Body text={text} thoughts={false} /> : block.summary ? <><p class="none" data-ui>The provider's summary:</p><Body text={block.summary} thoughts={false} /></> : <p class="none" data-ui>The provider does not show this reasoning{block.content_reference ? "; it gave a reference to it" : ""}.</p>}
    </details>
  );
}

/** What a text without visible characters is. */
function blankNote(text: string): string {
  return text ? `Only white space (${text.length.toLocaleString("en")} ${text.length === 1 ? "character" : "characters"})` : "Empty text";
}

type Field = "text" | "content" | "summary";

/** A block's text, of which the server may have sent the beginning only; `more` loads the rest. */
function useWhole(block: Block, field: Field): { text: string } & Rest {
  const [whole, setWhole] = useState<string | null>(null);
  const text = whole ?? block[field] ?? "";
  const total = whole === null ? lengthOf(block, field) : text.length;
  const more = total > text.length ? () => wholeText(block, field).then(setWhole) : undefined;
  const searched = address.value.query !== undefined;
  useEffect(() => {
    if (searched) void more?.();
  }, [searched, block]);
  return { text, total, more };
}

interface Told { run: string; machine?: boolean; role?: string; quiet?: boolean }

function OneBlock({ block, run, machine, role, quiet }: Told & { block: Block }) {
  const whole = useWhole(block, "text");
  switch (block.type) {
    case "text": {
      const { text } = whole;
      if (!/[^ \t\r\n]/.test(text)) return quiet ? null : <p class="none" data-ui>{blankNote(text)}</p>;
      return machine || role === "tool" ? <SearchedToolText {...whole} /> : <Body {...whole} thoughts={role === undefined || role === "assistant"} />;
    }
    case "reasoning": return <Reasoning block={block} />;
    case "image": return <Picture block={block} run={run} />;
    case "tool_call": return <div class="call-line"><span class="tool"><Literal text={block.name} /></span><Arguments block={block} /></div>;
    default: return <Json text={stringifyExact(block)} />;
  }
}

function SearchedToolText({ text, ...rest }: { text: string } & Rest) {
  return <ToolText text={text} all={useHitBeyond(text)} {...rest} />;
}

/**
 * The blocks of a message. With `machine` or the role `tool` texts are preformatted; other roles have prose, and a model
 * (no role, or `assistant`) has thoughts. With `quiet` a text without visible characters is left out.
 */
export function Blocks({ blocks, ...told }: Told & { blocks: Block[] }) {
  return <>{blocks.map((block, index) => <div class="block" key={index} data-type={block.type}><OneBlock block={block} {...told} /></div>)}</>;
}
