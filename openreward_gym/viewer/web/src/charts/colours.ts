import { useEffect, useState } from "preact/hooks";
import { theme } from "../settings";

/** The colours of runs, by their place in the address: 3:1 or more against the light and the dark paper, apart for colour-blind readers. */
export const COLOURS = ["#1a76c4", "#d55e00", "#06956c", "#c2609a", "#b07d00", "#2a93c9", "#7d66d6", "#768a2a", "#c94b4b", "#937052"];

/** The dashes of the same lines, so that no line is told by its colour alone. */
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [14, 4], [5, 2], [10, 3, 2, 3, 2, 3], [3, 6], [16, 3, 4, 3], [6, 6]];

export const MAX_RUNS = 10;

export interface Style { color: string; dash: number[] }

/** The style of the line at a place among the lines of a chart. */
export function styleOf(place: number): Style {
  return { color: COLOURS[place % COLOURS.length]!, dash: DASHES[place % DASHES.length]! };
}

export const DISCARDED_DASH = [3, 3];

/** Whether the page is dark now; canvases have to be drawn again when it changes. */
export function useDark(): boolean {
  const [dark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const change = () => setDark(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  return theme.value === "auto" ? dark : theme.value === "dark";
}
