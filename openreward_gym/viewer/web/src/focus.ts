import { useEffect } from "preact/hooks";

/** What had the focus last. */
let last: Element | null = null;
document.addEventListener("focusin", (event) => { last = event.target as Element; });

const FRAMES = 60;

/** After a move to another place, give the focus to the page's content if what had it is gone, so that no key is lost. */
export function useKeptFocus(place: string): void {
  useEffect(() => {
    let frame = 0;
    // What had the focus may go, and the content may come, a little later.
    const look = (left: number) => {
      if (document.activeElement === document.body && last && !last.isConnected) document.querySelector<HTMLElement>("#content, main, [role=main]")?.focus({ preventScroll: true });
      if (left > 0) frame = requestAnimationFrame(() => look(left - 1));
    };
    look(FRAMES);
    return () => cancelAnimationFrame(frame);
  }, [place]);
}
