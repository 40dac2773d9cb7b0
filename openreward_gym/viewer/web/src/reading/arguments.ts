import { hasInvisible } from "../text/invisible";
import { argumentsOf } from "./rollout";
import type { Block } from "../types";

const SHORT = 140;

/** The arguments of a call that fit into one line, as (name, JSON of the value); null where they do not, or would lose something. */
export function shortArguments(block: Block): [string, string][] | null {
  const text = argumentsOf(block);
  if (text.length > SHORT + 20 || hasInvisible(text) || /[\r\n]/.test(block.name ?? "")) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
    // Not where the text has more than its values: digits that a double lacks, a name twice.
    if (JSON.stringify(value).replace(/\s/g, "") !== text.replace(/\s/g, "")) return null;
    const pairs = Object.entries(value).map(([name, one]): [string, string] => [name, JSON.stringify(one)]);
    if (pairs.some(([name, one]) => /\\/.test(one) || !/^[\w.-]+$/.test(name))) return null;
    return pairs.reduce((sum, [name, one]) => sum + name.length + one.length + 3, (block.name ?? "").length) <= SHORT ? pairs : null;
  } catch {
    return null;
  }
}
