import { Blocks, Literal } from "../text/blocks";
import { goodness, seconds } from "../numbers";
import { Copy, Reward } from "../components";
import { wholeMessage } from "../opened";
import { CallView } from "./calls";
import { Notes } from "./notes";
import { durationOf, partsOf, type Section, textOf, tokensOf } from "./rollout";
import { TurnTokens } from "./tokens";
import { type Drift, leftOut, tokensRecorded } from "./sampled";
import type { Message, Range } from "../types";

const NAMES: Record<string, string> = { system: "System", user: "User", assistant: "Assistant", tool: "Tool result" };

function TokenCount({ message, text }: { message: Message; text: string }) {
  const { count, estimated } = tokensOf(message, text);
  return <span class="tokens" title={estimated ? "Not recorded; estimated as a quarter of the characters." : "As recorded."}>{estimated ? "≈ " : ""}{count.toLocaleString("en")} tokens</span>;
}

export interface SectionProps {
  section: Section; index: number; run: string; range: Range | null; running: boolean; closed: boolean; toggle: (index: number) => void;
  showTokens: boolean; decodes: boolean; drift: Drift | null; rollout: string; ofPrompt: boolean; again: number;
}

/** A message of the prompt, or a turn with its calls and their results. */
export function SectionView({ section, index, run, range, running, closed, toggle, showTokens, decodes, drift, rollout, ofPrompt, again }: SectionProps) {
  const { message } = section;
  const text = textOf(message);
  const isTurn = section.kind === "turn";
  const title = isTurn ? `Turn ${section.turn}` : NAMES[message.role] ?? message.role;
  const seconds_ = durationOf(message.started_at, message.ended_at);
  const tokensHere = showTokens && tokensRecorded(message) && !leftOut(message);
  const failed = message.is_error || (closed && section.calls.some((call) => call.result?.is_error));
  const earned = message.reward != null || (closed && section.earned !== null);
  return (
    <section
      class={`section ${message.role}${ofPrompt ? " given" : ""}${message.is_error ? " error" : ""}`} id={`section-${index}`} tabIndex={-1} aria-label={again > 1 ? `${title} ${again}` : title} data-message={section.number}
      data-turn={isTurn ? section.turn : undefined} data-error={failed ? "" : undefined} data-reward={earned ? "" : undefined}
    >
      <header>
        <button type="button" class="fold" aria-expanded={!closed} onClick={() => toggle(index)}>
          <h2>{title}{isTurn ? <small> Assistant</small> : message.name ? <small> <Literal text={message.name} /></small> : null}</h2>
        </button>
        <TokenCount message={message} text={text} />
        <Notes message={message} />
        {message.sampled?.stop_reason && <span class="tokens">stop: {message.sampled.stop_reason}</span>}
        {seconds_ !== null && <span class="tokens">{seconds(seconds_)}</span>}
        {drift && <span class="badge" title={`Differs from the turns before as they were sampled from token ${drift.at} on.`}>re-rendered</span>}
        <span class="space" />
        {message.reward != null && <Reward label="Reward" value={message.reward} good={goodness(message.reward, range)} />}
        {closed && message.reward == null && section.earned !== null && <Reward label="Reward" value={section.earned} good={goodness(section.earned, range)} />}
        {message.finished && <span class="badge end">ends the episode</span>}
        <Copy text={async () => textOf(await wholeMessage(message))} />
      </header>
      {!closed && (
        <div class="inside">
          {tokensHere ? <TurnTokens message={message} number={section.number} turn={section.turn} run={run} rollout={rollout} decodes={decodes} drift={drift} /> : null}
          {!message.blocks?.length && <p class="none">An empty message.</p>}
          {partsOf(section).map((part, number) => part.kind === "call"
            ? <CallView key={number} call={part.call} run={run} range={range} several={section.calls.length > 1} running={running} />
            : tokensHere ? null : <Blocks key={number} blocks={part.blocks} run={run} role={message.role} quiet={section.calls.length > 0} />)}
        </div>
      )}
    </section>
  );
}
