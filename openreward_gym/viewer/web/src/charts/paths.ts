import type uPlot from "uplot";
import type { Line } from "./drawing";

/** The bars of a histogram from edge to edge: single bars, or an outline where several are over each other. */
export function barsPath(edges: () => number[], alone: () => boolean): uPlot.Series.PathBuilder {
  return (u, index) => {
    const [stroke, fill] = [new Path2D(), new Path2D()];
    const places = edges().map((edge) => u.valToPos(edge, "x", true));
    const bottom = u.valToPos(0, "y", true);
    const counts = u.data[index] as (number | null)[];
    const gap = alone() ? Math.min(2, (places[1]! - places[0]!) * 0.1) : 0;
    if (!alone()) stroke.moveTo(places[0]!, bottom);
    counts.forEach((count, bin) => {
      const [left, right, top] = [places[bin]!, places[bin + 1]!, u.valToPos(count ?? 0, "y", true)];
      fill.rect(left + gap / 2, top, right - left - gap, bottom - top);
      if (alone()) return count ? stroke.rect(left + gap / 2, top, right - left - gap, bottom - top) : undefined;
      stroke.lineTo(left, top);
      stroke.lineTo(right, top);
    });
    if (!alone()) stroke.lineTo(places[places.length - 1]!, bottom);
    return { stroke, fill };
  };
}

/** A dashed line at the step that is shown beside the chart. */
export function drawMark(u: uPlot, at: number, color: string): void {
  const place = u.valToPos(at, "x", true);
  if (place < u.bbox.left || place > u.bbox.left + u.bbox.width) return;
  u.ctx.save();
  u.ctx.strokeStyle = color;
  u.ctx.lineWidth = 1.5 * devicePixelRatio;
  u.ctx.setLineDash([4, 3]);
  u.ctx.beginPath();
  u.ctx.moveTo(place, u.bbox.top);
  u.ctx.lineTo(place, u.bbox.top + u.bbox.height);
  u.ctx.stroke();
  u.ctx.restore();
}

/** Where there is one step only, the interval of each line's value, with a bar at both ends. */
export function drawIntervals(u: uPlot, lines: Line[]): void {
  const shown = lines.filter((line) => line.interval);
  shown.forEach((line, index) => {
    const end = 5 * devicePixelRatio;
    const across = u.valToPos(u.data[0][0]!, "x", true) + (index - (shown.length - 1) / 2) * 3 * end * (shown.length > 1 ? 1 : 0);
    const [low, high] = line.interval!.map((value) => u.valToPos(value, "y", true)) as [number, number];
    u.ctx.save();
    u.ctx.strokeStyle = line.color;
    u.ctx.lineWidth = 1.5 * devicePixelRatio;
    u.ctx.beginPath();
    for (const place of [low, high]) {
      u.ctx.moveTo(across - end, place);
      u.ctx.lineTo(across + end, place);
    }
    u.ctx.moveTo(across, low);
    u.ctx.lineTo(across, high);
    u.ctx.stroke();
    u.ctx.restore();
  });
}
