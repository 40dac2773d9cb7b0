import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { at, go } from "../address";
import { Copy } from "../components";
import { brief, evenly } from "../numbers";
import { namesOf, useSeries } from "./answers";
import { overlaid, type Section } from "./catalogue";
import { useRequest } from "../api";
import { Chart, type Zoom } from "./chart";
import { Controls } from "./controls";
import { captionOf, csvOf, type Drawing, isShare, type Key, keysOf, ofHistograms, overSteps } from "./drawing";
import { nameOf, type Plot, rangeOf, whichesOf } from "./plots";
import { download } from "./picture";
import { Swatch } from "./readout";
import type { Histograms } from "../types";

interface Properties {
  plot: Plot; step: number | null; sections: Section[]; large: boolean;
  change: (plot: Plot) => void; remove: () => void; copy: () => void; move: (by: number) => void;
}

/** One chart: its caption, legend, drawing and table. */
export function PlotView({ plot, step, sections, large, change, remove, copy, move }: Properties) {
  const figure = useRef<HTMLElement>(null);
  const [full, setFull] = useFull(figure);
  const [zoom, setZoom] = useState<Zoom>(null);
  const { drawing, error, waiting } = useDrawing(plot, step);
  const bars = plot.statistic === "histogram";
  useEffect(() => setZoom(null), [bars, bars && plot.metric]);
  const caption = captionOf(plot, step);
  const name = nameOf(plot.metric);
  const title = `${name}, ${caption}`;
  const pick = (x: number) => go(at({ page: "rollouts", step: String(x), steps: undefined, group: undefined, sample: undefined, view: undefined, message: undefined }));
  const several = drawing.keys.length > 1;
  const last = drawing.lasts[drawing.keys[0]?.key ?? ""];
  const toggle = ({ key, hidden }: Key) => change({ ...plot, hidden: hidden ? plot.hidden.filter((one) => one !== key) : [...plot.hidden, key] });
  return (
    <figure class={`chart${full ? " full" : ""}${large ? " large" : ""}`} data-id={plot.id} data-metric={plot.metric} ref={figure}>
      <figcaption>
        <span class="title" title={title}><b dir="auto">{name}</b> <small>{caption}</small></span>
        <button type="button" class="handle" aria-label={`Move the chart ${title}: arrow keys`} title="Drag, or use the arrow keys" onKeyDown={(event) => {
          const by = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
          if (by) { event.preventDefault(); event.stopPropagation(); move(by); const node = event.currentTarget; requestAnimationFrame(() => node.focus()); }
        }}>⠿</button>
        {last !== undefined && !several && <span class="last" title="The last value">{brief(last)}</span>}
        <span class="tools">
          {zoom && <button type="button" class="quiet" onClick={() => setZoom(null)}>Reset zoom</button>}
          <button type="button" class="quiet" aria-label={`Table: ${title}`} title="Table" aria-pressed={plot.table} onClick={() => change({ ...plot, table: !plot.table })}>{large || full ? "Table" : "▤"}</button>
          <Controls plot={plot} sections={sections} title={title} drawing={drawing} change={change} copy={copy} remove={remove} download={() => download(figure.current!, title)} error={error} />
          <button type="button" class="quiet enlarge" aria-label={full ? "Leave full screen" : `Full screen: ${title}`} title={full ? "Leave full screen" : "Full screen"} onClick={() => setFull(!full)}>{full ? "✕" : "⤢"}</button>
        </span>
      </figcaption>
      {several && (
        <div class="legend" role="group" aria-label={`Series of ${name}`}>
          {drawing.keys.map((key) => <button type="button" class="quiet" key={key.key} aria-pressed={!key.hidden} title={key.hidden ? "Show" : "Hide"} onClick={() => toggle(key)}><Swatch {...key} /> <span dir="auto">{key.label}</span>{key.key in drawing.lasts && <b class="last" title="The last value">{brief(drawing.lasts[key.key]!)}</b>}</button>)}
        </div>
      )}
      {drawing.x.length ? (
        <Chart drawing={drawing} mark={bars ? null : step} yRange={rangeOf(plot)} pick={bars ? undefined : pick} name={`Chart: ${title}`} zoom={zoom} setZoom={setZoom} height={full ? "fill" : large ? 190 : 124} />
      ) : <p class={`none${waiting && !error ? " waiting" : ""}`}>{error ? error.message : waiting ? "…" : several && drawing.keys.every((key) => key.hidden) ? "All series are hidden." : "No values."}</p>}
      {drawing.notes.map((note) => <p class="note" key={note}>{note}</p>)}
      {plot.table && drawing.x.length > 0 && <Figures drawing={drawing} title={title} />}
    </figure>
  );
}

