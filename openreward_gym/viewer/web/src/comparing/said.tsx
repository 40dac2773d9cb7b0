import { Blocks, Json } from "../text/blocks";
import { argumentsOf, blocksOf, type Call, type Section } from "../reading/rollout";
import { Reward } from "../components";
import { goodness } from "../numbers";
import type { Block, Message, Range } from "../types";

// Messages beside others: less room and fewer tools than on a rollout's own page, the same rendering of texts.

/** How a call's arguments are shown. */
export function CallArguments({ block }: { block: Block }) {
  return <Json text={argumentsOf(block) || "{}"} />;
}

/** How the blocks of a tool's result are shown. */
export function ResultBlocks({ message, run }: { message: Message; run: string }) {
  return <Blocks blocks={message.blocks ?? []} run={run} />;
}

const ROLES: Record<string, string> = { system: "System", user: "User", assistant: "Assistant", tool: "Tool result" };

/** The title of a message that is no turn: its role, and for an assistant's that it was given. */
export function titleOf(message: Message): string {
  const name = ROLES[message.role] ?? message.role;
  if (message.role === "assistant") return "Assistant, given history";
  return message.role === "tool" && message.is_error ? "Error" : name;
}

function CallView({ block, result, number, run, range }: { block: Block; result: Message | null; number: number | null; run: string; range: Range | null }) {
  return (
    <div class={`call${result?.is_error ? " error" : ""}`}>
      <div class="call-head"><span class="tool">{block.name}</span></div>
      <CallArguments block={block} />
      {result && (
        <div class="result" data-result={number ?? undefined}>
          <div class="call-head"><span class="kind">{result.is_error ? "Error" : "Result"}</span><span class="space" />{result.reward != null && <Reward label="Reward" value={result.reward} good={goodness(result.reward, range)} />}</div>
          <ResultBlocks message={result} run={run} />
        </div>
      )}
    </div>
  );
}

/** The blocks of a message in their order, each call with its result. */
export function Said({ message, calls = [], run, range = null }: { message: Message; calls?: Call[]; run: string; range?: Range | null }) {
  const blocks = blocksOf(message);
  let call = -1;
  return (
    <>
      {blocks.map((block, index) => {
        if (block.type !== "tool_call") return <Blocks key={index} blocks={[block]} run={run} />;
        call += 1;
        const of = calls[call];
        return <CallView key={index} block={block} result={of?.result ?? null} number={of?.number ?? null} run={run} range={range} />;
      })}
      {!blocks.length && <p class="none">An empty message.</p>}
    </>
  );
}

/** Messages that are no turns, each under its role. */
export function Messages({ list, run }: { list: Section[]; run: string }) {
  return (
    <>
      {list.map((section) => (
        <div class={`said ${section.message.role}${section.message.is_error ? " error" : ""}`} key={section.number}>
          <b class="kind">{titleOf(section.message)}</b>
          {section.message.role === "tool" ? <ResultBlocks message={section.message} run={run} /> : <Said message={section.message} run={run} />}
        </div>
      ))}
    </>
  );
}
