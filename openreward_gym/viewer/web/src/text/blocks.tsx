import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { address } from "../address";
import { shared } from "../api";
import { patternOf } from "../searching/search";
import { type Render, render } from "../settings";
import { jsonBlock, passages, rendered } from "./rendering";
import type { Block } from "../types";

const INLINE = 250_000;
const CHUNK = 20_000;

function Passage({ text, how }: { text: string; how: Render }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    box.current?.replaceChildren(rendered(text, how));
  }, [text, how.markdown, how.latex, how.code]);
  const literal = !how.markdown;
  return <div ref={box} dir="auto" class={literal ? "body literal" : "body"} />;
}

/** A text in chunks that the browser lays out when they become visible. */
function Plain({ text }: { text: string }) {
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    let end = Math.min(text.length, at + CHUNK);
    const line = text.lastIndexOf("\n", end);
    if (end < text.length && line > at) end = line + 1;
    parts.push(text.slice(at, end));
    at = end;
  }
  return (
    <div class="plain">
      {parts.map((part, index) => <div key={index} class="body literal chunk">{part}</div>)}
    </div>
  );
}

/** A recorded text, rendered as the Render menu says. A very long text is cut, unless a search hit is beyond the cut. */
export function Body({ text }: { text: string }) {
  const how = render.value;
  const [expanded, setExpanded] = useState(false);
  const { query, regex } = address.value;
  const hitBeyond = useMemo(() => query !== undefined && text.length > INLINE && text.slice(INLINE).search(patternOf(query, regex === "1") ?? /$^/) >= 0, [text, query, regex]);
  const all = expanded || hitBeyond;
  if (text.length > INLINE)
    return (
      <>
        <Plain text={all ? text : text.slice(0, INLINE)} />
        {!all && <button type="button" onClick={() => setExpanded(true)}>Show all {text.length.toLocaleString("en")} characters</button>}
      </>
    );
  if (!how.think) return <Passage text={text} how={how} />;
  return (
    <>
      {passages(text).map((passage, index) =>
        passage.kind === "think" ? (
          <details class="think" key={index} open>
            <summary>Thinking{passage.open ? " (not closed)" : ""}</summary>
            <Passage text={passage.source} how={how} />
          </details>
        ) : passage.source.trim() ? <Passage key={index} text={passage.source} how={how} /> : null,
      )}
    </>
  );
}

export function Json({ text }: { text: string }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    let pretty = text;
    if (text.length < 100_000)
      try {
        // Only if nothing is lost: numbers with more digits than a double has stay as they were written.
        const compact = JSON.stringify(JSON.parse(text));
        if (compact.replace(/\s/g, "") === text.replace(/\s/g, "")) pretty = JSON.stringify(JSON.parse(text), null, 2);
      } catch {
        // Not JSON: shown unchanged.
      }
    if (pretty.length > INLINE) pretty = `${pretty.slice(0, INLINE)} …`;
    box.current?.replaceChildren(jsonBlock(pretty));
  }, [text]);
  return <div ref={box} />;
}

const IMAGES = /^image\/(png|jpeg|gif|webp|bmp|svg\+xml)$/;

export function Picture({ block, run }: { block: Block; run: string }) {
  const [wrong, setWrong] = useState(false);
  const type = (block.mimeType ?? "image/png").toLowerCase();
  const source = block.sha256 && !shared
    ? `api/image?run=${encodeURIComponent(run)}&sha256=${encodeURIComponent(block.sha256)}`
    : block.data && IMAGES.test(type) ? `data:${type};base64,${block.data}` : null;
  if (!source || wrong) return <p class="none">An image ({type}) that cannot be shown.</p>;
  return <img src={source} alt={`Recorded image, ${type}`} loading="lazy" onError={() => setWrong(true)} />;
}

function Reasoning({ block }: { block: Block }) {
  const text = block.content ?? "";
  const hidden = !text;
  return (
    <details class="think" open>
      <summary>{hidden ? "Hidden reasoning" : "Reasoning"}</summary>
      {text ? <Body text={text} /> : block.summary ? <><p class="none">The provider's summary:</p><Body text={block.summary} /></> : <p class="none">The provider does not show this reasoning{block.content_reference ? "; it gave a reference to it" : ""}.</p>}
    </details>
  );
}

export function Blocks({ blocks, run }: { blocks: Block[]; run: string }) {
  return (
    <>
      {blocks.map((block, index) => {
        if (block.type === "text") return <Body key={index} text={block.text ?? ""} />;
        if (block.type === "reasoning") return <Reasoning key={index} block={block} />;
        if (block.type === "image") return <Picture key={index} block={block} run={run} />;
        return <Json key={index} text={JSON.stringify(block)} />;
      })}
    </>
  );
}
