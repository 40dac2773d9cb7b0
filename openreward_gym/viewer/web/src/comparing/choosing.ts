import type { Address } from "../address";
import { finite } from "../numbers";
import type { Card, Opened } from "../types";

/** A rollout of a pair. */
export interface Side { run: string; id: string }

type Attempt = Card & { run: string };

/** A side as an address has it: the run's key and the rollout's id, each encoded, with a slash between them. */
export function formatSide({ run, id }: Side): string {
  return `${encodeURIComponent(run.toWellFormed())}/${encodeURIComponent(id.toWellFormed())}`;
}

export function parseSide(text: string | undefined): Side | null {
  const [run, id, ...more] = (text ?? "").split("/");
  if (!run || !id || more.length) return null;
  try {
    return { run: decodeURIComponent(run), id: decodeURIComponent(id) };
  } catch {
    return null;
  }
}

/**
 * The two attempts that show best how two runs differ: the best of the better run and the worst of the other one; the best
 * and the worst within one run. With `given`, the other one only.
 */
export function choosePair(attempts: Attempt[], runs: string[], given: Side | null): [Side, Side] | null {
  const [first, second] = [runs[0], runs[1] ?? runs[0]];
  const of = (run: string | undefined) => attempts.filter((card) => run === undefined || card.run === run);
  const [ours, theirs] = [of(first), of(second)];
  if (!ours.length || !theirs.length) return null;
  if (given) {
    const own = attempts.find((card) => card.run === given.run && card.id === given.id);
    const others = theirs.filter((card) => card !== own);
    const value = own ? finite(own.reward) : null;
    const other = value === null ? others[0] : extreme(others, value < mean(others) ? "best" : "worst");
    return other ? [side(other), side(other)] : null;
  }
  const better = mean(ours) >= mean(theirs);
  const left = mean(ours) === mean(theirs) && first !== second ? ours[0] : extreme(ours, better ? "best" : "worst");
  const rest = theirs.filter((card) => card !== left);
  const right = mean(ours) === mean(theirs) && first !== second ? theirs[0] : extreme(rest, better ? "worst" : "best");
  return left && right ? [side(left), side(right)] : null;
}

const side = ({ run, id }: Attempt): Side => ({ run, id });

function mean(cards: Card[]): number {
  const values = cards.map((card) => finite(card.reward)).filter((value): value is number => value !== null);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : -Infinity;
}

function extreme<T extends Card>(cards: T[], which: "best" | "worst"): T | undefined {
  const rated = cards.filter((card) => finite(card.reward) !== null);
  const sign = which === "best" ? 1 : -1;
  return (rated.length ? rated : cards).reduce<T | undefined>((top, card) => (top === undefined || sign * ((finite(card.reward) ?? 0) - (finite(top.reward) ?? 0)) > 0 ? card : top), undefined);
}

/** The address of the pair of a card and another one of its group. */
export function pairInGroup(run: string, card: Card, cards: Card[]): Address | null {
  const chosen = choosePair(cards.map((one) => ({ ...one, run })), [run], { run, id: card.id });
  return chosen ? { page: "pair", left: formatSide({ run, id: card.id }), right: formatSide(chosen[1]) } : null;
}

/** The beginning of a rollout's prompt, in one line. */
export function promptOf(opened: Opened | null): string {
  const message = opened?.rollout.messages?.find((one) => one.role === "user");
  const text = message?.blocks?.find((block) => block.type === "text" && block.text)?.text ?? "";
  return text.slice(0, 600).replace(/\s+/g, " ").trim().slice(0, 140).toWellFormed();
}
