import { useEffect } from "preact/hooks";
import { address, at, go } from "../address";
import { Link, Problem } from "../components";
import { marked } from "./highlights";
import { useHitsOf } from "./marking";
import { addressOf, results, searchedBy, searchPageOf, useResults } from "./results";
import { qualifiersOf } from "./query";
import type { Hit, Snippet } from "./search";

/** The number of the last rollout of the results that was open: from one without hits, the next is counted from it. */
let visited = -1;

/** Buttons that step from hit to hit, in this rollout and from rollout to rollout; nothing without a search. */
export function HitBar() {
  return address.value.query ? <Bar query={address.value.query} /> : null;
}

/** The hit of the address: the index of its message (-1: none), its number there, and how many the message has: those that are marked, or as many as were found until they are. */
function placeIn(messages: Snippet[]): { index: number; now: number; count: number } {
  const { message, hit } = address.value;
  const index = messages.findIndex((one) => String(one.message) === message);
  const count = marked.value.message === message ? marked.value.count : (messages[index]?.count ?? 0);
  const wanted = hit === "last" ? count - 1 : Number(hit ?? 0) || 0;
  return { index, count, now: Math.max(0, Math.min(wanted, count - 1)) };
}

type Step = (() => void) | null;

/** What leads from the hit of the address to the next and the previous one; null at the ends. */
function stepsIn(messages: Snippet[], hits: Hit[], place: number): { next: Step; previous: Step } {
  const { index, now, count } = placeIn(messages);
  const to = (number: number, which?: string) => () => go(at({ message: String(messages[number]!.message), hit: which }), true);
  const open = (number: number, last: boolean) => () => {
    const first = addressOf(hits[number]!, hits[number]!.snippets[0], address.value);
    go(last ? { ...first, message: "last" } : first, true);
  };
  const after = place >= 0 ? place + 1 : visited + 1 < hits.length ? visited + 1 : 0;
  const before = place >= 0 ? place - 1 : Math.min(visited, hits.length - 1);
  const next = index >= 0 && now + 1 < count ? to(index, String(now + 1)) : messages[index + 1] ? to(index + 1) : hits[after] ? open(after, false) : null;
  const previous = index >= 0 && now > 0 ? to(index, String(now - 1)) : index > 0 ? to(index - 1, "last") : hits[before] && before !== place ? open(before, true) : null;
  return { next, previous };
}

function Bar({ query }: { query: string }) {
  const { run, sample, message, hit } = address.value;
  const { value, error } = useHitsOf();
  const found = useResults(searchedBy(address.value));
  const place = found.hits.findIndex((one) => one.run === run && one.id === sample);
  if (place >= 0) visited = place;
  const messages = value?.snippets ?? [];
  useEffect(() => {
    if (message === "last" && messages.length) go(at({ message: String(messages[messages.length - 1]!.message), hit: "last" }), true);
  }, [message, messages]);
  const { index, now } = placeIn(messages);
  const steps = () => stepsIn(messages, found.hits, place);
  const { next, previous } = steps();
  // A quick key comes before this is drawn again: it counts from the hit of the address. What is drawn is of another rollout only after a step to it.
  const act = (which: "next" | "previous") => () => { if (address.value.run === run && address.value.sample === sample) steps()[which]?.(); };
  const button = (label: string, sign: string, which: "next" | "previous", there: Step) => <button type="button" aria-label={label} disabled={!there} onClick={act(which)}>{sign}</button>;
  const number = messages.slice(0, Math.max(0, index)).reduce((sum, one) => sum + one.count, 0) + Math.min(now, Math.max(0, (messages[index]?.count ?? 1) - 1)) + 1;
  const unmarked = index >= 0 && hit !== "last" && marked.value.message === message && marked.value.count === 0 && found.hits.length > 0 && hasWords(query);
  return (
    <div class="hitbar" role="group" aria-label="Hits">
      {button("Previous hit", "‹", "previous", previous)}
      <span role="status">
        {value && (index >= 0 ? <b>{`${number.toLocaleString("en")} of ${times(value.count, "hit")}`}</b> : value.count ? times(value.count, "hit") : "no hit")} in this rollout
        {place >= 0 ? `, rollout ${(place + 1).toLocaleString("en")} of ` : "; "}{found.hits.length.toLocaleString("en")}{found.running || found.stopped ? " or more" : ""}{place >= 0 ? "" : found.hits.length === 1 ? " rollout" : " rollouts"} with <Link to={searchPageOf()}><b dir="auto">{query}</b></Link>
        {unmarked && <span class="note"> The hit is in markup that is not shown: see Raw.</span>}
      </span>
      {button("Next hit", "›", "next", next)}
      <button type="button" class="quiet" aria-label="Leave the search" onClick={() => go(at({ query: undefined, regex: undefined, hit: undefined, scope: undefined }), true)}>✕</button>
      <Problem error={error ?? results.value.error} />
    </div>
  );
}

const hasWords = (query: string) => query.trim() !== (["role", "tool", "is"] as const).flatMap((name) => qualifiersOf(query, name).map((value) => `${name}:${value}`)).join(" ");

export function times(count: number, one: string): string {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}
