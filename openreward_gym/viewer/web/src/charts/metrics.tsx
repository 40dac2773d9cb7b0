import Sortable from "sortablejs";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, at, go } from "../address";
import { Chart, type Line } from "./chart";
import { COLOURS, defaults, MAX_RUNS, moved, type Plot, plotOf, plots, type Statistic, STATISTIC_NAMES, STATISTICS } from "./plots";
import { load, type RequestState, useRequest } from "../api";
import { ema, joined, shown, withoutOutliers } from "../numbers";
import { Filter } from "../lists/filter";
import { Check, Menu } from "../components";
import type { Histogram, Run, Runs, Series } from "../types";

const OWN = ["reward", "advantage", "tokens", "steps", "calls", "errors", "duration", "cost"];

export function Sidecharts({ run, step }: { run: Run | undefined; step: number | null }) {
  return <aside class="charts" aria-label="Metrics"><Charts where="side" run={run} step={step} /></aside>;
}

export function Metrics({ run }: { run: Run | undefined }) {
  const step = address.value.step !== undefined && address.value.step !== "none" ? Number(address.value.step) : null;
  return <main id="content" tabIndex={-1} class="page metrics"><h1>Metrics</h1><Charts where="page" run={run} step={step} /></main>;
}

/** The runs to draw: the current one first, then those in the address. */
function overlaid(): string[] {
  const others = (address.value.runs ?? "").split(",").filter(Boolean).map(decodeURIComponent);
  return [...new Set([address.value.run ?? "", ...others])].filter(Boolean).slice(0, MAX_RUNS);
}

function Charts({ where, run, step }: { where: "side" | "page"; run: Run | undefined; step: number | null }) {
  const metrics = run?.metrics ?? [];
  const list = plots[where].value ?? defaults(metrics, !run || run.steps > 0);
  const change = (next: Plot[]) => { plots[where].value = next; };
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef({ list, change });
  latest.current = { list, change };
  useEffect(() => {
    const sortable = Sortable.create(box.current!, {
      // The library's own dragging, which is the same for mouse, pen and touch.
      handle: ".handle", animation: 120, draggable: ".chart", forceFallback: true, fallbackOnBody: true,
      onEnd: ({ oldDraggableIndex: from, newDraggableIndex: to, item, from: parent }) => {
        if (from === undefined || to === undefined || from === to) return;
        // The page is drawn from the list, so the library's change to the DOM is undone first.
        const others = [...parent.querySelectorAll(":scope > .chart")].filter((node) => node !== item);
        parent.insertBefore(item, others[from] ?? null);
        latest.current.change(moved(latest.current.list, from, to));
      },
    });
    return () => sortable.destroy();
  }, []);
  const names = [...OWN, ...metrics.filter((name) => !OWN.includes(name))];
  return (
    <>
      <div class="bar">
        <Overlay />
        <span class="space" />
        <Menu label="Add chart">
          {names.map((name) => <button type="button" key={name} onClick={() => change([...list, plotOf(name)])}>{name}</button>)}
        </Menu>
        {plots[where].value !== null && <button type="button" class="quiet" onClick={() => { plots[where].value = null; }}>Reset</button>}
      </div>
      <div class="plots" ref={box}>
        {list.map((plot, index) => (
          <PlotView
            key={plot.id} plot={plot} step={step} names={names} large={where === "page"}
            change={(next) => change(list.map((one) => (one.id === plot.id ? next : one)))}
            remove={() => change(list.filter((one) => one.id !== plot.id))}
            copy={() => change([...list.slice(0, index + 1), { ...plot, id: plotOf("").id }, ...list.slice(index + 1)])}
            move={(by) => change(moved(list, index, index + by))}
          />
        ))}
      </div>
    </>
  );
}

