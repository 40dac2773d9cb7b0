import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useDark } from "./colours";
import type { Drawing, Line } from "./drawing";
import { barsPath, drawIntervals, drawMark } from "./paths";
import { Readout } from "./readout";
import { INTEGERS, tickLabels } from "./ticks";

export type Zoom = [number, number] | null;

interface Properties {
  drawing: Drawing; mark: number | null; yRange: [number | null, number | null]; name: string; height: number | "fill";
  zoom: Zoom; setZoom: (zoom: Zoom) => void; pick?: (x: number) => void;
}

/** A uPlot chart, created once and updated with setData. The place under the pointer, or under the arrow keys, is read out as text. */
export function Chart(properties: Properties) {
  const { drawing, mark, yRange, name, height, zoom, setZoom, pick } = properties;
  const { x, lines, bands, edges } = drawing;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(properties);
  latest.current = properties;
  const [pointed, setPointed] = useState<{ x: number; left: number; keys: boolean } | null>(null);
  const dark = useDark();
  // Only a different set of lines needs a new plot.
  const shape = JSON.stringify([lines.map(({ label, color, dash, dim, width }) => [label, color, dash, dim, width]), bands, edges === null]);
  useLayoutEffect(() => {
    const node = box.current!;
    const { plot: made, stop } = create(node, latest, (index) => setPointed((before) => {
      if (index === null) return before?.keys ? before : null;
      const at = { x: made.data[0][index]!, left: made.valToPos(made.data[0][index]!, "x") + made.over.offsetLeft, keys: false };
      return before && !before.keys && before.x === at.x && before.left === at.left ? before : at;
    }));
    plot.current = made;
    return () => {
      stop();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(dataOf(drawing)), [drawing]);
  useEffect(() => plot.current?.redraw(false), [mark, dark]);
  useEffect(() => plot.current?.setData(plot.current.data), [yRange[0], yRange[1], zoom?.[0], zoom?.[1]]);
  useEffect(() => fit(box.current!, plot.current, height), [height]);
  const index = pointed ? x.indexOf(pointed.x) : -1;
  const reading = pointed && index >= 0 ? drawing.reading(index) : null;
  const to = (next: number) => {
    const made = plot.current;
    if (!made || !x.length) return;
    const left = made.valToPos(x[next]!, "x");
    made.setCursor({ left, top: made.over.clientHeight / 2 });
    setPointed({ x: x[next]!, left: left + made.over.offsetLeft, keys: true });
  };
  const leave = () => {
    plot.current?.setCursor({ left: -10, top: -10 });
    setPointed(null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const first = x.findIndex((value) => !zoom || value >= zoom[0]);
    const last = x.findLastIndex((value) => !zoom || value <= zoom[1]);
    const now = pointed?.keys ? index : -1;
    const start = mark !== null && x.includes(mark) ? x.indexOf(mark) : last;
    const keys: Record<string, () => void> = {
      ArrowRight: () => to(now < 0 ? start : Math.min(last, now + 1)), ArrowLeft: () => to(now < 0 ? start : Math.max(first, now - 1)),
      Home: () => to(first), End: () => to(last),
      ...(pick && index >= 0 ? { Enter: () => pick(x[index]!) } : {}),
      ...(pointed?.keys ? { Escape: leave } : {}),
    };
    const act = keys[event.key];
    if (!act || first < 0 || last < first) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
  const hint = `Arrow keys, Home and End read its values${pick ? "; Enter opens the step's rollouts" : ""}.`;
  return (
    <div
      class="plot" ref={box} role="application" tabIndex={0} aria-label={name} aria-roledescription="chart" aria-description={hint} onKeyDown={onKeyDown}
      data-zoom={zoom?.map((value) => value.toFixed(2)).join(" ")} onBlur={() => { if (pointed?.keys) leave(); }} onDblClick={() => setZoom(null)}
    >
      {reading && <Readout reading={reading} left={pointed!.left} />}
      <span class="unseen" aria-live="polite">{reading && pointed?.keys ? `${reading.place}: ${reading.rows.map((row) => `${row.label} ${row.value}${row.about ? ` (${row.about})` : ""}`).join("; ")}` : ""}</span>
    </div>
  );
}

function dataOf({ x, lines }: Drawing): uPlot.AlignedData {
  return [x, ...lines.map((line) => line.values)] as uPlot.AlignedData;
}

function fit(node: HTMLElement, plot: uPlot | null, height: number | "fill"): void {
  if (node.clientWidth) plot?.setSize({ width: node.clientWidth, height: height === "fill" ? Math.max(160, node.clientHeight) : height });
}

function create(node: HTMLElement, latest: { current: Properties }, point: (index: number | null) => void) {
  const style = getComputedStyle(node);
  const colour = (name: string) => () => style.getPropertyValue(name).trim();
  const { drawing, height } = latest.current;
  const bars = drawing.edges !== null;
  const axis: uPlot.Axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif", values: (_, ticks, __, ___, increment) => tickLabels(ticks, increment) };
  const integers = drawing.integers ? { incrs: INTEGERS } : {};
  let hovered = false;
  const made: uPlot = new uPlot({
    width: node.clientWidth || 280, height: height === "fill" ? 300 : height, legend: { show: false }, padding: [8, 10, 0, 0],
    cursor: {
      points: { size: 6, show: !bars }, y: false, drag: { x: true, y: false, setScale: false },
      // The same step is marked in all charts; clicks and zooms are a chart's own.
      ...(bars ? {} : { sync: { key: "steps", setSeries: false, scales: ["x", null], filters: { pub: (kind: string) => kind === "mousemove" || kind === "mouseleave" } } }),
    },
    scales: { x: { time: false, range: (_, min, max) => rangeOfX(latest.current, min, max) }, y: { range: (_, min, max) => rangeOfY(latest.current, min, max) } },
    axes: [{ ...axis, grid: { show: false }, size: 22, space: 44, ...integers }, { ...axis, size: 50, space: 32, gap: 6, ...(bars ? { incrs: INTEGERS } : {}) }],
    series: [{}, ...drawing.lines.map((line) => seriesOf(line, latest, colour("--raised")))],
    bands: drawing.bands.map((band) => ({ series: [band.upper, band.lower] as [number, number], fill: band.color })),
    hooks: {
      draw: [(u) => {
        const { mark, drawing: { lines } } = latest.current;
        if (mark !== null && !bars) drawMark(u, mark, style.getPropertyValue("--accent").trim());
        drawIntervals(u, lines);
      }],
      setSelect: [(u) => {
        if (u.select.width < 6) return;
        const [low, high] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
        u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        latest.current.setZoom([low, high]);
      }],
      setCursor: [(u) => { if (hovered) point(u.cursor.idx ?? null); }],
    },
  }, dataOf(drawing), node);
  let down = 0;
  made.over.addEventListener("mouseenter", () => { hovered = true; });
  made.over.addEventListener("mouseleave", () => { hovered = false; point(null); });
  made.over.addEventListener("mousedown", (event) => { down = event.clientX; });
  made.over.addEventListener("click", (event) => {
    const index = made.cursor.idx;
    if (Math.abs(event.clientX - down) < 4 && index != null) latest.current.pick?.(made.data[0][index]!);
  });
  const watch = new ResizeObserver(() => fit(node, made, latest.current.height));
  watch.observe(node);
  return { plot: made, stop: () => { watch.disconnect(); made.destroy(); } };
}

function seriesOf(line: Line, latest: { current: Properties }, paper: () => string): uPlot.Series {
  const bars = latest.current.drawing.edges !== null;
  const alone = () => latest.current.drawing.lines.length === 1;
  return {
    label: line.label, stroke: line.dim ? `${line.color}66` : line.color, width: bars ? 1 : line.width ?? (line.dim ? 1 : 1.75), dash: alone() || line.dim ? [] : line.dash, spanGaps: true,
    points: { show: (u: uPlot) => !bars && u.data[0].length < 40 && !line.dim, size: 5, fill: paper },
    ...(bars ? { paths: barsPath(() => latest.current.drawing.edges ?? [], alone), fill: `${line.color}${alone() ? "99" : "33"}` } : {}),
  };
}

function rangeOfX({ drawing: { x, edges, integers }, zoom }: Properties, min: number, max: number): [number, number] {
  if (zoom) return zoom;
  if (edges?.length) {
    // From the first edge to the last; few bins get room at both sides, so that a single bar is not as wide as the chart.
    const count = edges.length - 1;
    const [low, high] = [edges[0]!, edges[count]!];
    const room = Math.ceil(Math.max(0, 5 - count) / 2) * ((high - low) / count);
    const least = integers ? -0.5 : 0; // none of it below 0 where no value is
    const start = low >= least ? Math.max(least, low - room) : low - room;
    return [start, start + high - low + 2 * room];
  }
  return x.length === 1 ? [x[0]! - 1, x[0]! + 1] : [min, max];
}

function rangeOfY({ drawing: { edges, lines }, yRange: [low, high] }: Properties, min: number, max: number): [number, number] {
  if (edges) return [0, high ?? Math.max(1, max * 1.06)];
  for (const { interval } of lines) if (interval) [min, max] = [Math.min(min, interval[0]), Math.max(max, interval[1])];
  const pad = (max - min || Math.abs(max) || 1) * 0.06;
  return [low ?? min - pad, high ?? max + pad];
}
