import { Component, type ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Address, formatAddress } from "./address";
import { exactly, shade, shown, three } from "./numbers";
import type { Num } from "./types";

export function Link({ to, children, class: name, title, current }: { to: Address; children: ComponentChildren; class?: string; title?: string; current?: boolean }) {
  return (
    <a href={formatAddress(to)} class={name} title={title} aria-current={current ? "page" : undefined}>
      {children}
    </a>
  );
}

/** A dot and its number, with all digits in a tooltip. */
export function Dot({ value, good, name, digits }: { value: Num | undefined; good: number | null; name: string; digits?: number }) {
  return (
    <span class="dot" title={`${name}: ${exactly(value)}`}>
      <i class={shade(good)} aria-hidden="true" />
      <span>{shown(value, digits ?? 2)}</span>
    </span>
  );
}

export function Reward({ value, good, label }: { value: Num | undefined; good: number | null; label: string }) {
  return (
    <span class={`reward ${shade(good)}`} title={`${label}: ${exactly(value)}`}>
      {label} <b>{/^(reward|mean|mean reward|advantage|)$/i.test(label) ? three(value) : shown(value)}</b>
    </span>
  );
}

/** Copy a text to the clipboard; the answer is whether that worked. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function Copy({ text, label = "Copy" }: { text: () => string | Promise<string>; label?: string }) {
  const [status, setStatus] = useState("");
  const copy = async () => {
    setStatus((await copyText(await text())) ? "Copied" : "Not copied");
    window.setTimeout(() => setStatus(""), 1500);
  };
  return (
    <button type="button" class="quiet" onClick={copy} aria-live="polite">
      {status || label}
    </button>
  );
}

/** A menu that opens below its button and closes on Escape or a click elsewhere. */
export function Menu({ label, children, name }: { label: ComponentChildren; children: ComponentChildren; name?: string }) {
  const box = useRef<HTMLDetailsElement>(null);
  // Positioned relative to the window, because scrolling columns would clip it.
  const place = () => {
    const menu = box.current;
    const drop = menu?.querySelector<HTMLElement>(".drop");
    if (!menu?.open || !drop) return;
    const under = menu.getBoundingClientRect();
    const { width, height } = drop.getBoundingClientRect();
    drop.style.left = `${Math.max(8, Math.min(under.left, window.innerWidth - width - 8))}px`;
    drop.style.top = `${Math.max(8, Math.min(under.bottom + 4, window.innerHeight - height - 8))}px`;
  };
  useEffect(() => {
    const close = (event: Event) => {
      const menu = box.current;
      if (!menu?.open) return;
      if (event instanceof KeyboardEvent ? event.key === "Escape" : !event.composedPath().includes(menu)) { // also if the click removed what was clicked
        menu.open = false;
        if (event instanceof KeyboardEvent) {
          event.preventDefault(); // one Escape closes one layer
          menu.querySelector("summary")?.focus();
        }
      }
    };
    document.addEventListener("scroll", place, { capture: true, passive: true });
    document.addEventListener("click", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("scroll", place, { capture: true });
      document.removeEventListener("click", close);
      document.removeEventListener("keydown", close);
    };
  }, []);
  return (
    <details class="menu" ref={box} onToggle={place}>
      <summary aria-label={name}>{label}</summary>
      <div class="drop">{children}</div>
    </details>
  );
}

export function Check({ label, on, change }: { label: string; on: boolean; change: (on: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={on} onChange={(event) => change(event.currentTarget.checked)} /> {label}
    </label>
  );
}

export function Problem({ error }: { error: Error | null }) {
  return error ? <p class="problem" role="alert">{error.message}</p> : null;
}

/** An error boundary: a page that cannot be drawn shows the error. Another `place` resets it. */
export class Guarded extends Component<{ children: ComponentChildren; place: string }, { error: Error | null }> {
  override state = { error: null };

  override componentDidUpdate(before: { place: string }) {
    if (before.place !== this.props.place && this.state.error) this.setState({ error: null });
  }

  override componentDidCatch(error: Error) {
    console.error(error);
    this.setState({ error });
  }

  override render() {
    const { error } = this.state as { error: Error | null };
    return error ? <main id="content" tabIndex={-1} class="page"><Problem error={new Error(`This could not be drawn: ${error.message}`)} /></main> : this.props.children;
  }
}
