import { at } from "../address";
import { goodness } from "../numbers";
import { Link, Reward } from "../components";
import { commonTurns } from "../reading/rollout";
import { rangeOf } from "../reading/sample";
import type { Card, Opened, Run } from "../types";
import { compareTurns, meaningOf, playedOf, type Step } from "./alignment";
import { formatSide } from "./choosing";
import { Said } from "./said";

interface Branch { step: Step | undefined; cards: Card[] }

function meanOf(cards: Card[]): number | null {
  const values = cards.map((card) => card.reward).filter((value): value is number => typeof value === "number");
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

/** The turns that the samples share, folded, then the first action in which they differ and the reward of each branch. */
export function Divergence({ run, runKey, cards, opened }: { run: Run | undefined; runKey: string; cards: Card[]; opened: Record<string, Opened> }) {
  const ready = cards.filter((card) => opened[card.id]);
  if (ready.length < cards.length) return <p class="empty">Opening {cards.length} samples…</p>;
  const steps = ready.map((card) => playedOf(opened[card.id]!.rollout).steps);
  const common = commonTurns(steps.map((list) => list.map((step) => meaningOf(step.turn.message))));
  const branches = new Map<string, Branch>();
  ready.forEach((card, index) => {
    const step = steps[index]![common];
    const meaning = step ? meaningOf(step.turn.message) : "";
    const branch = branches.get(meaning) ?? { step, cards: [] };
    branch.cards.push(card);
    branches.set(meaning, branch);
  });
  const range = rangeOf(run, "reward");
  const shared = steps[0]?.slice(0, common) ?? [];
  const otherwise = shared.map((step, index) => {
    const pairs = steps.slice(1).map((list) => compareTurns(index + 1, step, list[index]!));
    return [...new Set(pairs.flatMap((pair) => pair.words))];
  });
  return (
    <section class="divergence" aria-label="Divergence">
      <p class="note">{common === 0 ? "The samples differ from the first action on." : `The first ${common === 1 ? "turn is" : `${common} turns are`} the same in all samples${otherwise.some((words) => words.length) ? ", by meaning" : ""}.`}</p>
      {common > 0 && (
        <details class="section folded"><summary>Shared turns</summary>{shared.map((step, index) => (
          <div class="inside" key={step.turn.number}><p class="line"><b class="kind">Turn {index + 1}</b>{otherwise[index]!.map((word) => <span class="note" key={word}>{word}</span>)}</p><Said message={step.turn.message} run={runKey} /></div>
        ))}</details>
      )}
      <ol class="branches">
        {[...branches.values()].sort((a, b) => (meanOf(b.cards) ?? -Infinity) - (meanOf(a.cards) ?? -Infinity)).map((branch) => (
          <li key={branch.cards[0]!.id} class="section">
            <header><h2>Turn {common + 1}, {branch.cards.length} of {ready.length}</h2><span class="space" /><Reward label="Mean reward" value={meanOf(branch.cards)} good={goodness(meanOf(branch.cards), range)} /></header>
            <div class="inside">
              <div class="differs">{branch.step ? <Said message={branch.step.turn.message} run={runKey} /> : <p class="none">No further turn.</p>}</div>
              <p class="line">{branch.cards.map((card) => <Link key={card.id} to={at({ sample: card.id, view: undefined })} class="button">Sample {card.sample ?? card.id.slice(0, 8)} <Reward label="" value={card.reward} good={goodness(card.reward, range)} /></Link>)}</p>
            </div>
          </li>
        ))}
      </ol>
      {branches.size === 2 && <p class="line"><Link class="button" to={{ page: "pair", left: formatSide({ run: runKey, id: [...branches.values()][0]!.cards[0]!.id }), right: formatSide({ run: runKey, id: [...branches.values()][1]!.cards[0]!.id }) }}>Compare one sample of each branch</Link></p>}
    </section>
  );
}
