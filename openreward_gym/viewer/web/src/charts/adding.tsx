import { useEffect, useRef, useState } from "preact/hooks";
import { Check, Menu } from "../components";
import { matching, type Section } from "./catalogue";
import { styleOf } from "./colours";
import { layoutFrom, layouts, layoutText, type Plot } from "./plots";
import { Swatch } from "./readout";

/** The metrics to add a chart of, with a search. */
export function AddChart({ sections, add }: { sections: Section[]; add: (names: string[]) => void }) {
  const [text, setText] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const menu = field.current?.closest("details");
    const focus = () => { if (menu?.open) field.current?.focus(); };
    menu?.addEventListener("toggle", focus);
    return () => menu?.removeEventListener("toggle", focus);
  }, []);
  const found = matching(sections, text);
  return (
    <Menu label="Add chart">
      <input ref={field} type="search" class="metric-search" aria-label="Search metrics" placeholder="Search metrics" value={text} onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => { if (event.key === "Enter" && found.length) add([found[0]!.metrics[0]!.name]); }} />
      {found.map(({ title, metrics }) => (
        <section key={title} class="metric-section" aria-label={title}>
          <header><span>{title}</span>{title.endsWith("/") && <button type="button" class="quiet" onClick={() => add(metrics.map((metric) => metric.name))}>Add all {metrics.length}</button>}</header>
          {metrics.map(({ name, about }) => <button type="button" key={name} title={about} dir="auto" onClick={() => add([name])}>{name}</button>)}
        </section>
      ))}
      {!found.length && <p class="none">No metric has this in its name.</p>}
    </Menu>
  );
}

/** Saved layouts: choose, save, delete, export, import, and back to the default charts. */
export function Layouts({ list, changed, choose, reset }: { list: Plot[]; changed: boolean; choose: (list: Plot[]) => void; reset: () => void }) {
  const [name, setName] = useState("");
  const [text, setText] = useState<string | null>(null);
  const [problem, setProblem] = useState("");
  const saved = Object.keys(layouts.value).sort();
  const save = () => {
    if (!name.trim()) return;
    layouts.value = { ...layouts.value, [name.trim()]: list };
    setName("");
  };
  const remove = (which: string) => { layouts.value = Object.fromEntries(Object.entries(layouts.value).filter(([one]) => one !== which)); };
  const take = () => {
    try {
      choose(layoutFrom(text ?? ""));
      setText(null);
      setProblem("");
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <Menu label="Layouts">
      {saved.map((one) => (
        <div class="layout" key={one}>
          <button type="button" dir="auto" onClick={() => choose(layouts.value[one]!)}>{one}</button>
          <button type="button" class="quiet" aria-label={`Delete the layout ${one}`} onClick={() => remove(one)}>✕</button>
        </div>
      ))}
      {!saved.length && <p class="none">No saved layouts.</p>}
      <div class="layout">
        <input aria-label="Name of the layout" placeholder="Name" maxLength={80} value={name} onInput={(event) => setName(event.currentTarget.value)} onKeyDown={(event) => { if (event.key === "Enter") save(); }} />
        <button type="button" disabled={!name.trim()} onClick={save}>Save layout</button>
      </div>
      <div class="layout">
        <button type="button" onClick={() => { setText(layoutText(list)); setProblem(""); }}>Export</button>
        <button type="button" onClick={() => { setText(""); setProblem(""); }}>Import</button>
        <button type="button" disabled={!changed} onClick={reset}>Default charts</button>
      </div>
      {text !== null && (
        <>
          <textarea aria-label="Layout as text" rows={6} spellcheck={false} placeholder="Paste an exported layout" value={text} onInput={(event) => setText(event.currentTarget.value)} />
          <div class="layout"><button type="button" disabled={!text.trim()} onClick={take}>Use this layout</button><button type="button" class="quiet" onClick={() => setText(null)}>Close</button></div>
        </>
      )}
      {problem && <p class="problem" role="alert">{problem}</p>}
    </Menu>
  );
}

/** The other runs to draw over this one. */
export function Overlay({ others, chosen, most, set }: { others: string[]; chosen: string[]; most: number; set: (keys: string[]) => void }) {
  const [text, setText] = useState("");
  if (!others.length) return null;
  const shown = others.filter((key) => key.toLowerCase().includes(text.trim().toLowerCase()));
  const full = chosen.length >= most;
  return (
    <Menu label={`Compare runs${chosen.length > 1 ? ` (${chosen.length})` : ""}`}>
      {others.length > 8 && <input type="search" aria-label="Search runs" placeholder="Search runs" value={text} onInput={(event) => setText(event.currentTarget.value)} />}
      {shown.filter((key) => chosen.includes(key) || !full).map((key) => (
        <div class="layout" key={key}>
          <Check label={key} on={chosen.includes(key)} change={(on) => set(on ? [...chosen, key] : chosen.filter((one) => one !== key))} />
          <span class="space" />
          {chosen.includes(key) && <Swatch {...styleOf(chosen.indexOf(key))} />}
        </div>
      ))}
      {full && <p class="none">At most {most} runs are drawn.</p>}
    </Menu>
  );
}
