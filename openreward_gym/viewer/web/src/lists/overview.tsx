import { address, at, stepKey } from "../address";
import { type Parameters, useRequest } from "../api";
import { Link, Problem, Reward } from "../components";
import { finite, goodness, shade } from "../numbers";
import { rangeOf } from "../reading/sample";
import { grouped } from "./layout";
import { WINDOW } from "./uselist";
import type { Group, Listing, Run } from "../types";

const CARDS = 48;

/** The groups of a step as cards, page by page: the beginning of the prompt and the rewards of the samples. */
export function Cards({ run, runKey, step, discarded }: { run: Run | undefined; runKey: string; step: number | null | undefined; discarded: boolean }) {
  const { filter = "", sort = "", from = "0" } = address.value;
  const list: Parameters = { run: runKey, step: step ?? "", discarded, filter, sort, flat: false };
  const first = useRequest<Listing>(step === undefined ? null : "list", { ...list, limit: WINDOW }, true);
  const layout = grouped(first.value?.sizes ?? []);
  const begin = Math.min(Math.max(0, Math.floor(Number(from)) || 0), Math.max(0, layout.groups - 1));
  const end = Math.min(layout.groups, begin + CARDS);
  const [offset, behind] = [layout.groupStart(begin), layout.groupStart(end)];
  const apart = first.value !== null && (offset > 0 || behind > WINDOW);
  const other = useRequest<Listing>(apart ? "list" : null, { ...list, offset: offset || "", limit: Math.min(2000, behind - offset) }, true, true);
  const page = apart ? other.value : first.value;
  const groups = page ? groupsAt(page, offset, behind) : [];
  if (first.error) return <Problem error={first.error} />;
  if (!first.value) return <p class="empty">Opening…</p>;
  return (
    <>
      <div class="cards">{groups.map((group, index) => <GroupCard key={group.group} group={group} count={layout.groupStart(begin + index + 1) - layout.groupStart(begin + index)} run={run} step={step ?? null} />)}</div>
      {layout.groups > CARDS && (
        <nav class="line pages" aria-label="Pages of groups">
          {begin > 0 ? <Link to={at({ from: begin > CARDS ? String(begin - CARDS) : undefined })} class="button">Previous</Link> : null}
          <span class="note">Groups {(begin + 1).toLocaleString("en")} to {end.toLocaleString("en")} of {layout.groups.toLocaleString("en")}</span>
          {end < layout.groups ? <Link to={at({ from: String(end) })} class="button">Next</Link> : null}
          {end < layout.groups ? <Link to={at({ from: String(Math.floor((layout.groups - 1) / CARDS) * CARDS) })} class="button">Last</Link> : null}
        </nav>
      )}
    </>
  );
}

/** The groups of the rollouts from one offset to another. */
function groupsAt(page: Listing, from: number, to: number): Group[] {
  const groups: Group[] = [];
  let offset = page.offset;
  for (const group of page.groups) {
    if (offset >= from && offset < to) groups.push(group);
    offset += group.cards.length;
  }
  return groups;
}

/** A group as a card; `count` is the number of its samples, of which a large group's first ones are known. */
function GroupCard({ group, count, run, step }: { group: Group; count: number; run: Run | undefined; step: number | null }) {
  const range = rangeOf(run, "reward");
  const rewards = group.cards.map((card) => finite(card.reward)).filter((reward) => reward !== null);
  const mean = rewards.length ? rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length : null;
  return (
    <Link to={at({ step: stepKey(step), group: group.group, sample: undefined, view: undefined, message: undefined })} class="card">
      <span class="prompt" dir="auto">{group.prompt || "(no prompt)"}</span>
      <span class="dots" aria-hidden="true">{group.cards.slice(0, 32).map((card) => <i key={card.id} class={shade(goodness(card.reward, range))} />)}</span>
      <span class="line"><span class="note">{count.toLocaleString("en")} {count === 1 ? "sample" : "samples"}</span><span class="space" />{group.cards.length >= count && <Reward label={count === 1 ? "Reward" : "Mean"} value={mean} good={goodness(mean, range)} />}</span>
    </Link>
  );
}
