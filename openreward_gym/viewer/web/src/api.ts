import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { type Embedded, derive } from "./embedded";
import { parseExact } from "./text/exact";

export type Parameters = Record<string, string | number | boolean | null | undefined>;

export const POLL_MS = 1500;
/** Whether the last request reached no server. */
export const unreachable = signal(false);

/** The answers inside a shared file; null if the page has a server. */
export const embedded: Embedded | null = (() => {
  const text = document.getElementById("embedded")?.textContent ?? "";
  return text ? (parseExact(text) as Embedded) : null;
})();

/** Whether the page has its data inside and no server. */
export const shared = embedded !== null;

/** A request as page.py writes it as well: parameters sorted by name, empty ones left out. */
export function requestOf(name: string, parameters: Parameters): string {
  const pairs = Object.entries(parameters)
    .map(([key, value]) => [key, value === true ? "1" : value === false || value == null ? "" : String(value)] as const)
    .filter(([, value]) => value !== "")
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `${name}?` + pairs.map(([key, value]) => `${key}=${encodeURIComponent(value.toWellFormed?.() ?? value)}`).join("&");
}

export class ApiError extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

/** What is said where a run was there, and is no longer. */
export const GONE = "The run was deleted or moved. What is shown was read before.";

const cache = new Map<string, { etag: string; value: unknown }>();

/**
 * Fetch an answer. If it has not changed since the last request, the server does not send it, and the same object is returned.
 * Without `keep`, the answer is not remembered.
 */
export async function load<T>(name: string, parameters: Parameters = {}, signal?: AbortSignal, keep = true): Promise<T> {
  const request = requestOf(name, parameters);
  if (embedded) {
    const answer = request in embedded ? embedded[request] : derive(embedded, name, parameters);
    if (answer !== undefined) return answer as T;
    throw new ApiError("This is not in the shared file.", 404);
  }
  const known = cache.get(request);
  const answer = await reached(fetch(`api/${request}`, { signal, headers: known ? { "If-None-Match": known.etag } : {}, cache: "no-store" }), signal);
  if (answer.status === 304 && known) return known.value as T;
  if (answer.status === 204) throw new ApiError(GONE, 204);
  if (!answer.ok) throw await errorOf(answer);
  // Parsed before it is cached, so that a truncated answer is not kept.
  const value = parseExact(await answer.text());
  const etag = answer.headers.get("etag");
  if (etag && keep) {
    cache.delete(request);
    cache.set(request, { etag, value });
    if (cache.size > 60) cache.delete(cache.keys().next().value as string);
  }
  return value as T;
}

export async function post<T>(name: string, value: unknown): Promise<T> {
  const answer = await reached(fetch(`api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value),
  }));
  if (!answer.ok) throw await errorOf(answer);
  return (await answer.json()) as T;
}

/** The server's answer; keeps in mind whether there is a server. */
async function reached(request: Promise<Response>, signal?: AbortSignal): Promise<Response> {
  try {
    const answer = await request;
    unreachable.value = false;
    return answer;
  } catch (error) {
    if (signal?.aborted) throw error;
    unreachable.value = true;
    throw new ApiError("The viewer's server does not answer; it may have been stopped.", 0);
  }
}

async function errorOf(answer: Response): Promise<ApiError> {
  const body = await answer.json().catch(() => null);
  return new ApiError(String(body?.error ?? `The server answered with status ${answer.status}.`), answer.status);
}

export interface RequestState<T> {
  value: T | null;
  error: ApiError | null;
}

/**
 * The answer to a request, polled while `live`; a null `name` requests nothing.
 * The last answer stays until the next one arrives. With `keep`, also the answer to the previous request stays until then.
 */
export function useRequest<T>(name: string | null, parameters: Parameters = {}, live: boolean | ((value: T | null) => boolean) = true, keep = false): RequestState<T> {
  const request = name === null ? null : requestOf(name, parameters);
  const [state, setState] = useState<RequestState<T> & { request: string | null }>({ value: null, error: null, request: null });
  const last = useRef<T | null>(null);
  useEffect(() => {
    if (name === null) return;
    const stop = new AbortController();
    let timer = 0;
    let current: T | null = null;
    let failed = false;
    let lost = false;
    const poll = async () => {
      if (!document.hidden || current === null) {
        try {
          const value = await load<T>(name, parameters, stop.signal);
          if (stop.signal.aborted) return;
          lost = false;
          if (value !== current || failed) {
            current = last.current = value;
            failed = false;
            setState({ value, error: null, request });
          }
        } catch (error) {
          if (stop.signal.aborted) return;
          const problem = error instanceof ApiError ? error : new ApiError(String(error), 0);
          lost = problem.status === 0;
          // The page says once that there is no server, or that a run is gone, and goes on showing what it has.
          if (!lost && problem.status !== 204) {
            failed = true;
            setState((before) => ({ value: before.request === request ? before.value : null, error: problem, request }));
          }
        }
      }
      const again = lost || (typeof live === "function" ? live(current) : live);
      if (again && !shared) timer = window.setTimeout(poll, POLL_MS);
    };
    void poll();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [request]);
  if (state.request === request) return state;
  return { value: keep ? last.current : null, error: null };
}
