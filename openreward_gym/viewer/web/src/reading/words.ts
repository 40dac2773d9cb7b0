import { titleCase } from "../numbers";
import type { Rollout } from "../types";

// What a record says in its own words, as phrases that a reader understands.

const REASONS: Record<string, string> = {
  finished: "", message: "with a message", max_steps: "max steps", max_tokens: "max tokens", deadline: "time limit", context_overflow: "the context is full",
  length: "the message was cut at its token limit", content_filter: "content filter", refusal: "the provider refused", no_action: "no action",
  session_lost: "session lost", tool_failed: "a tool failed", outcome_unknown: "outcome of a call unknown", policy_failed: "the policy failed", cancelled: "",
};
const STATUSES: Record<string, string> = { completed: "Finished", truncated: "Truncated", error: "Error", cancelled: "Cancelled", running: "Running" };
// Characters that are invisible, or that change the direction of what stands around them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A text in one line without invisible characters, cut at `length`. */
export function oneLine(text: string, length: number): string {
  const line = text.slice(0, length * 4).replace(/\s+/g, " ").replace(HIDDEN, "\u00b7").trim();
  return (line.length > length ? `${line.slice(0, length - 1).trimEnd()}…` : line).toWellFormed();
}

/** How the episode ended, in one phrase: "Finished", "Truncated: max steps". */
export function endOf({ status, stop_reason }: Pick<Rollout, "status" | "stop_reason">): string {
  const name = STATUSES[status] ?? titleCase(status);
  if (!stop_reason || stop_reason === status) return name;
  const reason = REASONS[stop_reason] ?? oneLine(stop_reason.replace(/_/g, " "), 80);
  if (!reason || reason.toLowerCase() === name.toLowerCase()) return name;
  return stop_reason === "message" ? `${name} ${reason}` : `${name}: ${reason}`;
}

/** How the prompt begins: the text of the first user message. */
export function promptOf(rollout: Rollout): string {
  const user = (rollout.messages ?? []).find((message) => message.role === "user" && (message.blocks ?? []).some((block) => block.text?.trim()));
  return oneLine((user?.blocks ?? []).map((block) => (block.type === "text" ? block.text ?? "" : "")).join(" "), 300);
}

/** The headline of a rollout: how its prompt begins, else its name, else its id. */
export function headlineOf(rollout: Rollout): string {
  return promptOf(rollout) || nameOf(rollout);
}

/** The name of a rollout, or the beginning of its id. */
export function nameOf(rollout: Rollout): string {
  return oneLine(rollout.name ?? "", 120) || `Rollout ${rollout.id.slice(0, 8)}`;
}

/** The name of a rollout in a tab's title: its own, else how its prompt begins. */
export function tabNameOf(rollout: Rollout): string {
  return oneLine(rollout.name ?? "", 60) || oneLine(promptOf(rollout), 60) || nameOf(rollout);
}
