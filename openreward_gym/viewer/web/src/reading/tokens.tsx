import { useMemo, useRef, useState } from "preact/hooks";
import { type ApiError, useRequest } from "../api";
import { Problem } from "../components";
import { finite, shown } from "../numbers";
import { jumpToSection } from "./moving";
import { sectionOf, type Section } from "./rollout";
import { type Drift, driftWords, isTrained, leftOut, meanLogprob, shadeOf, tokenCount, tokensRecorded } from "./sampled";
import type { Message, Num } from "../types";

const CHUNK = 1_000;
const PROMPT_SHOWN = 2_000;
const SHADES = ["90 % and more", "70–90 %", "40–70 %", "10–40 %", "1–10 %", "below 1 %"];

interface Pieces { pieces: (string | null)[] }

/** What the colours mean, what was recorded, and where prompts drift. */
export function TokensLegend({ list, drifts, decodes, loading, error }: { list: Section[]; drifts: Map<number, Drift>; decodes: boolean; loading: boolean; error: ApiError | null }) {
  const turns = list.filter((section) => section.kind === "turn");
  const recorded = turns.filter((section) => tokensRecorded(section.message));
  const sampled = recorded.reduce((sum, { message }) => sum + tokenCount(message), 0);
  const trained = recorded.filter(({ message }) => isTrained(message)).length;
  return (
    <section class="section token-legend" aria-label="Tokens">
      <p class="line">
        <b>Probability of a sampled token</b>
        {SHADES.map((name, shade) => <span key={name} class={`tok p${shade}`}>{name}</span>)}
        <span class="tok">not recorded</span>
      </p>
      <p class="note">
        {sampled.toLocaleString("en")} sampled tokens in {recorded.length} of {turns.length} {turns.length === 1 ? "turn" : "turns"}, {trained === recorded.length ? "all" : trained} trained (underlined); prompts are context and not trained.
        {!decodes && <> Without a tokenizer a token is shown as its id: <code>openreward-gym view … --tokenizer MODEL</code> shows its text.</>}
      </p>
      {loading && <p class="note" role="status">Loading: the tokens of {recorded.filter(({ message }) => !leftOut(message)).length} of {recorded.length} turns are here.</p>}
      <Problem error={error} />
      {[...drifts].map(([number, drift]) => (
        <p class="drift" key={number}>{driftWords(drift)} <button type="button" class="quiet" onClick={() => jumpToSection(sectionOf(list, number))}>Go to turn {drift.turn}</button></p>
      ))}
    </section>
  );
}

/** A piece of text with its white space visible, without changing where lines break. */
function pieceText(piece: string): string {
  return piece.replace(/\n/g, "↵\n").replace(/\t/g, "⇥\t") || "∅";
}

function Token({ number, id, logprob, piece, mark }: { number: number; id: number; logprob: Num | undefined; piece: string | null | undefined; mark: boolean }) {
  const shade = shadeOf(logprob);
  const text = piece === undefined ? String(id) : piece === null ? "◌" : pieceText(piece);
  return <span data-token={number} class={`tok${shade === null ? "" : ` p${shade}`}${piece === undefined ? " bare" : ""}${mark ? " from-here" : ""}`}>{text}</span>;
}

/** Tokens as boxes; one tab stop, in which the arrow keys move. */
function TokenBoxes({ ids, logprobs, pieces, trained, label, first = 0, mark = -1 }: { ids: number[]; logprobs: Num[]; pieces: (string | null)[] | null; trained: boolean; label: string; first?: number; mark?: number }) {
  const [now, setNow] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const chunks = useMemo(() => {
    const list = [];
    for (let at = 0; at < ids.length; at += CHUNK)
      list.push(<span class="chunk" key={at}>{ids.slice(at, at + CHUNK).map((id, index) => <Token key={index} number={at + index} id={id} logprob={logprobs[at + index]} piece={pieces ? pieces[at + index] : undefined} mark={first + at + index === mark} />)}</span>);
    return list;
  }, [ids, logprobs, pieces, mark]);
  const select = (number: number) => {
    setNow(number);
    for (const node of box.current!.querySelectorAll(".now")) node.classList.remove("now");
    const node = box.current!.querySelector(`[data-token="${number}"]`);
    node?.classList.add("now");
    node?.scrollIntoView({ block: "nearest" });
  };
  const keys: Record<string, number> = { ArrowRight: (now ?? -1) + 1, ArrowLeft: (now ?? 1) - 1, Home: 0, End: ids.length - 1 };
  return (
    <>
      <div
        ref={box} class={`token-boxes${trained ? " trained" : ""}`} role="application" tabIndex={0} aria-label={`${label}: arrow keys go from token to token`} dir="auto"
        onMouseOver={(event) => { const number = (event.target as HTMLElement).dataset.token; if (number) setNow(Number(number)); }}
        onKeyDown={(event) => {
          const to = keys[event.key];
          if (to === undefined) return;
          event.preventDefault();
          select(Math.max(0, Math.min(ids.length - 1, to)));
        }}
      >{chunks}</div>
      <p class="token-told" aria-live="polite">{now === null ? "Point at a token, or use the arrow keys, for its values." : tokenWords(first + now, first + ids.length, ids[now]!, pieces?.[now], logprobs[now], trained)}</p>
    </>
  );
}

