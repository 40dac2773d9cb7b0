import { useEffect, useRef } from "preact/hooks";

const FRAMES = 60;

/** After a move to another place, give the focus to the page's content if what had it is gone, so that no key is lost. */
export function useKeptFocus(place: string): void {
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    let frame = 0;
    // The content may be there a little later, and may then take the focus itself.
    const look = (left: number) => {
      const lost = document.activeElement === document.body || document.activeElement === null;
      if (lost && left < FRAMES - 2) document.querySelector<HTMLElement>("#content, main, [role=main]")?.focus({ preventScroll: true });
      if (left > 0) frame = requestAnimationFrame(() => look(left - 1));
    };
    look(FRAMES);
    return () => cancelAnimationFrame(frame);
  }, [place]);
}
