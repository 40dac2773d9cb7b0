import { effect, signal, type Signal } from "@preact/signals";

/** A signal whose value survives a reload in this browser; a stored value that is invalid is ignored. */
export function persisted<T>(name: string, initial: T, valid: (value: unknown) => boolean = () => true): Signal<T> {
  const key = `openreward-gym.${name}`;
  const value = signal<T>(initial);
  try {
    const stored = localStorage.getItem(key);
    if (stored !== null) {
      const parsed: unknown = JSON.parse(stored);
      if (valid(parsed)) value.value = parsed as T;
    }
  } catch {
    // Without storage (a file opened from disk, a private window) the value lasts as long as the page.
  }
  let first = true;
  effect(() => {
    const text = JSON.stringify(value.value);
    if (first) {
      first = false;
      return;
    }
    try {
      localStorage.setItem(key, text);
    } catch {
      // As above.
    }
  });
  return value;
}

export interface Render { think: boolean; markdown: boolean; latex: boolean; code: boolean }

export const render = persisted<Render>("render", { think: true, markdown: true, latex: true, code: true });
/** The reader's name, written with labels; empty for none. */
export const author = persisted<string>("author", "", (value) => typeof value === "string");
export const theme = persisted<"auto" | "light" | "dark">("theme", "auto");
export const columns = persisted<string[] | null>("columns", null, (value) => value === null || Array.isArray(value));
