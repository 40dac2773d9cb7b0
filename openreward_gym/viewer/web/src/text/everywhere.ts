// Recorded names, prompts and values stand all over the page: in lists, heads of columns, links and hints. Preact tells of
// every element that it makes, so that invisible characters are marked wherever a text is written.

import { Fragment, h, options, type VNode } from "preact";
import { hasInvisible, markOf, nameOf, split } from "./invisible";

/** Elements whose content is not drawn as elements. */
const PLAIN = new Set(["option", "title", "style", "script", "textarea", "text", "tspan"]);
const HINTS = ["title", "aria-label", "aria-description", "label"];

/** A text with the names of its invisible characters in their places: for hints and the tab's title, which have no marks. */
export function spelled(text: string): string {
  if (!hasInvisible(text)) return text;
  return split(text).map((part, index) => (index % 2 ? `[${nameOf(part)}]` : part)).join("");
}

function withMarks(child: unknown): unknown {
  if (typeof child === "string") {
    if (!hasInvisible(child)) return child;
    const parts = split(child);
    const nodes = parts.map((part, index) => {
      if (index % 2 === 0) return part;
      const about = markOf(part, parts[index + 1]!);
      return h("span", { class: about.class, "data-mark": about.name, title: about.title }, part);
    });
    return h(Fragment, null, ...nodes);
  }
  if (!Array.isArray(child)) return child;
  const marked = child.map(withMarks);
  return marked.some((one, index) => one !== child[index]) ? marked : child;
}

function mark(vnode: VNode): void {
  const props = vnode.props as Record<string, unknown>;
  for (const name of HINTS) {
    const hint = props[name];
    if (typeof hint === "string") props[name] = spelled(hint);
  }
  const kind = String(props.class ?? "");
  if (/(^| )invisible( |$)/.test(kind) || props.children === undefined) return;
  if (!PLAIN.has(vnode.type as string)) props.children = withMarks(props.children);
  else if (vnode.type === "option" && props.value !== undefined && typeof props.children === "string") props.children = spelled(props.children);
}

/** Mark invisible characters in every element that is made from now on. */
export function markEverywhere(): void {
  const before = options.vnode;
  options.vnode = (vnode) => {
    if (typeof vnode.type === "string") mark(vnode);
    before?.(vnode);
  };
}
