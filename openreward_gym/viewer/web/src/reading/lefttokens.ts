import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, load } from "../api";
import { leftOut } from "./sampled";
import type { Message, Opened, Rollout, Sampled } from "../types";

// The server sends large rollouts, and those that are being recorded, without their tokens. They are fetched when they are to be shown.

interface Piece { messages: Message[]; next: number | null }

export interface WithTokens {
  rollout: Rollout;
  /** Whether some tokens are still to come. */
  loading: boolean;
  error: ApiError | null;
}

/** The rollout with its recorded tokens, once they are `wanted`. */
export function useTokens(opened: Opened, wanted: boolean): WithTokens {
  const { run, rollout } = opened;
  const [known, setKnown] = useState<ReadonlyMap<Message, Sampled>>(new Map());
  const [error, setError] = useState<ApiError | null>(null);
  const missing = useMemo(() => (rollout.messages ?? []).findIndex((message) => leftOut(message) > 0 && !known.has(message)), [rollout, known]);
  const loading = wanted && missing >= 0;
  useEffect(() => {
    if (!loading) return;
    const stop = new AbortController();
    const here = rollout.messages ?? [];
    setError(null);
    fetchTokens(run, rollout.id, here, missing, known.size, stop.signal).then(
      (more) => setKnown((before) => new Map([...before, ...more])),
      (problem) => { if (!stop.signal.aborted) setError(problem instanceof ApiError ? problem : new ApiError(String(problem), 0)); },
    );
    return () => stop.abort();
  }, [loading, missing, rollout.messages]);
  const whole = useMemo(() => {
    if (!known.size) return rollout;
    return { ...rollout, messages: (rollout.messages ?? []).map((message) => (known.has(message) ? { ...message, sampled: known.get(message) } : message)) };
  }, [rollout, known]);
  return { rollout: whole, loading: loading && error === null, error: wanted ? error : null };
}

/** What was recorded with the messages from `first` on: as many as are known already, because drawing them again takes longer than loading. */
async function fetchTokens(run: string, id: string, here: Message[], first: number, count: number, signal: AbortSignal): Promise<Map<Message, Sampled>> {
  const found = new Map<Message, Sampled>();
  for (let next: number | null = first; next !== null && next < here.length && (found.size === 0 || found.size < count); ) {
    const piece: Piece = await load<Piece>("messages", { run, id, from: next, tokens: true }, signal, false);
    if (!piece.messages.length) throw new ApiError("The tokens of this rollout cannot be read any more.", 404);
    for (const [index, { sampled }] of piece.messages.entries()) {
      const message: Message | undefined = here[next + index];
      if (message && leftOut(message) > 0 && sampled) found.set(message, sampled);
    }
    next = piece.next;
  }
  return found;
}
