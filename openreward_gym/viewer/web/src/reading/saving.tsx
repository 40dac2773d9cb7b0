import { useEffect, useState } from "preact/hooks";
import { requestOf, shared } from "../api";
import { copyText, Menu } from "../components";
import { wholeRollout } from "../opened";
import { pythonOf } from "./python";
import { raw } from "./rollout";
import type { Opened } from "../types";

/** The rollout as it was recorded: the line of its file; in a shared file the same as JSON. */
async function lineOf({ run, rollout }: Opened): Promise<string> {
  if (shared) return JSON.stringify(rollout);
  const answer = await fetch(`api/${requestOf("line", { run, id: rollout.id })}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`The server answered with status ${answer.status}.`);
  return answer.text();
}

function save(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fileName(id: string): string {
  return `${id.replace(/[^\w.-]+/g, "_").slice(0, 80) || "rollout"}.json`;
}

/** Show all of the sample: sections, folded texts, texts that were cut. */
function openAll(): void {
  const article = document.querySelector(".sample");
  for (const details of article?.querySelectorAll<HTMLDetailsElement>(".section details:not([open])") ?? []) details.open = true;
  for (const button of article?.querySelectorAll<HTMLButtonElement>(".section button") ?? []) if (/^Show all/.test(button.textContent ?? "")) button.click();
}

/** What can be done with a sample: copies, a download, print. */
export function Saving({ opened, expand }: { opened: Opened; expand: () => void }) {
  const [status, setStatus] = useState("");
  useEffect(() => {
    // Also for a print that the browser's own menu starts.
    const prepare = () => { expand(); openAll(); };
    window.addEventListener("beforeprint", prepare);
    return () => window.removeEventListener("beforeprint", prepare);
  }, [expand]);
  const act = (action: () => Promise<string> | string) => async (event: Event) => {
    ((event.currentTarget as HTMLElement).closest("details") as HTMLDetailsElement).open = false;
    const said = await Promise.resolve().then(action).catch((error: Error) => error.message);
    setStatus(said);
    if (said) window.setTimeout(() => setStatus(""), 2000);
  };
  const copy = (text: () => Promise<string> | string) => act(async () => ((await copyText(await text())) ? "Copied" : "Not copied"));
  const { rollout } = opened;
  return (
    <Menu label={<span aria-live="polite">{status || "Copy / save"}</span>}>
      <button type="button" onClick={copy(async () => raw(await wholeRollout(opened)))}>Copy as text</button>
      <button type="button" onClick={copy(async () => pythonOf(await wholeRollout(opened)))}>Copy as Python</button>
      <button type="button" onClick={copy(() => lineOf(opened))}>Copy as JSON</button>
      <button type="button" onClick={copy(() => location.href)}>Copy link</button>
      <button type="button" onClick={act(async () => { save(await lineOf(opened), fileName(rollout.id)); return "Saved"; })}>Download JSON</button>
      <button type="button" onClick={act(() => { expand(); window.setTimeout(() => { openAll(); window.setTimeout(() => window.print(), 50); }, 50); return ""; })}>Print</button>
    </Menu>
  );
}
