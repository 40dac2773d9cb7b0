// Numbers keep the digits they were written with: JSON.parse makes 12345678901234567890 and 1.0 other numbers.

interface Source { source?: string }

/** How numbers of parsed objects and lists were written, where JavaScript would write them in another way. */
const written = new WeakMap<object, Map<string, string>>();

/** Parse JSON and remember how its numbers were written. */
export function parseExact(text: string): unknown {
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
  return `{${Object.entries(value).map(([key, member]) => `${JSON.stringify(key)}:${writtenNumber(value, key) ?? stringifyExact(member)}`).join(",")}}`;
}

/** How the number under a key was written; undefined where JavaScript writes it in the same way. */
export function writtenNumber(holder: object, key: string): string | undefined {
  return written.get(holder)?.get(key);
}
