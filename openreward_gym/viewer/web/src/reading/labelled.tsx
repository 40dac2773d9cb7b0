import type { Opened } from "../types";

/** The label of a rollout in a shared file, which nobody can change; nothing without one. */
export function Labelled({ opened }: { opened: Opened }) {
  const { rating, tags, note } = opened.label;
  if (rating === null && !tags.length && !note) return null;
  return (
    <section class="section labels" aria-label="Labels">
      <header><h2>Labels</h2></header>
      <div class="inside">
        {rating !== null && <span>Rating <b>{rating}</b> of 5</span>}
        {tags.length > 0 && <span class="line">{tags.map((tag) => <span class="badge" dir="auto" key={tag}>{tag}</span>)}</span>}
        {note && <span class="literal" dir="auto">{note}</span>}
      </div>
    </section>
  );
}
