import { useState } from "preact/hooks";
import { Arguments, Blocks, Literal } from "../text/blocks";
import { goodness } from "../numbers";
import { Copy, Reward } from "../components";
import { wholeMessage } from "../opened";
import { shortArguments } from "./arguments";
import { Notes } from "./notes";
import { argumentsOf, type Call, textOf } from "./rollout";
import type { Range } from "../types";

function kindOf(json: string): string {
  return json.startsWith('"') ? "hljs-string" : /^[\d-]/.test(json) ? "hljs-number" : /^[tfn]/.test(json) ? "hljs-literal" : "";
}

function OneLine({ name, pairs }: { name: string; pairs: [string, string][] }) {
  return (
    <code class="oneline" dir="auto"><span class="tool"><Literal text={name} /></span>({pairs.length > 0 && <wbr />}{pairs.map(([key, json], index) => <span key={key}>{index > 0 && ", "}<span class="key">{key}</span>=<bdi class={kindOf(json)}>{json}</bdi></span>)})</code>
  );
}

/** A call and its result directly below it. Short arguments take one line, which unfolds. */
export function CallView({ call, run, range, several, running }: { call: Call; run: string; range: Range | null; several: boolean; running: boolean }) {
  const { block, result } = call;
  const pairs = shortArguments(block);
  const [open, setOpen] = useState(pairs === null);
  const malformed = block.arguments == null && block.content != null;
  return (
    <div class={`call${result?.is_error ? " error" : ""}`} data-error={result?.is_error ? "" : undefined} tabIndex={-1}>
      <div class="call-head">
        <button type="button" class="fold" aria-expanded={open} aria-label={`Call of ${block.name || "a tool"}`} title={open ? "Fold the arguments" : "Unfold the arguments"} onClick={() => setOpen(!open)} />
        {!open && pairs ? <OneLine name={block.name ?? ""} pairs={pairs} /> : <span class="tool" dir="auto"><Literal text={block.name} /></span>}
        {malformed && <span class="badge">not a JSON object</span>}
        <span class="space" />
        {block.call_id && (several || (open && pairs)) && <code class="id" title="The call's id">{block.call_id}</code>}
        <Copy text={() => argumentsOf(block)} />
      </div>
      {open && <Arguments block={block} />}
      {result ? <ResultView call={call} run={run} range={range} /> : <p class="none">{running ? "No result yet." : "No result was recorded."}</p>}
    </div>
  );
}

function ResultView({ call, run, range }: { call: Call; run: string; range: Range | null }) {
  const result = call.result!;
  return (
    <div class="result" data-message={call.number ?? undefined} data-reward={result.reward != null ? "" : undefined} tabIndex={-1} role="group" aria-label={`${result.is_error ? "Error" : "Result"} of ${call.block.name || "the call"}`}>
      <div class="result-head">
        <span class="kind">{result.is_error ? "Error" : "Result"}</span>
        {result.name && result.name !== call.block.name && <span class="note" dir="auto">of <Literal text={result.name} /></span>}
        <Notes message={result} />
        {result.reward != null && <Reward label="Reward" value={result.reward} good={goodness(result.reward, range)} />}
        {result.finished && <span class="badge end">ends the episode</span>}
        <span class="space" />
        <Copy text={async () => textOf(await wholeMessage(result))} />
      </div>
      {result.blocks?.length ? <Blocks blocks={result.blocks} run={run} machine /> : <p class="none">Nothing was returned.</p>}
    </div>
  );
}
