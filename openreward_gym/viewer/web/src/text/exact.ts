// The numbers in a call's arguments keep the digits they were written with: JSON.parse makes 12345678901234567890 and 1.0
// other numbers.

interface Source { source?: string }

/** How numbers of parsed objects and lists were written, where JavaScript would write them in another way. */
const written = new WeakMap<object, Map<string, string>>();

const KEY = '"arguments":';
const TOKEN = /"(?:[^"\\]|\\[^])*"|[[\]{}]|-?\d[\d.eE+-]*/g;
/** To ask for every number's source takes ten times as long as parsing: longer answers keep JavaScript's numbers. */
const LONGEST = 8_000_000;

/** Whether some arguments have a number that JavaScript would write in another way. Within strings the key has backslashes. */
function hasInexact(text: string): boolean {
  for (let key = text.indexOf(KEY); key >= 0; key = text.indexOf(KEY, TOKEN.lastIndex)) {
    TOKEN.lastIndex = key + KEY.length;
    if (!/^\s*\{/.test(text.slice(TOKEN.lastIndex, TOKEN.lastIndex + 10))) continue;
    let depth = 0;
    for (let token = TOKEN.exec(text)?.[0]; token !== undefined; token = TOKEN.exec(text)?.[0]) {
      if (token === "{" || token === "[") depth += 1;
      else if (token === "}" || token === "]") depth -= 1;
      else if (!token.startsWith('"') && String(Number(token)) !== token) return true;
      if (depth === 0) break;
    }
    if (TOKEN.lastIndex === 0) return false; // the text ends within them
  }
  return false;
}

/** Parse JSON and remember how the numbers were written, if some in a call's arguments would lose digits. */
export function parseExact(text: string): unknown {
  if (text.length > LONGEST || !hasInexact(text)) return JSON.parse(text);
  const remember = function (this: object, key: string, value: unknown, context?: Source): unknown {
    if (typeof value === "number" && context?.source !== undefined && context.source !== String(value)) {
      let keys = written.get(this);
      if (!keys) written.set(this, (keys = new Map()));
      keys.set(key, context.source);
    }
    return value;
  };
  return JSON.parse(text, remember as (key: string, value: unknown) => unknown);
}

/** A parsed value as JSON, with its numbers as they were written. */
export function stringifyExact(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((member, index) => written.get(value)?.get(String(index)) ?? stringifyExact(member)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  return `{${Object.entries(value).map(([key, member]) => `${JSON.stringify(key)}:${written.get(value)?.get(key) ?? stringifyExact(member)}`).join(",")}}`;
}