/** What is drawn: the answers of all runs with the chart's settings applied. */
function useDrawing(plot: Plot, step: number | null): { drawing: Drawing; error: Error | null; waiting: boolean } {
  const runs = overlaid();
  const bars = plot.statistic === "histogram";
  const keys = keysOf(plot, runs);
  const series = useSeries(bars ? [] : keys.map(({ run, which }) => ({ run, metric: plot.metric, filter: plot.filter, which })));
  const which = isShare(plot.metric) ? "" : namesOf(whichesOf(plot));
  const histograms = useRequest<Histograms>(bars && runs.length ? "histogram" : null, { runs: namesOf(runs), metric: plot.metric, filter: plot.filter, step, every: step === null, which: which === "all" ? "" : which }, true, true);
  const values = useSame(series.map((one) => one.value));
  const drawing = useMemo(() => (bars ? ofHistograms(keys, histograms.value) : overSteps(plot, keys, values)), [JSON.stringify([plot, keys]), bars, histograms.value, values]);
  const error = bars ? histograms.error : series.map((one) => one.error).find(Boolean) ?? null;
  return { drawing, error, waiting: bars ? !histograms.value && !error : values.some((value) => !value) && !error };
}

/** The same array as before while its items are the same. */
function useSame<T>(items: T[]): T[] {
  const before = useRef(items);
  if (before.current.length !== items.length || before.current.some((item, index) => item !== items[index])) before.current = items;
  return before.current;
}

const MOST_ROWS = 2000;

/** The numbers of a chart as a table. */
function Figures({ drawing: { table }, title }: { drawing: Drawing; title: string }) {
  const rows = table.rows.slice(0, MOST_ROWS);
  const columns = table.head.slice(1).map((_, column) => evenly(rows.map((row) => (row[column + 1] === "" ? null : Number(row[column + 1])))));
  return (
    <>
      <div class="figures" tabIndex={0} role="region" aria-label={`Table of ${title}`}>
        <table>
          <caption class="unseen">{title}</caption>
          <thead><tr>{table.head.map((name) => <th scope="col" class="num" key={name} dir="auto">{name}</th>)}</tr></thead>
          <tbody>{rows.map(([first], index) => <tr key={first}><th scope="row" class="num">{first}</th>{columns.map((column, place) => <td class="num" key={place}>{column[index]}</td>)}</tr>)}</tbody>
        </table>
      </div>
      <p class="line"><Copy label="Copy as CSV" text={() => csvOf(table)} />{table.rows.length > rows.length && <span class="note">The first {rows.length} of {table.rows.length} rows; the copy has all.</span>}</p>
    </>
  );
}

/** Full screen: what is behind cannot be reached, Escape leaves, and the focus goes back to the button. */
function useFull(figure: { current: HTMLElement | null }): [boolean, (full: boolean) => void] {
  const [full, setFull] = useState(false);
  useEffect(() => {
    if (!full) return;
    const behind: Element[] = [];
    for (let node: Element = figure.current!; node !== document.body && node.parentElement; node = node.parentElement)
      behind.push(...[...node.parentElement.children].filter((other) => other !== node && !other.hasAttribute("inert")));
    behind.forEach((node) => node.setAttribute("inert", ""));
    const leave = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("details.menu[open]")) return;
      event.preventDefault();
      setFull(false);
    };
    document.addEventListener("keydown", leave);
    return () => {
      document.removeEventListener("keydown", leave);
      behind.forEach((node) => node.removeAttribute("inert"));
      figure.current?.querySelector<HTMLElement>(".enlarge")?.focus();
    };
  }, [full]);
  return [full, setFull];
}
