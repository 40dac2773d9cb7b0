import { Arguments, Blocks, Literal } from "../text/blocks";
import { blocksOf, type Call, type Section } from "../reading/rollout";
import { Reward } from "../components";
import { goodness } from "../numbers";
import type { Block, Message, Range } from "../types";

// Messages beside others: less room and fewer tools than on a rollout's own page, the same rendering of texts.

const ROLES: Record<string, string> = { system: "System", user: "User", assistant: "Assistant", tool: "Tool result" };

/** The title of a message that is no turn: its role, and for an assistant's that it was given. */
export function titleOf(message: Message): string {
  const name = Object.hasOwn(ROLES, message.role) ? ROLES[message.role]! : message.role;
  if (message.role === "assistant") return "Assistant, given history";
  return message.role === "tool" && message.is_error ? "Error" : name;
}

function CallView({ block, result, number, run, range }: { block: Block; result: Message | null; number: number | null; run: string; range: Range | null }) {
  return (
    <div class={`call${result?.is_error ? " error" : ""}`}>
      <div class="call-head plain"><span class="tool" dir="auto"><Literal text={block.name} /></span></div>
      <Arguments block={block} />
      {result && (
        <div class="result" data-result={number ?? undefined}>
          <div class="result-head"><span class="kind">{result.is_error ? "Error" : "Result"}</span><span class="space" />{result.reward != null && <Reward label="Reward" value={result.reward} good={goodness(result.reward, range)} />}</div>
          <Blocks blocks={result.blocks ?? []} run={run} machine />
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
        if (block.type !== "tool_call") return <Blocks key={index} blocks={[block]} run={run} role={message.role} quiet={calls.length > 0} />;
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
          {section.message.role === "tool" ? <Blocks blocks={section.message.blocks ?? []} run={run} machine /> : <Said message={section.message} run={run} />}
        </div>
      ))}
    </>
  );
}