function tokenWords(number: number, count: number, id: number, piece: string | null | undefined, logprob: Num | undefined, trained: boolean): string {
  const value = finite(logprob);
  const chance = value === null ? "" : ` (${shown(100 * Math.exp(value), 1)} %)`;
  const text = piece === undefined ? "" : piece === null ? ", part of the next character" : `, ${JSON.stringify(piece)}`;
  return `Token ${number} of ${count}${text}, id ${id}, log-probability ${logprob === undefined ? "not recorded" : shown(logprob)}${chance}, ${trained ? "trained" : "not trained"}`;
}

/** The sampled tokens of a turn, and the tokens that it was sampled from. */
export function TurnTokens({ message, number, turn, run, rollout, decodes, drift }: { message: Message; number: number; turn: number; run: string; rollout: string; decodes: boolean; drift: Drift | null }) {
  const { token_ids: ids = [], logprobs, prompt_token_ids: prompt } = message.sampled!;
  const answer = useRequest<Pieces>(decodes ? "tokens" : null, { run, id: rollout, message: number }, false);
  const trained = isTrained(message);
  const mean = meanLogprob(message);
  const none = useMemo<Num[]>(() => [], []);
  return (
    <div class="turn-tokens">
      {drift && <p class="drift" role="note">{driftWords(drift)}</p>}
      <Problem error={answer.error} />
      <p class="line"><span class={trained ? "badge trained" : "badge"}>{trained ? "trained" : "not trained"}</span><span class="tokens">{ids!.length.toLocaleString("en")} sampled tokens{mean === null ? ", no log-probabilities" : `, mean log-probability ${shown(mean)}`}</span></p>
      <TokenBoxes ids={ids!} logprobs={logprobs ?? none} pieces={answer.value?.pieces ?? null} trained={trained} label={`Sampled tokens of turn ${turn}`} />
      {prompt && <PromptTokens prompt={prompt} turn={turn} drift={drift} request={decodes ? { run, id: rollout, message: number, prompt: true } : null} />}
    </div>
  );
}

function PromptTokens({ prompt, turn, drift, request }: { prompt: number[]; turn: number; drift: Drift | null; request: Record<string, string | number | boolean> | null }) {
  const [open, setOpen] = useState(false);
  const { value, error } = useRequest<Pieces>(open && request ? "tokens" : null, request ?? {}, false);
  const first = Math.max(0, Math.min(prompt.length - PROMPT_SHOWN, (drift?.at ?? prompt.length) - 100));
  const ids = useMemo(() => prompt.slice(first, first + PROMPT_SHOWN), [prompt, first]);
  const pieces = useMemo(() => value?.pieces.slice(first, first + PROMPT_SHOWN) ?? null, [value, first]);
  const none = useMemo<Num[]>(() => [], []);
  return (
    <details class="prompt-tokens" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Prompt: {prompt.length.toLocaleString("en")} tokens, not trained</summary>
      <Problem error={error} />
      {open && ids.length < prompt.length && <p class="note">Tokens {first.toLocaleString("en")} to {(first + ids.length - 1).toLocaleString("en")}.</p>}
      {open && <TokenBoxes ids={ids} logprobs={none} pieces={pieces} trained={false} label={`Prompt tokens of turn ${turn}`} first={first} mark={drift?.at ?? -1} />}
    </details>
  );
}
