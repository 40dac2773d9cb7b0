import { useEffect, useRef, useState } from "preact/hooks";
import { type Embedded, workedOut } from "./sharing";

export type Asked = Record<string, string | number | boolean | null | undefined>;

const POLL_MS = 1500;
/** The answers that a shared file carries; null where there is a server to ask. */
export const embedded: Embedded | null = (() => {
  const text = document.getElementById("embedded")?.textContent ?? "";
  return text ? (JSON.parse(text) as Embedded) : null;
})();

/** Whether the page carries its data itself and there is no server to ask. */
export const shared = embedded !== null;

/** A request as the server and the one-file share both write it: parameters by name, empty ones left out. */
export function requestOf(name: string, asked: Asked): string {
  const pairs = Object.entries(asked)
    .map(([key, value]) => [key, value === true ? "1" : value === false || value == null ? "" : String(value)] as const)
    .filter(([, value]) => value !== "")
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `${name}?` + pairs.map(([key, value]) => `${key}=${encodeURIComponent(value.toWellFormed?.() ?? value)}`).join("&");
}

export class Refused extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

const remembered = new Map<string, { etag: string; value: unknown }>();

/** Ask once. What has not changed on the server is not sent, and comes back as the same object. */
export async function ask<T>(name: string, asked: Asked = {}, signal?: AbortSignal): Promise<T> {
  const request = requestOf(name, asked);
  if (embedded) {
    const answer = request in embedded ? embedded[request] : workedOut(embedded, name, asked);
    if (answer !== undefined) return answer as T;
    throw new Refused("This is not in the shared file.", 404);
  }
  const known = remembered.get(request);
  const answer = await fetch(`api/${request}`, { signal, headers: known ? { "If-None-Match": known.etag } : {}, cache: "no-store" });
  if (answer.status === 304 && known) return known.value as T;
  if (!answer.ok) throw await refusal(answer);
  // An answer that was broken off must not be remembered as an answer.
  const value: unknown = await answer.json();
  const etag = answer.headers.get("etag");
  if (etag) {
    remembered.delete(request);
    remembered.set(request, { etag, value });
    if (remembered.size > 60) remembered.delete(remembered.keys().next().value as string);
  }
  return value as T;
}

export async function tell<T>(name: string, value: unknown): Promise<T> {
  const answer = await fetch(`api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value),
  });
  if (!answer.ok) throw await refusal(answer);
  return (await answer.json()) as T;
}

async function refusal(answer: Response): Promise<Refused> {
  const said = await answer.json().catch(() => null);
  return new Refused(String(said?.error ?? `The server said ${answer.status}.`), answer.status);
}

export interface Asking<T> {
  value: T | null;
  error: Refused | null;
}

/**
 * What the server says to a request, kept up to date; `name` null asks nothing.
 * The last answer stays until the next one is there, but never the answer to another request (unless `keep`).
 */
export function useAsk<T>(name: string | null, asked: Asked = {}, live: boolean | ((value: T | null) => boolean) = true, keep = false): Asking<T> {
  const request = name === null ? null : requestOf(name, asked);
  const [state, setState] = useState<Asking<T> & { request: string | null }>({ value: null, error: null, request: null });
  const last = useRef<T | null>(null);
  useEffect(() => {
    if (name === null) return;
    const stop = new AbortController();
    let timer = 0;
    let current: T | null = null;
    const look = async () => {
      if (!document.hidden || current === null) {
        try {
          const value = await ask<T>(name, asked, stop.signal);
          if (stop.signal.aborted) return;
          if (value !== current) {
            current = last.current = value;
            setState({ value, error: null, request });
          }
        } catch (error) {
          if (stop.signal.aborted) return;
          const refused = error instanceof Refused ? error : new Refused("The viewer's server does not answer; it may have ended.", 0);
          setState((before) => ({ value: before.request === request ? before.value : null, error: refused, request }));
        }
      }
      const goesOn = typeof live === "function" ? live(current) : live;
      if (goesOn && !shared) timer = window.setTimeout(look, POLL_MS);
    };
    void look();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [request]);
  if (state.request === request) return state;
  return { value: keep ? last.current : null, error: null };
}
