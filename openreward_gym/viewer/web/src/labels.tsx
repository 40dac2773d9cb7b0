import { useLayoutEffect, useState } from "preact/hooks";
import { tell } from "./data";
import { Problem } from "./parts";
import type { Opened } from "./types";

/** A reader's rating (keys 1 to 5, 0 takes it away), tags and note, kept beside the run. */
export function Labels({ opened }: { opened: Opened }) {
  const [label, setLabel] = useState(opened.label);
  const [tags, setTags] = useState(opened.label.tags.join(", "));
  const [said, say] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const keep = async (change: Partial<Opened["label"]>) => {
    const next = { ...label, ...change };
    setLabel(next);
    try {
      await tell("label", { run: opened.run, rollout: opened.rollout.id, rating: next.rating, tags: next.tags, note: next.note });
      setError(null);
      say("Kept");
      window.setTimeout(() => say(""), 1500);
    } catch (problem) {
      setError(problem as Error);
    }
  };
  useLayoutEffect(() => {
    const rate = (event: Event) => void keep({ rating: (event as CustomEvent<number>).detail || null });
    document.addEventListener("rate", rate);
    return () => document.removeEventListener("rate", rate);
  });
  return (
    <section class="section labels" aria-label="Your labels">
      <header><h2>Your labels</h2><span class="tokens" aria-live="polite">{said}</span></header>
      <div class="inside">
        <div class="rating" role="radiogroup" aria-label="Rating">
          {[1, 2, 3, 4, 5].map((rating) => (
            <button type="button" key={rating} role="radio" aria-checked={label.rating === rating} onClick={() => keep({ rating: label.rating === rating ? null : rating })}>{rating}</button>
          ))}
        </div>
        <label>Tags <input value={tags} placeholder="good, reward hacking" onInput={(event) => setTags(event.currentTarget.value)} onChange={() => keep({ tags: [...new Set(tags.split(",").map((tag) => tag.trim()).filter(Boolean))] })} /></label>
        <label>Note <textarea rows={2} value={label.note} onInput={(event) => setLabel({ ...label, note: event.currentTarget.value })} onChange={(event) => keep({ note: event.currentTarget.value })} /></label>
        <Problem error={error} />
      </div>
    </section>
  );
}
