import { useState } from "preact/hooks";
import { post, useRequest } from "../api";
import { author } from "../settings";
import { Copy, Link, Menu } from "../components";
import { clearSelection, selection } from "./selection";
import type { Run } from "../types";

interface Extensions { lens: [string, string][]; replay: string | null; export?: boolean }

/** What can be done with the selected rollouts. */
export function SelectionBar({ run, runKey, shared }: { run: Run | undefined; runKey: string; shared: boolean }) {
  const { run: owner, ids } = selection.value;
  if (owner !== runKey || !ids.size) return null;
  const two = [...ids].slice(0, 2);
  const side = (id: string) => `${encodeURIComponent(runKey.toWellFormed())}/${encodeURIComponent(id.toWellFormed())}`;
  return (
    <section class="chosen-bar" aria-label="Selected samples">
      <span class="line"><b>{ids.size.toLocaleString("en")} selected</b><span class="space" /><button type="button" class="quiet" onClick={clearSelection}>Clear</button></span>
      <span class="line">
        {!shared && <Menu label="Label…"><LabelForm /></Menu>}
        {!shared && <Menu label="Export…"><ExportForm run={run} /></Menu>}
        <Copy text={() => [...ids].join("\n")} label="Copy ids" />
        {ids.size === 2 && <Link to={{ page: "pair", run: runKey, left: side(two[0]!), right: side(two[1]!) }} class="button">Compare two</Link>}
        {!shared && <ShareButton />}
      </span>
    </section>
  );
}

/** The selection as a request names it: as a list where all of one were selected at once. */
function bodyOf(): Record<string, unknown> {
  const { run, ids, query } = selection.value;
  return query ? { run, list: { step: query.step === "" ? null : query.step, every: query.every === true, discarded: query.discarded, filter: query.filter } } : { run, rollouts: [...ids] };
}

/** Runs an action and says how it went. */
function useAction(): [string, boolean, (action: () => Promise<string>) => Promise<void>] {
  const [[said, failed], say] = useState<[string, boolean]>(["", false]);
  const act = async (action: () => Promise<string>) => {
    say(["Working…", false]);
    try {
      say([await action(), false]);
    } catch (error) {
      say([error instanceof Error ? error.message : String(error), true]);
    }
  };
  return [said, failed, act];
}

function Outcome({ said, failed }: { said: string; failed: boolean }) {
  return said ? <p class={failed ? "problem" : "notice"} role={failed ? "alert" : "status"}>{said}</p> : null;
}

function LabelForm() {
  const [rating, setRating] = useState<number | null>(null);
  const [tags, setTags] = useState("");
  const [said, failed, act] = useAction();
  const add = tags.split(",").map((tag) => tag.trim()).filter(Boolean);
  const apply = () => act(async () => {
    const { labelled } = await post<{ labelled: number }>("labels", { ...bodyOf(), set: rating === null ? {} : { rating: rating || null }, add, author: author.value.trim() });
    return `${labelled.toLocaleString("en")} ${labelled === 1 ? "rollout" : "rollouts"} labelled.`;
  });
  return (
    <form class="form" aria-label="Label the selected samples" onSubmit={(event) => { event.preventDefault(); if (rating !== null || add.length) void apply(); }}>
      <label>Rating <select value={rating === null ? "" : String(rating)} onChange={(event) => setRating(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))}>
        <option value="">leave as it is</option>{[1, 2, 3, 4, 5].map((one) => <option key={one} value={String(one)}>{one}</option>)}<option value="0">remove</option>
      </select></label>
      <label>Add tags <input type="text" placeholder="good, short" value={tags} onInput={(event) => setTags(event.currentTarget.value)} /></label>
      <button type="submit" disabled={rating === null && !add.length}>Label {selection.value.ids.size.toLocaleString("en")}</button>
      <Outcome said={said} failed={failed} />
    </form>
  );
}

function quoted(text: string): string {
  return /^[\w./:@=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that exports the selection, and the file of ids that it reads; null where a filter says the same. */
export function exportCommand(folder: string, format: string): { command: string; file: string | null } {
  const { query, ids } = selection.value;
  const start = `openreward-gym export ${quoted(folder)} --format ${format}`;
  if (!query) return { command: `${start} --ids ids.txt`, file: `${[...ids].join("\n")}\n` };
  const filter = String(query.filter || "");
  const parts = [filter && `(${filter})`, query.every ? "" : query.step === "" ? "step == none" : `step == ${query.step}`, `discarded == ${query.discarded ? "true" : "false"}`];
  return { command: `${start} --filter ${quoted(parts.filter(Boolean).join(" and "))}`, file: null };
}

function ExportForm({ run }: { run: Run | undefined }) {
  const { value } = useRequest<Extensions>("extensions", {}, false);
  const [format, setFormat] = useState("sft");
  const [said, failed, act] = useAction();
  const formats = value?.lens ?? [];
  const { command, file } = exportCommand(run?.folder ?? "RUN", format);
  const start = () => act(async () => {
    const answer = await post<{ folder: string; report: string }>("export", { ...bodyOf(), format });
    return `Written to ${answer.folder}\n${answer.report}`;
  });
  return (
    <div class="form" role="group" aria-label="Export the selected samples">
      <label>Format <select value={format} onChange={(event) => setFormat(event.currentTarget.value)}>{(formats.length ? formats : [["sft", ""]]).map(([name]) => <option key={name} value={name}>{name}</option>)}</select></label>
      {formats.find(([name]) => name === format)?.[1] && <p class="note">{formats.find(([name]) => name === format)![1]}</p>}
      <pre class="command" tabIndex={0} aria-label="Command">{command}</pre>
      <span class="line">
        <Copy text={() => command} label="Copy the command" />
        {file && <button type="button" class="quiet" onClick={() => download("ids.txt", new Blob([file], { type: "text/plain" }))}>Download ids.txt</button>}
        {value?.export && <button type="button" title="Writes the folder export in the run's folder; an earlier export of this format is replaced" onClick={() => void start()}>Run it</button>}
      </span>
      <Outcome said={said} failed={failed} />
    </div>
  );
}

function ShareButton() {
  const [said, failed, act] = useAction();
  const save = () => act(async () => {
    const answer = await fetch("api/share", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(bodyOf()) });
    if (!answer.ok) throw new Error(String((await answer.json().catch(() => null))?.error ?? `The server answered with status ${answer.status}.`));
    download(`${selection.value.run.replace(/[^\w.-]+/g, "-")}-${selection.value.ids.size}.html`, await answer.blob());
    return "Saved.";
  });
  return <><button type="button" class="quiet" title="One HTML file with these samples, which opens without a server" onClick={() => void save()}>Save as HTML</button><Outcome said={said} failed={failed} /></>;
}

function download(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
