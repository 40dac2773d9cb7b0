import Sortable from "sortablejs";
import { useEffect, useRef } from "preact/hooks";
import { address, at, go } from "../address";
import { useRequest } from "../api";
import { AddChart, Layouts, Overlay } from "./adding";
import { overlaid, sectionsOf, useCatalogue } from "./catalogue";
import { PlotView } from "./plot";
import { defaults, fitting, MAX_RUNS, moved, type Plot, plotOf, plots, unfitted } from "./plots";
import type { Run, Runs } from "../types";

export function Sidecharts({ run, step }: { run: Run | undefined; step: number | null }) {
  return <aside class="charts" aria-label="Metrics"><Charts where="side" run={run} step={step} /></aside>;
}

export function Metrics({ run }: { run: Run | undefined }) {
  const step = address.value.step !== undefined && address.value.step !== "none" ? Number(address.value.step) : null;
  return <main id="content" tabIndex={-1} class="page metrics"><h1>Metrics</h1><Charts where="page" run={run} step={step} /></main>;
}

function Charts({ where, run, step }: { where: "side" | "page"; run: Run | undefined; step: number | null }) {
  const catalogue = useCatalogue(run);
  const sections = sectionsOf(catalogue);
  const runs = useRequest<Runs>("runs");
  const stored = plots[where];
  // Without the run it is not known whether it has steps, so nothing is drawn yet.
  const first = () => (run ? defaults(catalogue.built_in.map((metric) => metric.name), catalogue.own.map((metric) => metric.name), run.steps > 0, run.discarded > 0) : []);
  const list = stored.value?.map((plot) => ({ ...plotOf(plot.metric, plot.statistic), ...plot })) ?? first();
  const change = (next: Plot[]) => { stored.value = next; };
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
  const chosen = overlaid();
  const stepped = !run || run.steps > 0 || (runs.value?.runs ?? []).some((one) => one.steps > 0 && chosen.includes(one.key));
  const others = (runs.value?.runs ?? []).map((one) => one.key).filter((key) => key !== address.value.run);
  const overlay = (keys: string[]) => go(at({ runs: keys.filter((key) => key !== address.value.run).map(encodeURIComponent).join(",") || undefined }), true);
  return (
    <>
      <div class="chart-bar">
        <Overlay others={others} chosen={chosen} most={MAX_RUNS} set={overlay} />
        <span class="space" />
        <AddChart sections={sections} add={(names) => change([...list, ...names.map((name) => plotOf(name, run && run.steps === 0 ? "histogram" : "mean"))])} />
        <Layouts list={list} changed={stored.value !== null} choose={(next) => change(next.map((plot) => ({ ...plot })))} reset={() => { stored.value = null; }} />
      </div>
      <div class="plots" ref={box}>
        {list.map((plot, index) => (
          <PlotView
            key={plot.id} plot={fitting(plot, stepped)} step={step} sections={sections} large={where === "page"}
            change={(next) => change(list.map((one) => (one.id === plot.id ? unfitted(plot, fitting(plot, stepped), next) : one)))}
            remove={() => change(list.filter((one) => one.id !== plot.id))}
            copy={() => change([...list.slice(0, index + 1), { ...plot, id: plotOf("").id }, ...list.slice(index + 1)])}
            move={(by) => change(moved(list, index, index + by))}
          />
        ))}
      </div>
    </>
  );
}
