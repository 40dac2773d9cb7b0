import { address, at } from "../address";
import { Blocks } from "../text/blocks";
import { goodness } from "../numbers";
import { Link, Reward } from "../components";
import { actionOf, blocksOf, commonTurns, sections } from "../reading/rollout";
import { rangeOf } from "../reading/sample";
import type { Card, Opened, Run } from "../types";

/** The turns that the samples share, folded, then the first action in which they differ and the reward of each branch. */
export function Divergence({ run, cards, opened }: { run: Run | undefined; cards: Card[]; opened: Record<string, Opened> }) {
  const ready = cards.filter((card) => opened[card.id]);
  if (ready.length < cards.length) return <p class="empty">Opening {cards.length} samples…</p>;
  const turns = ready.map((card) => sections(opened[card.id]!.rollout).filter((section) => section.kind === "turn"));
  const common = commonTurns(turns.map((list) => list.map((section) => actionOf(section.message))));
  const branches = new Map<string, { action: string; cards: Card[] }>();
  ready.forEach((card, index) => {
    const section = turns[index]![common];
    const action = section ? actionOf(section.message) : "(no further turn)";
    const branch = branches.get(action) ?? { action, cards: [] };
    branch.cards.push(card);
    branches.set(action, branch);
  });
  const mean = (list: Card[]) => {
    const values = list.map((card) => card.reward).filter((value): value is number => typeof value === "number");
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  };
  const range = rangeOf(run, "reward");
  return (
    <section class="divergence" aria-label="Divergence">
      <p class="note">{common === 0 ? "The samples differ from the first action on." : `The first ${common === 1 ? "turn is" : `${common} turns are`} the same in all samples.`}</p>
      {common > 0 && (
        <details><summary>Shared turns</summary>{turns[0]!.slice(0, common).map((section) => <div class="section inside" key={section.number}><Blocks blocks={blocksOf(section.message).filter((block) => block.type !== "tool_call")} run={address.value.run ?? ""} /><pre class="raw">{actionOf(section.message)}</pre></div>)}</details>
      )}
      <ol class="branches">
        {[...branches.values()].sort((a, b) => (mean(b.cards) ?? -Infinity) - (mean(a.cards) ?? -Infinity)).map((branch) => (
          <li key={branch.action} class="section">
            <header><h2>Turn {common + 1}, {branch.cards.length} of {ready.length}</h2><span class="space" /><Reward label="Mean reward" value={mean(branch.cards)} good={goodness(mean(branch.cards), range)} /></header>
            <div class="inside">
              <pre class="raw differs" dir="auto">{branch.action.slice(0, 3000) || "(an empty message)"}</pre>
              <p class="line">{branch.cards.map((card) => <Link key={card.id} to={at({ sample: card.id, view: undefined })} class="button">Sample {card.sample ?? card.id.slice(0, 8)} <Reward label="" value={card.reward} good={goodness(card.reward, range)} /></Link>)}</p>
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}
