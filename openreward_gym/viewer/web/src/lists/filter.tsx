import { useEffect, useRef, useState } from "preact/hooks";
import { load, shared } from "../api";

interface Completion { start: number; kind: string; suggestions: [string, string][] }

/** A filter field with completion. Enter and leaving the field apply the filter. */
export function Filter({ run, value, change, error }: { run: string; value: string; change: (filter: string) => void; error?: Error | null }) {
  const [text, setText] = useState(value);
  const [completion, setCompletion] = useState<Completion | null>(null);
  const [chosen, setChosen] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const lastRequest = useRef(0);
  useEffect(() => setText(value), [value]);
  if (shared) return null;
  const complete = async (typed: string, cursor: number) => {
    const number = ++lastRequest.current;
    const answer = await load<Completion>("complete", { run, text: typed, cursor }).catch(() => null);
    if (number === lastRequest.current) {
      setCompletion(answer?.suggestions.length ? answer : null);
      setChosen(-1);
    }
  };
  const close = () => {
    lastRequest.current += 1;
    setCompletion(null);
  };
  const insert = (suggestion: string) => {
    const field = input.current!;
    const cursor = field.selectionStart ?? text.length;
    setChosen(-1);
    setCompletion(null);
    const before = `${text.slice(0, completion!.start)}${suggestion} `;
    const next = before + text.slice(cursor).trimStart();
    setText(next);
    field.value = next;
    field.focus();
    field.setSelectionRange(before.length, before.length);
    void complete(next, before.length);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const count = completion?.suggestions.length ?? 0;
    if (event.key === "Escape") {
      if (completion) event.stopPropagation();
      close();
    } else if (count && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      setChosen((before) => (before + (event.key === "ArrowDown" ? 1 : -1) + count) % count);
    } else if (event.key === "Enter" || (event.key === "Tab" && chosen >= 0)) {
      event.preventDefault();
      if (completion && chosen >= 0) insert(completion.suggestions[chosen]![0]);
      else {
        close();
        change(text.trim());
      }
    }
  };
  return (
    <div class="filter">
      <input
        ref={input} value={text} aria-label="Filter" placeholder="Filter: reward < 0.5" spellcheck={false} autocomplete="off"
        role="combobox" aria-expanded={completion !== null} aria-controls="completions" aria-autocomplete="list" aria-invalid={!!error}
        aria-activedescendant={chosen >= 0 ? `completion-${chosen}` : undefined}
        onInput={(event) => { setText(event.currentTarget.value); void complete(event.currentTarget.value, event.currentTarget.selectionStart ?? 0); }}
        onFocus={(event) => void complete(text, event.currentTarget.selectionStart ?? text.length)}
        onBlur={() => { close(); change(text.trim()); }} onKeyDown={onKeyDown}
      />
      {/* Not reached by Tab, which would close it. */}
      <ul id="completions" tabIndex={-1} role="listbox" aria-label="Completions" hidden={!completion}>
        {completion?.suggestions.map(([suggestion, about], index) => (
          <li key={suggestion} id={`completion-${index}`} role="option" aria-selected={index === chosen} onMouseDown={(event) => { event.preventDefault(); insert(suggestion); }}>
            <b dir="auto">{suggestion}</b> <small>{about}</small>
          </li>
        ))}
      </ul>
      {error && <p class="problem" role="alert">{error.message}</p>}
    </div>
  );
}