function Overlay() {
  const { value } = useRequest<Runs>("runs");
  const chosen = overlaid();
  const others = (value?.runs ?? []).filter((run) => run.key !== address.value.run);
  const set = (keys: string[]) => go(at({ runs: keys.filter((key) => key !== address.value.run).map(encodeURIComponent).join(",") || undefined }), true);
  return (
    <>
      {others.length > 0 && (
        <Menu label={`Compare runs${chosen.length > 1 ? ` (${chosen.length})` : ""}`}>
          {others.map((run) => <Check key={run.key} label={run.key} on={chosen.includes(run.key)} change={(on) => set(on ? [...chosen, run.key] : chosen.filter((key) => key !== run.key))} />)}
        </Menu>
      )}
      {chosen.length > 1 && <span class="legend">{chosen.map((key, index) => <span key={key}><svg width="10" height="10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill={COLOURS[index]} /></svg> {key}</span>)}</span>}
    </>
  );
}

/** The answers to one request per run. */
function useAll<T>(name: string | null, runs: string[], parameters: Record<string, string | number | boolean | null>): (RequestState<T> & { run: string })[] {
  const [answers, setAnswers] = useState<Record<string, RequestState<T>>>({});
  const key = JSON.stringify([name, runs, parameters]);
  useEffect(() => {
    if (!name) return;
    const stop = new AbortController();
    let timer = 0;
    const poll = async () => {
      const next = await Promise.all(runs.map(async (run): Promise<[string, RequestState<T>]> => {
        try {
          return [run, { value: await load<T>(name, { run, ...parameters }, stop.signal), error: null }];
        } catch (error) {
          return [run, { value: null, error: error as never }];
        }
      }));
      if (stop.signal.aborted) return;
      setAnswers((before) => (next.every(([run, answer]) => before[run]?.value === answer.value && before[run]?.error?.message === answer.error?.message) && Object.keys(before).length === next.length ? before : Object.fromEntries(next)));
      timer = window.setTimeout(poll, 2000);
    };
    void poll();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [key]);
  return runs.map((run) => ({ run, ...(answers[run] ?? { value: null, error: null }) }));
}

/** The lines of a chart: the series with the chart's settings applied. */
export function linesOf(plot: Plot, all: Series[]): { x: number[]; lines: Line[]; bands: { upper: number; lower: number; color: string }[] } {
  const statistic = plot.statistic === "histogram" || plot.statistic === "distribution" ? "mean" : plot.statistic;
  const cut = (series: Series, values: (number | null)[]) => {
    const kept = plot.first ? values.map((value, index) => (index === 0 ? null : value)) : values;
    return { steps: series.steps, values: plot.outliers ? withoutOutliers(kept) : kept };
  };
  if (plot.statistic === "distribution") {
    const names = ["p95", "p75", "p50", "p25", "p05"] as const;
    const parts = all.flatMap((series) => names.map((name) => cut(series, series[name])));
    const { steps, values } = joined(parts);
    const lines = values.map((row, index) => ({ label: names[index % 5]!, color: COLOURS[Math.floor(index / 5)]!, values: row, width: index % 5 === 2 ? 2 : 0.5 }));
    const bands = all.flatMap((_, run) => [{ upper: run * 5 + 1, lower: run * 5 + 5, color: `${COLOURS[run]}22` }, { upper: run * 5 + 2, lower: run * 5 + 4, color: `${COLOURS[run]}33` }]);
    return { x: steps, lines, bands };
  }
  const { steps, values } = joined(all.map((series) => cut(series, series[statistic])));
  const lines: Line[] = [];
  values.forEach((row, run) => {
    const color = COLOURS[run]!;
    lines.push({ label: all[run]!.run, color, values: row, dim: plot.smooth > 1 });
    if (plot.smooth > 1) lines.push({ label: `${all[run]!.run} smoothed`, color, values: ema(row, plot.smooth) });
  });
  return { x: steps, lines, bands: [] };
}

function PlotView({ plot, step, names, large, change, remove, copy, move }: {
  plot: Plot; step: number | null; names: string[]; large: boolean; change: (plot: Plot) => void; remove: () => void; copy: () => void; move: (by: number) => void;
}) {
  const [full, setFull] = useState(false);
  const runs = overlaid();
  const bars = plot.statistic === "histogram";
  const series = useAll<Series>(bars ? null : "series", runs, { metric: plot.metric, filter: plot.filter });
  const every = step === null;
  const histogram = useAll<Histogram>(bars ? "histogram" : null, runs.slice(0, 1), { metric: plot.metric, filter: plot.filter, step, every });
  const error = [...series, ...histogram].map((one) => one.error).find(Boolean) ?? null;
  const got = series.map((one) => one.value).filter((value): value is Series => value !== null && value.steps.length > 0);
  const drawn = useMemo(() => {
    if (!bars) return linesOf(plot, got);
    const bins = histogram[0]?.value;
    const x = bins ? bins.counts.map((_, index) => (bins.edges[index]! + bins.edges[index + 1]!) / 2) : [];
    return { x, lines: [{ label: "rollouts", color: COLOURS[0]!, values: bins?.counts ?? [], bars: true }], bands: [] };
  }, [JSON.stringify(plot), ...got, got.length, histogram[0]?.value]);
  useEffect(() => {
    if (!full) return;
    const leave = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || document.querySelector("details.menu[open]")) return;
      event.preventDefault();
      setFull(false);
    };
    document.addEventListener("keydown", leave);
    return () => document.removeEventListener("keydown", leave);
  }, [full]);
  const title = `${plot.metric}, ${STATISTIC_NAMES[plot.statistic]}`;
  const last = !bars && drawn.lines.length ? drawn.lines[0]!.values.findLast((value) => value !== null) : null;
  const pick = (x: number) => go(at({ page: "rollouts", step: String(x), group: undefined, sample: undefined, view: undefined, message: undefined }));
  return (
    <figure class={`chart${full ? " full" : ""}`} data-id={plot.id} data-metric={plot.metric}>
      <figcaption>
        <button type="button" class="handle" aria-label={`Move the chart ${title}: arrow keys`} title="Drag, or use the arrow keys" onKeyDown={(event) => {
          const by = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
          if (by) { event.preventDefault(); event.stopPropagation(); move(by); const node = event.currentTarget; requestAnimationFrame(() => node.focus()); }
        }}>⠿</button>
        <span class="title" title={title}>{plot.metric} <small>{STATISTIC_NAMES[plot.statistic]}{plot.filter ? ", filtered" : ""}</small></span>
        {last != null && <span class="last" title="The last value">{shown(last)}</span>}
        <Controls plot={plot} names={names} title={title} change={change} copy={copy} remove={remove} error={error} />
        <button type="button" class="quiet" aria-label={full ? "Leave full screen" : `Full screen: ${title}`} onClick={() => setFull(!full)}>{full ? "✕" : "⤢"}</button>
      </figcaption>
      {drawn.x.length ? (
        <Chart x={drawn.x} lines={drawn.lines} bands={drawn.bands} mark={bars ? null : step} yRange={[plot.low, plot.high]} pick={bars ? undefined : pick} name={`Chart: ${title}`} height={full ? Math.max(240, window.innerHeight - 120) : large ? 200 : 130} />
      ) : <p class="none">{error ? error.message : bars || series.every((one) => one.value) ? "No values." : "…"}</p>}
    </figure>
  );
}

function Controls({ plot, names, title, change, copy, remove, error }: { plot: Plot; names: string[]; title: string; change: (plot: Plot) => void; copy: () => void; remove: () => void; error: Error | null }) {
  const number = (text: string) => (text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text));
  return (
    <Menu label="⋯" name={`Settings of ${title}`}>
      <label>Metric <select value={plot.metric} onChange={(event) => change({ ...plot, metric: event.currentTarget.value })}>{[...new Set([plot.metric, ...names])].map((name) => <option key={name}>{name}</option>)}</select></label>
      <label>Shown <select value={plot.statistic} onChange={(event) => change({ ...plot, statistic: event.currentTarget.value as Statistic })}>{STATISTICS.map((name) => <option key={name} value={name}>{STATISTIC_NAMES[name]}</option>)}</select></label>
      <label>Smoothing (EMA span) <input type="range" min="1" max="100" value={plot.smooth} onInput={(event) => change({ ...plot, smooth: Number(event.currentTarget.value) })} /> <output>{plot.smooth > 1 ? plot.smooth : "off"}</output></label>
      <Check label="Ignore outliers" on={plot.outliers} change={(outliers) => change({ ...plot, outliers })} />
      <Check label="Ignore first step" on={plot.first} change={(first) => change({ ...plot, first })} />
      <div class="pair">
        <label>Y from <input inputMode="decimal" value={plot.low ?? ""} onChange={(event) => change({ ...plot, low: number(event.currentTarget.value) })} /></label>
        <label>to <input inputMode="decimal" value={plot.high ?? ""} onChange={(event) => change({ ...plot, high: number(event.currentTarget.value) })} /></label>
      </div>
      <Filter run={address.value.run ?? ""} value={plot.filter} change={(filter) => { if (filter !== plot.filter) change({ ...plot, filter }); }} error={error} />
      <div class="pair"><button type="button" onClick={copy}>Duplicate</button><button type="button" onClick={remove}>Remove</button></div>
    </Menu>
  );
}
