import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { post } from "../api";
import { Problem } from "../components";
import { author } from "../settings";
import type { About, LabelChange, Opened } from "../types";

interface Change { set?: { rating?: number | null; note?: string }; add?: string[]; remove?: string[]; seen_note?: string }

/** Write a change; gives what is known of the label after it, null if it was not written. */
type Save = (change: Change) => Promise<About | null>;

/** Rating (keys 1 to 5, 0 removes it), tags and note, stored beside the run. Each change is written by itself, so that those of several readers merge. */
export function Labels({ opened }: { opened: Opened }) {
  const { label, history, taken } = useLabel(opened);
  const [status, setStatus] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const save: Save = async (change) => {
    try {
      const about = await post<About>("label", { run: opened.run, rollout: opened.rollout.id, author: author.value.trim(), ...change });
      taken(about);
      setError(null);
      setStatus("Saved");
      window.setTimeout(() => setStatus(""), 1500);
      return about;
    } catch (problem) {
      setError(problem as Error);
      return null;
    }
  };
  const rate = (rating: number | null) => void save({ set: { rating } });
  useLayoutEffect(() => {
    const act = (event: Event) => rate((event as CustomEvent<number>).detail || null);
    document.addEventListener("rate", act);
    return () => document.removeEventListener("rate", act);
  });
  return (
    <section class="section labels" aria-label="Labels">
      <header><h2>Labels</h2><span class="tokens" aria-live="polite">{status}</span><span class="space" /><Author /></header>
      <div class="inside">
        <div class="rating" role="radiogroup" aria-label="Rating">
          {[1, 2, 3, 4, 5].map((rating) => (
            <button type="button" key={rating} role="radio" aria-checked={label.rating === rating} onClick={() => rate(label.rating === rating ? null : rating)}>{rating}</button>
          ))}
        </div>
        <Tags tags={label.tags} save={save} />
        <Note key={opened.rollout.id} note={label.note ?? ""} last={noteChange(history)} save={save} />
        <Problem error={error} />
        <History changes={history} />
      </div>
    </section>
  );
}

/** The label as the server has it, or a newer one that a change of this page brought. */
function useLabel(opened: Opened) {
  const [own, setOwn] = useState<About | null>(null);
  const history = opened.history ?? [];
  const newer = own !== null && own.history.length > history.length ? own : null;
  return { label: newer?.label ?? opened.label, history: newer?.history ?? history, taken: setOwn };
}

function Author() {
  return (
    <label class="author">Your name <input value={author.value} placeholder="anonymous" maxLength={100} autocomplete="name" onChange={(event) => { author.value = event.currentTarget.value; }} /></label>
  );
}

function Tags({ tags, save }: { tags: string[]; save: Save }) {
  const [text, setText] = useState("");
  const add = async () => {
    const words = [...new Set(text.split(",").map((tag) => tag.trim()).filter(Boolean))].filter((tag) => !tags.includes(tag));
    setText("");
    if (words.length && !(await save({ add: words }))) setText(text);
  };
  return (
    <div class="tags">
      <label>Tags <input value={text} placeholder={tags.length ? "add a tag" : "good, reward hacking"} onInput={(event) => setText(event.currentTarget.value)} onBlur={add} onKeyDown={(event) => { if (event.key === "Enter") void add(); }} /></label>
      {tags.length > 0 && (
        <ul>
          {tags.map((tag) => <li key={tag}><span dir="auto">{tag}</span><button type="button" class="quiet" aria-label={`Remove ${tag}`} onClick={() => save({ remove: [tag] })}>×</button></li>)}
        </ul>
      )}
    </div>
  );
}

/** The note. What the reader is writing stays when somebody else changes it, and the reader is told. */
function Note({ note, last, save }: { note: string; last: LabelChange | undefined; save: Save }) {
  const [draft, setDraft] = useState<string | null>(null);
  const [lost, setLost] = useState<LabelChange["overwritten"] | null>(null);
  const base = useRef(note);
  const changed = draft !== null && note !== base.current;
  const write = async () => {
    if (draft === null) return;
    if (draft === base.current && !changed) return setDraft(null);
    const about = await save({ set: { note: draft }, seen_note: base.current });
    if (!about) return;
    setLost(noteChange(about.history)?.overwritten ?? null);
    setDraft(null);
  };
  return (
    <>
      <label>Note <textarea rows={2} value={draft ?? note} onInput={(event) => { if (draft === null) base.current = note; setDraft(event.currentTarget.value); }} onBlur={write} /></label>
      {changed ? <p class="note" role="status">{who(last?.author)} changed the note meanwhile: <q dir="auto">{note}</q></p>
        : lost && <p class="note" role="status">{who(lost.author)} changed the note meanwhile: <q dir="auto">{lost.note}</q>. The later note is kept, and both are in the history.</p>}
    </>
  );
}

/** The last change of the note. */
function noteChange(history: LabelChange[]): LabelChange | undefined {
  return history.findLast((change) => change.set?.note !== undefined);
}

function who(name: string | undefined): string {
  return name || "Somebody";
}

function History({ changes }: { changes: LabelChange[] }) {
  if (!changes.length) return null;
  return (
    <details class="history">
      <summary>History <small class="tokens">{changes.length} {changes.length === 1 ? "change" : "changes"}</small></summary>
      <ol reversed>
        {[...changes].reverse().map((change, index) => (
          <li key={changes.length - index}>
            <b dir="auto">{change.author || "anonymous"}</b> <time class="tokens" dateTime={change.time}>{change.time.slice(0, 16).replace("T", " ")} UTC</time>
            <span dir="auto">{told(change).join("; ")}</span>
            {change.overwritten && <span class="note" title={change.overwritten.note}>({who(change.overwritten.author)} had changed the note meanwhile)</span>}
          </li>
        ))}
      </ol>
    </details>
  );
}

/** A change in words. */
export function told(change: LabelChange): string[] {
  const { rating, note, tags } = change.set ?? {};
  const list = (words: string[]) => words.map((word) => `“${word}”`).join(", ");
  const said: string[] = [];
  if (rating !== undefined) said.push(rating === null ? "removed the rating" : `rated ${rating}`);
  if (tags !== undefined) said.push(tags.length ? `set the tags ${list(tags)}` : "removed all tags");
  if (change.add?.length) said.push(`added ${list(change.add)}`);
  if (change.remove?.length) said.push(`removed ${list(change.remove)}`);
  if (note !== undefined) said.push(note ? `wrote “${note}”` : "removed the note");
  return said;
}
