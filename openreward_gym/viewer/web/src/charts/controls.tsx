import { address } from "../address";
import { Check, Copy, Menu } from "../components";
import { Filter } from "../lists/filter";
import type { Section } from "./catalogue";
import { csvOf, type Drawing, isShare } from "./drawing";
import { COUNTED, COUNTED_NAMES, type Counted, nameOf, type Plot, rangeName, rangeOf, showing, type Statistic, STATISTIC_NAMES, STATISTICS } from "./plots";

/** The settings of a chart. */
export function Controls({ plot, sections, title, drawing, change, copy, remove, download, error }: {
  plot: Plot; sections: Section[]; title: string; drawing: Drawing; change: (plot: Plot) => void; copy: () => void; remove: () => void; download: () => void; error: Error | null;
}) {
  const [low, high] = rangeOf(plot);
  const range = (next: { low?: number | null; high?: number | null }) => change({ ...plot, low, high, ...next, rangeFor: rangeName(plot) });
  const number = (text: string) => (text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text));
  const bars = plot.statistic === "histogram";
  const lines = !bars && plot.statistic !== "distribution";
  const known = sections.some((section) => section.metrics.some((metric) => metric.name === plot.metric));
  return (
    <Menu label="⋯" name={`Settings of ${title}`}>
      <label>Metric <select value={plot.metric} onChange={(event) => change(showing(plot, { metric: event.currentTarget.value }))}>
        {!known && <option>{plot.metric}</option>}
        {sections.map(({ title: label, metrics }) => <optgroup key={label} label={label}>{metrics.map(({ name }) => <option key={name} value={name}>{nameOf(name)}</option>)}</optgroup>)}
      </select></label>
      <label>Shown <select value={plot.statistic} onChange={(event) => change(showing(plot, { statistic: event.currentTarget.value as Statistic }))}>{STATISTICS.map((name) => <option key={name} value={name}>{STATISTIC_NAMES[name]}</option>)}</select></label>
      {!isShare(plot.metric) && <label>Rollouts <select value={plot.which} onChange={(event) => change({ ...plot, which: event.currentTarget.value as Counted, hidden: [] })}>{COUNTED.map((name) => <option key={name} value={name}>{COUNTED_NAMES[name]}</option>)}</select></label>}
      {lines && <label>Smoothing (EMA span) <input type="range" min="1" max="100" value={plot.smooth} onInput={(event) => change({ ...plot, smooth: Number(event.currentTarget.value) })} /> <output>{plot.smooth > 1 ? plot.smooth : "off"}</output></label>}
      {!bars && <Check label="Ignore outliers" on={plot.outliers} change={(outliers) => change({ ...plot, outliers })} />}
      {!bars && <Check label="Ignore first step" on={plot.first} change={(first) => change({ ...plot, first })} />}
      <div class="pair">
        {!bars && <label>Y from <input inputMode="decimal" value={low ?? ""} onChange={(event) => range({ low: number(event.currentTarget.value) })} /></label>}
        <label>{bars ? "Y to" : "to"} <input inputMode="decimal" value={high ?? ""} onChange={(event) => range({ high: number(event.currentTarget.value) })} /></label>
      </div>
      <Filter run={address.value.run ?? ""} value={plot.filter} change={(filter) => { if (filter !== plot.filter) change({ ...plot, filter }); }} error={error} />
      <div class="pair"><Copy label="Copy as CSV" text={() => csvOf(drawing.table)} /><button type="button" class="quiet" onClick={download}>Download PNG</button></div>
      <div class="pair"><button type="button" onClick={copy}>Duplicate</button><button type="button" onClick={remove}>Remove</button></div>
    </Menu>
  );
}
