import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { persisted } from "../settings";

/** Widths of the side panes in pixels, and whether they are closed; null leaves that to the width of the window. */
interface PaneSettings { list: number; charts: number; listClosed: boolean; chartsClosed: boolean | null }

const LIMITS = { list: [220, 640], charts: [220, 720] } as const;
const DEFAULTS: PaneSettings = { list: 336, charts: 280, listClosed: false, chartsClosed: null };
const STEP = 24;
const EDGES = 14 + 36;
/** The least width of a sample's text, for which the charts make room. */
const TEXT = 800;
const NARROW = "(max-width: 1000px)";

type Side = "list" | "charts";

function valid(value: unknown): boolean {
  const { list, charts, listClosed, chartsClosed } = (value ?? {}) as Partial<PaneSettings>;
  return Number.isFinite(list) && Number.isFinite(charts) && typeof listClosed === "boolean" && (chartsClosed === null || typeof chartsClosed === "boolean");
}

const panes = persisted<PaneSettings>("panes", DEFAULTS, valid);

function clamped(side: Side, width: number): number {
  const [least, most] = LIMITS[side];
  return Math.round(Math.max(least, Math.min(most, width)));
}

function useWindow(): { width: number; narrow: boolean } {
  const now = () => ({ width: window.innerWidth, narrow: matchMedia(NARROW).matches });
  const [size, setSize] = useState(now);
  useEffect(() => {
    const measure = () => setSize(now());
    window.addEventListener("resize", measure);
    return () => window.removeEventListener("resize", measure);
  }, []);
  return size;
}

/** Whether each pane is closed. The charts give way to a sample's text, unless the reader has opened or closed them. */
function closedPanes(settings: PaneSettings, width: number, reading: boolean): Record<Side, boolean> {
  const list = settings.listClosed;
  const left = width - (list ? 0 : clamped("list", settings.list)) - clamped("charts", settings.charts) - EDGES;
  return { list, charts: settings.chartsClosed ?? (reading && left < TEXT) };
}

/** The frame of the rollouts' pages: samples on the left, what is read in the middle, metrics on the right. The side panes resize and close. */
export function Panes({ reading, place, list, charts, children }: { reading: boolean; place: string | undefined; list: ComponentChildren; charts: ComponentChildren; children: ComponentChildren }) {
  const [shownPane, setShownPane] = useState<"list" | "main" | "charts">(place !== undefined ? "main" : "list");
  useEffect(() => { if (place !== undefined) setShownPane("main"); }, [place]);
  const { width, narrow } = useWindow();
  const settings = panes.value;
  const closed = narrow ? { list: false, charts: false } : closedPanes(settings, width, reading);
  const toggle = (side: Side) => { panes.value = { ...panes.value, [`${side}Closed`]: !closed[side] }; };
  const size = (side: Side) => (closed[side] ? "0px" : `min(${clamped(side, settings[side])}px, 40vw)`);
  const columns = `${size("list")} auto minmax(0, 1fr) auto ${size("charts")}`;
  return (
    <div class={`three show-${shownPane}`} style={narrow ? undefined : { gridTemplateColumns: columns }}>
      <nav class="sides" aria-label="What is shown">
        {([["list", "Samples"], ["main", "Sample"], ["charts", "Metrics"]] as const).map(([name, label]) => (
          <button type="button" key={name} aria-pressed={shownPane === name} onClick={() => setShownPane(name)}>{label}</button>
        ))}
      </nav>
      {closed.list ? <span /> : list}
      <Edge side="list" name="samples" closed={closed.list} toggle={() => toggle("list")} />
      {children}
      <Edge side="charts" name="metrics" closed={closed.charts} toggle={() => toggle("charts")} />
      {closed.charts ? <span /> : charts}
    </div>
  );
}

/** The edge of a side pane: it is dragged, or moved with the arrow keys, and its button closes and opens the pane. */
function Edge({ side, name, closed, toggle }: { side: Side; name: string; closed: boolean; toggle: () => void }) {
  const start = useRef<{ x: number; width: number } | null>(null);
  const [least, most] = LIMITS[side];
  const width = clamped(side, panes.value[side]);
  const sign = side === "list" ? 1 : -1;
  const set = (value: number) => { panes.value = { ...panes.value, [side]: clamped(side, value) }; };
  const keys: Record<string, number> = { ArrowRight: width + sign * STEP, ArrowLeft: width - sign * STEP, Home: least, End: most };
  return (
    <section class={`edge ${side === "list" ? "left" : "right"}${closed ? " closed" : ""}`} aria-label={`Edge of the ${name}`}>
      {!closed && (
        <div
          class="divider" role="separator" tabIndex={0} aria-orientation="vertical" aria-label={`Width of the ${name}`} aria-valuemin={least} aria-valuemax={most} aria-valuenow={width}
          title="Drag, or use the arrow keys; double click for the default"
          onDblClick={() => set(DEFAULTS[side])}
          onPointerDown={(event) => {
            start.current = { x: event.clientX, width };
            event.currentTarget.setPointerCapture(event.pointerId);
            event.preventDefault();
          }}
          onPointerMove={(event) => { if (start.current) set(start.current.width + sign * (event.clientX - start.current.x)); }}
          onPointerUp={() => { start.current = null; }}
          onPointerCancel={() => { start.current = null; }}
          onKeyDown={(event) => {
            const to = keys[event.key];
            if (to === undefined) return;
            event.preventDefault();
            set(to);
          }}
        />
      )}
      <button type="button" class="quiet" aria-expanded={!closed} aria-label={`${closed ? "Show" : "Hide"} ${name}`} title={`${closed ? "Show" : "Hide"} ${name} (${side === "list" ? "s" : "m"})`} onClick={toggle}>
        {(side === "list") === closed ? "›" : "‹"}{closed && <span class="rail">{side === "list" ? "Samples" : "Metrics"}</span>}
      </button>
    </section>
  );
}
