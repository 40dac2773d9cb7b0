// The search language, as in answers/queries.py: words, phrases in double quotes, and `role:`, `tool:` and `is:error`.

export const ROLES = ["system", "user", "assistant", "tool", "reasoning"] as const;

export interface Query { words: string[]; expression: RegExp | null; roles: string[]; tools: string[]; errors: boolean }

type Qualifier = "role" | "tool" | "is";

const QUALIFIER = /(role|tool|is):(?:"([^"]*)"|([^\s"]+))(?=\s|$)/.source;
const PART = new RegExp(`${QUALIFIER}|"([^"]*)(?:"|$)|([^\\s"]+)`, "giu");
const LEADING = new RegExp(`^\\s*${QUALIFIER}`, "iu");
// A group that repeats and is repeated, such as (a+)+, can take forever, and a page cannot stop its own expression.
const NESTED = /\((?:[^()\\]|\\.)*[*+}](?:[^()\\]|\\.)*\)\??[*+{]|\((?:[^()\\]|\\.)*\|(?:[^()\\]|\\.)*\)[*+{]/;

interface Parts { qualifiers: [Qualifier, string][]; words: string[]; rest: string }

function partsOf(text: string, regex: boolean): Parts {
  const qualifiers: [Qualifier, string][] = [];
  const words: string[] = [];
  const note = (match: RegExpMatchArray) => qualifiers.push([match[1]!.toLowerCase() as Qualifier, match[2] ?? match[3] ?? ""]);
  if (regex) {
    for (let match = LEADING.exec(text); match; match = LEADING.exec(text)) {
      note(match);
      text = text.slice(match[0].length);
    }
    return { qualifiers, words, rest: text.trim() };
  }
  for (const match of text.matchAll(PART)) {
    if (match[1]) note(match);
    else words.push(match[4] ?? match[5]!);
  }
  return { qualifiers, words: [...new Set(words.filter((word) => word.trim()))], rest: "" };
}

/** Parse a query. An unknown role or an invalid expression throws an Error whose message is for the reader. */
export function parseQuery(text: string, regex = false): Query {
  const { qualifiers, words, rest } = partsOf(text, regex);
  const values = (name: Qualifier) => [...new Set(qualifiers.filter(([kind]) => kind === name).map(([, value]) => value.toLowerCase()))];
  const literally = (name: string, value: string) => `Quotes find the text itself: "${name}:${value}"`;
  for (const role of values("role")) if (!(ROLES as readonly string[]).includes(role)) throw new Error(`There is no role "${role}": the roles are ${ROLES.join(", ")}. ${literally("role", role)}`);
  for (const state of values("is")) if (state !== "error") throw new Error(`is:${state} is not known, only is:error. ${literally("is", state)}`);
  return { words, expression: rest ? expressionOf(rest) : null, roles: values("role"), tools: values("tool"), errors: values("is").length > 0 };
}

export function isEmpty(query: Query): boolean {
  return !(query.words.length || query.expression || query.roles.length || query.tools.length || query.errors);
}

function expressionOf(text: string): RegExp {
  if (NESTED.test(text)) throw new Error(`The regular expression ${text} may take too long. Simplify it.`);
  try {
    return new RegExp(text, "giu");
  } catch {
    try {
      return new RegExp(text, "gi");
    } catch {
      throw new Error(`${text} is not a regular expression.`);
    }
  }
}

const escaped = (word: string) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** A pattern that matches any of these texts and ignores case. */
export function patternFor(words: string[]): RegExp {
  return new RegExp([...words].sort((a, b) => b.length - a.length).map(escaped).join("|"), "giu");
}

/** The pattern of the texts to mark for a query: its words, also as JSON writes them, or its expression; null if there is none. */
export function patternOf(text: string, regex = false): RegExp | null {
  try {
    const query = parseQuery(text, regex);
    if (query.expression) return query.expression;
    return query.words.length ? patternFor(query.words.flatMap((word) => [word, JSON.stringify(word).slice(1, -1)])) : null;
  } catch {
    return null;
  }
}

/** The values of a qualifier in a query. */
export function qualifiersOf(text: string, name: Qualifier, regex = false): string[] {
  return partsOf(text, regex).qualifiers.filter(([kind]) => kind === name).map(([, value]) => value);
}

/** The query with this value of a qualifier in the place of all others; null removes it. */
export function withQualifier(text: string, name: Qualifier, value: string | null, regex = false): string {
  const { qualifiers, words, rest } = partsOf(text, regex);
  const written = (word: string) => (/[\s"]/.test(word) || new RegExp(`^${QUALIFIER}`, "iu").test(word) ? `"${word}"` : word);
  const kept = qualifiers.filter(([kind]) => kind !== name);
  if (value !== null) kept.push([name, value]);
  return [...kept.map(([kind, one]) => `${kind}:${/\s/.test(one) ? `"${one}"` : one}`), ...(regex ? (rest ? [rest] : []) : words.map(written))].join(" ");
}
