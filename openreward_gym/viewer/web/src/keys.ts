import { useLayoutEffect } from "preact/hooks";
import { address, at, go } from "./address";
import { move } from "./reading/moving";
import { searchPageOf } from "./searching/results";
import { theme } from "./settings";

function press(...names: string[]): boolean {
  const button = names.map((name) => document.querySelector<HTMLButtonElement>(`button[aria-label="${name}"]:not(:disabled)`)).find(Boolean);
  button?.click();
  return button !== undefined && button !== null;
}

/** Whether the hits of a search are open, which `n` and `N` then go through. */
function hitsOpen(): boolean {
  return document.querySelector('button[aria-label="Next hit"]') !== null;
}

function switchTheme(): void {
  const dark = theme.value === "dark" || (theme.value === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  theme.value = dark ? "light" : "dark";
}

function search(): void {
  go(searchPageOf());
  // A browser heeds `autofocus` only until the first element of the page has had the focus.
  const focus = (frames: number) => {
    const box = document.querySelector<HTMLElement>("main input[type=search]");
    if (box) box.focus();
    else if (frames > 0) requestAnimationFrame(() => focus(frames - 1));
  };
  requestAnimationFrame(() => focus(30));
}

function leave(): void {
  if (!document.querySelector(".chart.full") && address.value.sample) go(at({ sample: undefined, view: undefined, message: undefined }));
}

const ACTIONS: Record<string, () => void> = {
  j: () => move("section", 1), k: () => move("section", -1),
  n: () => (hitsOpen() ? void press("Next hit") : move("turn", 1)), N: () => void press("Previous hit"), p: () => move("turn", -1),
  e: () => move("error", 1), E: () => move("error", -1), r: () => move("reward", 1), R: () => move("reward", -1),
  ArrowLeft: () => void press("Previous sample"), ArrowRight: () => void press("Next sample"), "[": () => void press("Previous step"), "]": () => void press("Next step"),
  s: () => void press("Hide samples", "Show samples"), m: () => void press("Hide metrics", "Show metrics"), t: switchTheme,
  f: () => document.querySelector<HTMLElement>(".sidebar .filter input")?.focus(),
  l: () => document.querySelector<HTMLElement>(".sample .labels textarea")?.focus(),
  "/": search,
  Escape: leave,
};

/** The keys of the page. They do nothing while text is typed, a dialog or a menu is open. */
export function useKeys(help: () => void): void {
  useLayoutEffect(() => {
    const act = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.defaultPrevented || document.querySelector("dialog[open]") || (event.key === "Escape" && document.querySelector("details.menu[open]"))) return;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
      const rate = /^[0-5]$/.test(event.key) ? () => document.dispatchEvent(new CustomEvent("rate", { detail: Number(event.key) })) : undefined;
      const action = rate ?? (event.key === "?" ? help : ACTIONS[event.key]);
      if (!action) return;
      if (event.key !== "Escape") event.preventDefault();
      action();
    };
    document.addEventListener("keydown", act);
    return () => document.removeEventListener("keydown", act);
  }, []);
}
