import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, load, POLL_MS, shared, useRequest } from "./api";
import { signal } from "@preact/signals";
import type { About, Block, Message, Opened, Running } from "./types";

// One opened rollout: a large one comes in pieces, and one that is being recorded is followed to its end.

/** What is wrong with what is open, in words for the whole page; null if nothing is. */
export const trouble = signal<string | null>(null);

export interface OpenedState {
  opened: Opened | null;
  error: ApiError | null;
  /** Whether the rollout is not there yet. */
  waiting: boolean;
  /** How much of a large rollout is here; null if all is. */
  loading: { messages: number; of: number } | null;
}

interface Piece { messages: Message[]; next: number | null; running: Running | null; reward: Opened["rollout"]["reward"] }
/** The answer for a rollout that is not there yet. */
export interface Waiting { waiting: true; problem: string | null }
interface Place { run: string; id: string; message: number; block: number }

const NOTHING: OpenedState = { opened: null, error: null, waiting: false, loading: null };
const places = new WeakMap<Block, Place>();

/** Load a rollout and follow it; what was loaded stays until another one is opened. Without an id nothing is loaded; without `wait` a rollout that is not there is an error. */
export function useOpened(run: string, id: string, wait = true): OpenedState {
  const of = `${run}\n${id}`;
  const [state, setState] = useState({ ...NOTHING, of: "" });
  useEffect(() => {
    if (!id) return;
    const stop = new AbortController();
    const show = (change: Partial<OpenedState>) => {
      if (!stop.signal.aborted) setState((before) => ({ ...(before.of === of ? before : NOTHING), ...change, of }));
    };
    void new Following(run, id, wait && !shared, stop.signal, show).start();
    return () => stop.abort();
  }, [of]);
  const current = state.of === of ? state : { ...NOTHING, of };
  const about = useRequest<About>(current.opened && !shared ? "about" : null, { run, id }).value;
  const problem = current.opened ? about?.problem ?? null : null;
  useEffect(() => {
    trouble.value = problem;
    return () => { trouble.value = null; };
  }, [problem]);
  return { ...current, opened: useWithLabel(current.opened, about) };
}

/** The rollout with the label as it is now; the same object as long as nothing changes. */
function useWithLabel(opened: Opened | null, about: About | null): Opened | null {
  const last = useRef<{ opened: Opened | null; about: About | null; value: Opened | null }>({ opened: null, about: null, value: null });
  if (last.current.opened !== opened || last.current.about !== about)
    last.current = { opened, about, value: opened && about?.label ? { ...opened, label: about.label, history: about.history } : opened };
  return last.current.value;
}

class Following {
  private opened: Opened | null = null;

  constructor(
    private readonly run: string, private readonly id: string, private readonly wait: boolean, private readonly stop: AbortSignal,
    private readonly show: (change: Partial<OpenedState>) => void,
  ) {}

  async start(): Promise<void> {
    while (!this.stop.aborted) {
      try {
        if (await this.step()) return;
      } catch (error) {
        if (this.stop.aborted) return;
        const problem = error instanceof ApiError ? error : new ApiError(String(error), 0);
        // Without a server, and when a recording has just ended, it is asked again; another error is an answer.
        if (problem.status !== 0) this.show({ error: problem, waiting: false });
        if (shared || (!this.wait && problem.status === 404)) return;
      }
      await this.pause();
    }
  }

  /** Load what is there now; true when there will be no more. */
  private async step(): Promise<boolean> {
    const known = this.opened;
    if (!known?.running) {
      const answer = await load<Opened | Waiting>("rollout", { run: this.run, id: this.id, waiting: this.wait }, this.stop);
      if ("waiting" in answer) {
        this.show({ waiting: this.opened === null });
        return false;
      }
      this.take(answer);
    } else {
      const from = Math.max(0, (known.rollout.messages ?? []).length - 1);
      const piece = await load<Piece>("messages", { run: this.run, id: this.id, from }, this.stop);
      if (!piece.running) {
        this.opened = { ...known, running: undefined };
        return this.step();
      }
      this.add(from, piece);
    }
    await this.loadRest();
    return !this.opened?.running;
  }

  /** Load the pieces that are missing. Each time that the page is drawn it has twice as many messages, because drawing takes longer than loading. */
  private async loadRest(): Promise<void> {
    let pieces: Message[] = [];
    for (let next = this.opened?.next ?? null; next !== null; ) {
      const piece: Piece = await load<Piece>("messages", { run: this.run, id: this.id, from: next }, this.stop, false);
      pieces = [...pieces, ...piece.messages];
      next = piece.next;
      const here = (this.opened!.rollout.messages ?? []).length;
      if (next !== null && pieces.length < here) continue;
      this.add(here, { ...piece, messages: pieces });
      pieces = [];
    }
  }

