import { Blocks, Json } from "../text/blocks";
import { shown } from "../numbers";
import { stringifyExact } from "../text/exact";
import { endOf } from "./words";
import type { Rollout } from "../types";

/** The mark at the end of the timeline. */
export function End({ rollout }: { rollout: Rollout }) {
  const running = rollout.status === "running";
  return (
    <p class={`ending ${rollout.status}`} role="status">
      {endOf(rollout)}{running ? "…" : "."} Return <b>{shown(rollout.reward ?? null)}</b>{running ? " so far" : ""}.
    </p>
  );
}

export function Golden({ rollout }: { rollout: Rollout }) {
  const golden = rollout.task?.golden_answer;
  if (golden === null || golden === undefined || golden === "") return null;
  return (
    <section class="section golden" aria-label="Golden answer">
      <header><h2>Golden answer</h2></header>
      <div class="inside">{typeof golden === "string" ? <Blocks blocks={[{ type: "text", text: golden }]} run="" /> : <Json text={stringifyExact(golden)} />}</div>
    </section>
  );
}
