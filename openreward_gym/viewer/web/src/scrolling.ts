// Scrolling to a place whose position is not final: what is above it is laid out when it comes into view.

const FRAMES = 30;
const STILL = 4;
/** Pixels by which a place may be off. */
export const TOLERANCE = 2;

let end = () => {};
let settling = false;

/** Whether the scrolling that was begun has not come to its place yet. */
export function isSettling(): boolean {
  return settling;
}

/** End the scrolling that `settle` began. */
export function stopScrolling(): void {
  end();
}

/**
 * Call `correct`, which scrolls and returns by how many pixels it did, in every frame until the place stays, or until the
 * reader scrolls `box`. It ends the scrolling that was begun before.
 */
export function settle(box: HTMLElement, correct: () => number): void {
  end();
  const stop = new AbortController();
  settling = true;
  stop.signal.addEventListener("abort", () => { settling = false; });
  let [frame, still] = [0, 0];
  end = () => {
    cancelAnimationFrame(frame);
    stop.abort();
  };
  // From the next frame on: the key that began the scrolling may still be on its way to the box.
  requestAnimationFrame(() => {
    if (!stop.signal.aborted) for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) box.addEventListener(kind, end, { signal: stop.signal, passive: true });
  });
  const step = (frames: number) => {
    still = Math.abs(correct()) <= TOLERANCE ? still + 1 : 0;
    if (frames > 0 && still < STILL) frame = requestAnimationFrame(() => step(frames - 1));
    else stop.abort();
  };
  step(FRAMES);
}