  private take(answer: Opened): void {
    const before = this.opened?.rollout.messages ?? [];
    const messages = (answer.rollout.messages ?? []).map((message, number) => unchanged(before[number], message));
    this.set({ ...answer, rollout: { ...answer.rollout, messages } });
  }

  private add(from: number, piece: Piece): void {
    const opened = this.opened!;
    const before = opened.rollout.messages ?? [];
    const messages = [...before.slice(0, from), ...piece.messages.map((message, number) => unchanged(before[from + number], message))];
    const { running, reward } = piece;
    if (messages.length === before.length && messages.every((message, number) => message === before[number]) && sameState(opened.running, running) && piece.next === opened.next) return;
    this.set({ ...opened, next: piece.next, ...(running ? { running, rollout: { ...opened.rollout, messages, reward } } : { rollout: { ...opened.rollout, messages } }) });
  }

  private set(opened: Opened): void {
    this.opened = opened;
    const messages = opened.rollout.messages ?? [];
    messages.forEach((message, number) => remember(this.run, this.id, message, number));
    const loading = opened.next == null ? null : { messages: messages.length, of: opened.outline?.length ?? messages.length };
    this.show({ opened, error: null, waiting: false, loading });
  }

  private pause(): Promise<void> {
    return new Promise((done) => {
      const timer = window.setTimeout(done, POLL_MS);
      this.stop.addEventListener("abort", () => { window.clearTimeout(timer); done(); }, { once: true });
    });
  }
}

/** The message that is shown already, if it is the same: what is drawn stays. */
function unchanged(before: Message | undefined, now: Message): Message {
  return before && JSON.stringify(before) === JSON.stringify(now) ? before : now;
}

function sameState(before: Running | undefined, now: Running | null): boolean {
  return before?.writing === now?.writing && before?.written_at === now?.written_at;
}

function remember(run: string, id: string, message: Message, number: number): void {
  message.blocks?.forEach((block, index) => {
    if (block.cut) places.set(block, { run, id, message: number, block: index });
  });
}

/** The length of a block's text, also if only its beginning is here. */
export function lengthOf(block: Block, field: "text" | "content" | "summary"): number {
  return block.cut?.[field] ?? (block[field] ?? "").length;
}

/** The whole text of a block, of which the server sent the beginning. */
export async function wholeText(block: Block, field: "text" | "content" | "summary", progress?: (share: number) => void): Promise<string> {
  const place = places.get(block);
  let text = block[field] ?? "";
  if (!place || block.cut?.[field] === undefined) return text;
  const parts = [text];
  for (let next: number | null = [...text].length; next !== null; ) {
    const answer: { text: string; next: number | null; total: number } = await load("text", { ...place, field, from: next }, undefined, false);
    parts.push(answer.text);
    next = answer.next;
    progress?.(next === null ? 1 : next / answer.total);
  }
  text = parts.join("");
  return text;
}

/** A message with all of its texts. */
export async function wholeMessage(message: Message): Promise<Message> {
  if (!message.blocks?.some((block) => block.cut)) return message;
  const blocks: Block[] = [];
  for (const block of message.blocks) {
    const { cut, ...whole } = block;
    for (const field of Object.keys(cut ?? {}) as ("text" | "content" | "summary")[]) whole[field] = await wholeText(block, field);
    blocks.push(whole);
  }
  return { ...message, blocks };
}

/** Whether only a part of a rollout is here. */
export function isPartial(opened: Opened): boolean {
  return opened.next != null || (opened.rollout.messages ?? []).some((message) => message.blocks?.some((block) => block.cut));
}

/** A rollout with all of its messages and texts, for what needs the whole: raw text, copies, replays. */
export async function wholeRollout(opened: Opened, progress?: (share: number) => void): Promise<Opened["rollout"]> {
  if (!isPartial(opened)) return opened.rollout;
  const messages = [...(opened.rollout.messages ?? [])];
  for (let next = opened.next ?? null; next !== null; ) {
    const piece: Piece = await load<Piece>("messages", { run: opened.run, id: opened.rollout.id, from: next }, undefined, false);
    piece.messages.forEach((message, number) => remember(opened.run, opened.rollout.id, message, messages.length + number));
    messages.push(...piece.messages);
    next = piece.next;
  }
  for (const [number, message] of messages.entries()) {
    messages[number] = await wholeMessage(message);
    progress?.((number + 1) / messages.length);
  }
  return { ...opened.rollout, messages };
}
