import { signal } from "@preact/signals";
import { isSettling, settle, TOLERANCE } from "../scrolling";

// Moving within a rollout: jumps to sections, errors and rewards, and the turn that is being read.

/** The index of the section at the upper edge; -1 above the first. */
export const currentSection = signal(-1);

export type Target = "section" | "turn" | "error" | "reward";

const SELECTORS: Record<Target, string> = {
  section: ":scope > .section[id]", turn: ":scope > .section[data-turn]", error: "[data-error]", reward: "[data-reward]",
};

function boxOf(node: Element): HTMLElement | null {
  return node.closest<HTMLElement>(".middle");
}

function sample(): HTMLElement | null {
  return document.querySelector<HTMLElement>(".middle .sample");
}

/** Where the text below the bar begins, in the window. */
function edge(article: HTMLElement): number {
  const bar = article.querySelector(".samplebar");
  const box = boxOf(article);
  return bar && box ? box.getBoundingClientRect().top + barTop(bar) + bar.getBoundingClientRect().height : 0;
}

function barTop(bar: Element): number {
  return Number.parseFloat(getComputedStyle(bar).top) || 0;
}

/**
 * Scroll so that `node` is directly below the bar. Sections have estimated heights until they are visible, so the position is
 * corrected in the next frames, until it stays or the reader scrolls.
 */
export function jumpTo(node: HTMLElement): void {
  const article = node.closest<HTMLElement>(".sample");
  const box = boxOf(node);
  if (!article || !box) return;
  for (let folded = node.closest<HTMLDetailsElement>("details:not([open])"); folded; folded = folded.parentElement?.closest<HTMLDetailsElement>("details:not([open])") ?? null) folded.open = true;
  settle(box, () => place(article, box, node));
  const target = node.closest<HTMLElement>("[tabindex]") ?? node;
  target.focus({ preventScroll: true });
}

/** One correction; the answer is how far the node was from its place. Room is made below the end where there is too little. */
function place(article: HTMLElement, box: HTMLElement, node: HTMLElement): number {
  const off = node.getBoundingClientRect().top - edge(article);
  const wanted = box.scrollTop + off;
  const missing = wanted - (box.scrollHeight - box.clientHeight);
  if (missing > 0) article.style.paddingBottom = `${Math.ceil(Number.parseFloat(article.style.paddingBottom || "0") + missing)}px`;
  if (Math.abs(off) > 0.5) box.scrollTop = wanted;
  return off;
}

/** The targets of one kind, in their order. What is inside a folded section is represented by the section. */
function targets(kind: Target): HTMLElement[] {
  return [...(sample()?.querySelectorAll<HTMLElement>(SELECTORS[kind]) ?? [])];
}

/** Go to the next (1) or previous (-1) target of a kind, counted from the upper edge; with `around` the first follows the last. */
export function move(kind: Target, by: 1 | -1, around = false): void {
  const article = sample();
  if (!article) return;
  const line = edge(article);
  const all = targets(kind);
  const top = (node: HTMLElement) => node.getBoundingClientRect().top - line;
  // A jump may still be settling: what it aims at is where the reader is.
  const now = all.findIndex((node) => Math.abs(top(node)) <= TOLERANCE + 1);
  const found = now >= 0 ? all[now + by] : by > 0 ? all.find((node) => top(node) > 0) : all.findLast((node) => top(node) < 0);
  const goal = found ?? (around ? all.at(by > 0 ? 0 : -1) : undefined);
  if (goal) jumpTo(goal);
}

let aim = -1;

/** The index of the section that a jump aims at, or else the one that is being read. */
export function sectionAimedAt(): number {
  return isSettling() && aim >= 0 ? aim : currentSection.value;
}

/** Go to the section of that index. */
export function jumpToSection(index: number): void {
  aim = index;
  const node = sample()?.querySelector<HTMLElement>(`#section-${index}`);
  if (node) jumpTo(node);
}

/** Keep `currentSection` while the reader scrolls; the answer ends it. */
export function follow(article: HTMLElement): () => void {
  const box = boxOf(article);
  if (!box) return () => {};
  let frame = 0;
  const look = () => {
    frame = 0;
    const all = [...article.querySelectorAll<HTMLElement>(SELECTORS.section)];
    const line = edge(article) + 8;
    let [low, high] = [0, all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (all[middle]!.getBoundingClientRect().top <= line) low = middle + 1;
      else high = middle;
    }
    currentSection.value = low - 1;
  };
  const later = () => { frame ||= requestAnimationFrame(look); };
  box.addEventListener("scroll", later, { passive: true });
  later();
  return () => {
    box.removeEventListener("scroll", later);
    cancelAnimationFrame(frame);
  };
}
