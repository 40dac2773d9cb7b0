import { useEffect } from "preact/hooks";
import { address, at, go } from "../address";
import { Link, Problem } from "../components";
import { marked } from "./highlights";
import { useHitsOf } from "./marking";
import { addressOf, results, searchedBy, searchPageOf, useResults } from "./results";
import { qualifiersOf } from "./query";

/** The number of the last rollout of the results that was open: from one without hits, the next is counted from it. */
let visited = -1;

/** Buttons that step from hit to hit, in this rollout and from rollout to rollout; nothing without a search. */
export function HitBar() {
  return address.value.query ? <Bar query={address.value.query} /> : null;
}

function Bar({ query }: { query: string }) {
  const { run, sample, message, hit } = address.value;
  const { value, error } = useHitsOf();
  const found = useResults(searchedBy(address.value));
  const place = found.hits.findIndex((one) => one.run === run && one.id === sample);
  if (place >= 0) visited = place;
  const messages = value?.snippets ?? [];
  const index = messages.findIndex((one) => String(one.message) === message);
  useEffect(() => {
    if (message === "last" && messages.length) go(at({ message: String(messages[messages.length - 1]!.message), hit: "last" }), true);
  }, [message, messages]);
  const shown = marked.value.message === message ? marked.value : { count: 0, now: 0 };
  const to = (number: number, which?: string) => () => go(at({ message: String(messages[number]!.message), hit: which }), true);
  const open = (number: number, last: boolean) => () => {
    const address_ = addressOf(found.hits[number]!, found.hits[number]!.snippets[0], address.value);
    go(last ? { ...address_, message: "last" } : address_, true);
  };
  const after = place >= 0 ? place + 1 : visited + 1 < found.hits.length ? visited + 1 : 0;
  const before = place >= 0 ? place - 1 : Math.min(visited, found.hits.length - 1);
  const next = index >= 0 && shown.now + 1 < shown.count ? to(index, String(shown.now + 1))
    : messages[index + 1] ? to(index + 1) : found.hits[after] ? open(after, false) : null;
  const previous = index >= 0 && shown.now > 0 ? to(index, String(shown.now - 1))
    : index > 0 ? to(index - 1, "last") : found.hits[before] && before !== place ? open(before, true) : null;
  const button = (label: string, sign: string, act: (() => void) | null) => <button type="button" aria-label={label} disabled={!act} onClick={act ?? undefined}>{sign}</button>;
  const number = messages.slice(0, Math.max(0, index)).reduce((sum, one) => sum + one.count, 0) + Math.min(shown.now, Math.max(0, (messages[index]?.count ?? 1) - 1)) + 1;
  const unmarked = index >= 0 && hit !== "last" && shown.count === 0 && marked.value.message === message && found.hits.length > 0 && hasWords(query);
  return (
    <div class="hitbar" role="group" aria-label="Hits">
      {button("Previous hit", "‹", previous)}
      <span role="status">
        {value && (index >= 0 ? <b>{`${number.toLocaleString("en")} of ${times(value.count, "hit")}`}</b> : value.count ? times(value.count, "hit") : "no hit")} in this rollout
        {place >= 0 ? `, rollout ${(place + 1).toLocaleString("en")} of ` : "; "}{found.hits.length.toLocaleString("en")}{found.running || found.stopped ? " or more" : ""}{place >= 0 ? "" : found.hits.length === 1 ? " rollout" : " rollouts"} with <Link to={searchPageOf()}><b dir="auto">{query}</b></Link>
        {unmarked && <span class="note"> The hit is in markup that is not shown: see Raw.</span>}
      </span>
      {button("Next hit", "›", next)}
      <button type="button" class="quiet" aria-label="Leave the search" onClick={() => go(at({ query: undefined, regex: undefined, hit: undefined, scope: undefined }), true)}>✕</button>
      <Problem error={error ?? results.value.error} />
    </div>
  );
}

const hasWords = (query: string) => query.trim() !== (["role", "tool", "is"] as const).flatMap((name) => qualifiersOf(query, name).map((value) => `${name}:${value}`)).join(" ");

export function times(count: number, one: string): string {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}
