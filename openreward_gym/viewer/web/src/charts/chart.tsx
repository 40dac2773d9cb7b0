import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Line { label: string; color: string; values: (number | null)[]; dim?: boolean; width?: number; bars?: boolean }
export interface Band { upper: number; lower: number; color: string }

/** A uPlot chart, created once and updated with setData. A zoom survives new data; a double click resets it. */
export function Chart({ x, lines, bands, mark, yRange, pick, name, height }: {
  x: number[]; lines: Line[]; bands?: Band[]; mark?: number | null; yRange: [number | null, number | null]; pick?: (x: number) => void;
  name: string; height: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const zoom = useRef<[number, number] | null>(null);
  const latest = useRef({ mark, pick, yRange, x });
  latest.current = { mark, pick, yRange, x };
  // Only a different set of lines needs a new plot.
  const shape = JSON.stringify([lines.map(({ label, color, dim, bars }) => [label, color, dim, bars]), bands]);
  useLayoutEffect(() => {
    const node = box.current!;
    const style = getComputedStyle(node);
    const ink = style.getPropertyValue("--muted").trim();
    const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
    const axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const made = new uPlot(
      {
        width: node.clientWidth || 280,
        height,
        legend: { show: false },
        padding: [6, 8, 0, 0],
        cursor: { points: { size: 6 }, drag: { x: true, y: false, setScale: false } },
        scales: {
          x: { time: false, range: (_, min, max) => zoom.current ?? (min === max ? [min - 1, max + 1] : [min, max]) },
          y: { range: (_, min, max) => { const [low, high] = latest.current.yRange; const pad = (max - min || Math.abs(max) || 1) * 0.06; return [low ?? min - pad, high ?? max + pad]; } },
        },
        axes: [{ ...axis, size: 24 }, { ...axis, size: 46 }],
        series: [{}, ...lines.map((line) => ({
          label: line.label, stroke: line.dim ? `${line.color}55` : line.color, width: line.width ?? (line.dim ? 1 : 1.75), spanGaps: true,
          points: { show: (u: uPlot) => !line.bars && u.data[0].length < 40 && !line.dim, size: 4 },
          ...(line.bars ? { paths: uPlot.paths.bars!({ size: [0.95] }), fill: `${line.color}88` } : {}),
        }))],
        bands: (bands ?? []).map((band) => ({ series: [band.upper, band.lower] as [number, number], fill: band.color })),
        hooks: {
          draw: [(u) => {
            const at = latest.current.mark;
            if (at === null || at === undefined) return;
            const place = u.valToPos(at, "x", true);
            if (place < u.bbox.left || place > u.bbox.left + u.bbox.width) return;
            u.ctx.save();
            u.ctx.strokeStyle = style.getPropertyValue("--accent").trim();
            u.ctx.lineWidth = 1.5 * devicePixelRatio;
            u.ctx.setLineDash([4, 3]);
            u.ctx.beginPath();
            u.ctx.moveTo(place, u.bbox.top);
            u.ctx.lineTo(place, u.bbox.top + u.bbox.height);
            u.ctx.stroke();
            u.ctx.restore();
          }],
          setSelect: [(u) => {
            if (u.select.width < 6) return;
            zoom.current = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
            node.dataset.zoom = zoom.current.map((value) => value.toFixed(2)).join(" ");
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            u.setScale("x", { min: zoom.current[0], max: zoom.current[1] });
          }],
        },
      },
      [x, ...lines.map((line) => line.values)] as uPlot.AlignedData,
      node,
    );
    let down = 0;
    made.over.addEventListener("mousedown", (event) => { down = event.clientX; });
    made.over.addEventListener("click", (event) => {
      const index = made.cursor.idx;
      if (Math.abs(event.clientX - down) < 4 && index != null) latest.current.pick?.(latest.current.x[index]!);
    });
    made.over.addEventListener("dblclick", () => {
      zoom.current = null;
      delete node.dataset.zoom;
      made.setData(made.data);
    });
    const watch = new ResizeObserver(() => { if (node.clientWidth) made.setSize({ width: node.clientWidth, height: made.height }); });
    watch.observe(node);
    plot.current = made;
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData([x, ...lines.map((line) => line.values)] as uPlot.AlignedData), [x, lines]);
  useEffect(() => plot.current?.redraw(false), [mark]);
  useEffect(() => plot.current?.setData(plot.current.data), [yRange[0], yRange[1]]);
  useEffect(() => plot.current?.setSize({ width: box.current!.clientWidth || 280, height }), [height]);
  return <div class="plot" ref={box} role="img" aria-label={name} />;
}
