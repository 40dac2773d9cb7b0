import type { ComponentChildren } from "preact";
import { markOf, split } from "./invisible";

/** A recorded text for use in any element: invisible characters are marks, and nothing reorders the text around it. */
export function marked(text: string): ComponentChildren {
  const parts = split(text);
  if (parts.length === 1) return text;
  return parts.map((part, index) => {
    if (index % 2 === 0) return part;
    const about = markOf(part, parts[index + 1]!);
    return <span key={index} class={about.class} data-mark={about.name} title={about.title}>{part}</span>;
  });
}

/** A recorded name, title or short text, as it is stored. */
export function Literal({ text, class: name }: { text: string | null | undefined; class?: string }) {
  return <bdi class={name}>{marked(text ?? "")}</bdi>;
}

/** The error of a rollout: a traceback keeps its lines. */
export function ErrorText({ text }: { text: string }) {
  return <pre class="problem trace" tabIndex={0} data-message="-1" aria-label="Error">{marked(text)}</pre>;
}
