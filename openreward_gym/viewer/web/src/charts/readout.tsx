import { useLayoutEffect, useRef } from "preact/hooks";
import type { Style } from "./colours";
import type { Reading } from "./drawing";

/** A short piece of a series' line, with its colour and dashes. */
export function Swatch({ color, dash }: Style) {
  return <svg class="swatch" width="18" height="8" aria-hidden="true"><line x1="0" y1="4" x2="18" y2="4" stroke={color} stroke-width="2.5" stroke-dasharray={dash.length ? dash.map((length) => length / 1.6).join(" ") : undefined} /></svg>;
}

/** The values at one place of a chart, beside it. */
export function Readout({ reading, left }: { reading: Reading; left: number }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const node = box.current!;
    const [own, whole] = [node.offsetWidth, node.parentElement!.clientWidth];
    const place = left + 12 + own <= whole ? left + 12 : left - 12 - own;
    node.style.top = "";
    if (node.getBoundingClientRect().bottom > window.innerHeight - 4) node.style.top = `${-node.offsetHeight - 4}px`; // above the chart
    node.style.left = `${Math.max(0, Math.min(whole - own, place))}px`;
  });
  return (
    <div class="readout" ref={box}>
      <b>{reading.place}</b>
      <table><tbody>
        {reading.rows.map((row) => <tr key={row.label}><th scope="row" dir="auto"><Swatch {...row} /> {row.label}</th><td>{row.value}</td><td class="about">{row.about}</td></tr>)}
      </tbody></table>
    </div>
  );
}
