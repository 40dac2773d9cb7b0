import { useLayoutEffect, useState } from "preact/hooks";
import { post } from "../api";
import { Problem } from "../components";
import type { Opened } from "../types";

/** The reader's rating (keys 1 to 5, 0 removes it), tags and note, stored beside the run. */
export function Labels({ opened }: { opened: Opened }) {
  const [label, setLabel] = useState(opened.label);
  const [tags, setTags] = useState(opened.label.tags.join(", "));
  const [status, setStatus] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const save = async (change: Partial<Opened["label"]>) => {
    const next = { ...label, ...change };
    setLabel(next);
    try {
      await post("label", { run: opened.run, rollout: opened.rollout.id, rating: next.rating, tags: next.tags, note: next.note });
      setError(null);
      setStatus("Saved");
      window.setTimeout(() => setStatus(""), 1500);
    } catch (problem) {
      setError(problem as Error);
    }
  };
  useLayoutEffect(() => {
    const rate = (event: Event) => void save({ rating: (event as CustomEvent<number>).detail || null });
    document.addEventListener("rate", rate);
    return () => document.removeEventListener("rate", rate);
  });
  return (
    <section class="section labels" aria-label="Your labels">
      <header><h2>Your labels</h2><span class="tokens" aria-live="polite">{status}</span></header>
      <div class="inside">
        <div class="rating" role="radiogroup" aria-label="Rating">
          {[1, 2, 3, 4, 5].map((rating) => (
            <button type="button" key={rating} role="radio" aria-checked={label.rating === rating} onClick={() => save({ rating: label.rating === rating ? null : rating })}>{rating}</button>
          ))}
        </div>
        <label>Tags <input value={tags} placeholder="good, reward hacking" onInput={(event) => setTags(event.currentTarget.value)} onChange={() => save({ tags: [...new Set(tags.split(",").map((tag) => tag.trim()).filter(Boolean))] })} /></label>
        <label>Note <textarea rows={2} value={label.note} onInput={(event) => setLabel({ ...label, note: event.currentTarget.value })} onChange={(event) => save({ note: event.currentTarget.value })} /></label>
        <Problem error={error} />
      </div>
    </section>
  );
}
