import { notesOf } from "./rollout";
import type { Message } from "../types";

/** What is unusual about a message, as badges. */
export function Notes({ message }: { message: Message }) {
  return <>{notesOf(message).map(([note, why]) => <span class="badge" title={why} key={note}>{note}</span>)}</>;
}
