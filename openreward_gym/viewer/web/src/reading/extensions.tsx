import { useState } from "preact/hooks";
import { address, at, go } from "../address";
import { Json, Picture } from "../text/blocks";
import { post, useRequest } from "../api";
import { shown } from "../numbers";
import { Copy, Problem } from "../components";
import { wholeRollout } from "../opened";
import { pythonOf } from "./python";
import type { Num, Opened } from "../types";

export interface Extensions { lens: [string, string][]; replay: string | null; tokens?: boolean }

interface Span { column: string; role: string | null; text: string; use: "trained" | "rejected" | "context" }
interface LensResult { rows: { row: unknown; spans: Span[] }[]; dropped: string | null; findings: string[]; compared: number }

const USES: Record<Span["use"], string> = { trained: "trained", rejected: "trained against", context: "read, not trained" };

/** The export lens: the rows that an export makes from the rollout and the text in them that is trained, or why it is left out. */
export function Lens({ opened, formats }: { opened: Opened; formats: [string, string][] }) {
  const format = address.value.format ?? formats[0]?.[0] ?? "";
  const { value, error } = useRequest<LensResult>(format ? "lens" : null, { run: opened.run, id: opened.rollout.id, format }, false);
  const spans = value?.rows.some((row) => row.spans.length);
  return (
    <section class="section lens" aria-label="Export lens">
      <header>
        <h2>As training data</h2>
        <label>Format <select value={format} onChange={(event) => go(at({ format: event.currentTarget.value }), true)}>{formats.map(([name]) => <option key={name}>{name}</option>)}</select></label>
        <span class="tokens wraps">{formats.find(([name]) => name === format)?.[1]}</span>
      </header>
      <div class="inside">
        <Problem error={error} />
        {!value && !error && <p class="none">Exporting…</p>}
        {value?.dropped && <p class="problem">Left out: {value.dropped}.</p>}
        {spans && <p class="legend">{(["trained", "rejected", "context"] as const).map((use) => <span key={use} class={`use ${use}`}>{USES[use]}</span>)}</p>}
        {value && value.compared > 0 && <p class="note">Made with {value.compared} other rollouts of its group; in an export of the whole run, others may be chosen.</p>}
        {value && value.findings.length > 0 && <details class="note"><summary>Remarks of the export</summary><ul>{value.findings.map((finding) => <li key={finding}>{finding}</li>)}</ul></details>}
        {value?.rows.map((row, index) => (
          <div class="made" key={index}>
            {value.rows.length > 1 && <h3>Row {index + 1} of {value.rows.length}</h3>}
            {row.spans.map((span, number) => (
              <div class={`span ${span.use}`} key={number}>
                <span class="kind">{span.column === row.spans[number - 1]?.column ? "" : `${span.column}: `}{span.role} · {USES[span.use]}</span>
                <pre class="raw" dir="auto">{span.text.slice(0, 20_000)}</pre>
              </div>
            ))}
            <details open={!row.spans.length}><summary>The row as JSON</summary><Json text={JSON.stringify(row.row)} /></details>
          </div>
        ))}
      </div>
    </section>
  );
}

interface ImageFacts { mime_type: string; bytes: number | null; width: number | null; height: number | null; data: string | null }
interface ImagePair { recorded: ImageFacts | null; now: ImageFacts | null; same: boolean }
interface ReplayedCall {
  turn: number; name: string; arguments: unknown; recorded: string; now: string | null; images: ImagePair[]; recorded_reward: Num; now_reward: Num;
  recorded_finished: boolean; now_finished: boolean; same: boolean;
}
interface ReplayResult { prompt: { recorded: string; now: string; images: ImagePair[]; same: boolean }; calls: ReplayedCall[]; error: string | null; same: boolean }

/** The replay check: the calls made again, and the differences. */
export function Replay({ opened, server }: { opened: Opened; server: string | null }) {
  const [answer, setAnswer] = useState<ReplayResult | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    setError(null);
    try {
      setAnswer(await post<ReplayResult>("replay", { run: opened.run, id: opened.rollout.id }));
    } catch (problem) {
      setAnswer(null);
      setError(problem as Error);
    }
    setBusy(false);
  };
  const differing = answer?.calls.filter((call) => !call.same).length ?? 0;
  return (
    <section class="section replay" aria-label="Replay check">
      <header><h2>Replay check</h2><span class="space" /><Copy text={async () => pythonOf(await wholeRollout(opened))} label="Copy as Python" /></header>
      <div class="inside">
        {server === null ? <p class="note">To make the calls of this rollout again and compare, start the viewer with the URL of its environment server: <code>openreward-gym view … --replay URL</code></p> : (
          <p class="line"><button type="button" disabled={busy} onClick={run}>{busy ? "Making the calls…" : "Make the calls again"}</button><span class="note">in a new session at {server}</span></p>
        )}
        <Problem error={error} />
        {answer && (
          <div aria-live="polite">
            <p class={answer.same ? "verdict same" : "verdict"} role="status">{answer.same ? "Everything is as it was recorded." : answer.error ? `It ended early: ${answer.error}` : `${differing ? `${differing} of ${answer.calls.length} calls ${differing === 1 ? "differs" : "differ"}` : "All calls are the same"}${answer.prompt.same ? "" : "; the prompt differs"}.`}</p>
            {!answer.prompt.same && <Pair name="Prompt" before={answer.prompt.recorded} now={answer.prompt.now} images={answer.prompt.images} />}
            {answer.calls.map((call, index) => (
              <Pair key={index} name={`Turn ${call.turn}: ${call.name}`} request={typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments)} before={call.recorded} now={call.now} images={call.images} same={call.same}
                about={[call.recorded_reward, call.now_reward].some((reward) => reward !== null) ? `reward ${shown(call.recorded_reward)} → ${shown(call.now_reward)}` : ""} />
            ))}
          </div>
        )}
      </div>
    </section>
  );
}

/** An image's type and size, as far as they are known. */
export function sizeOf({ mime_type, bytes, width, height }: ImageFacts): string {
  const pixels = width === null || height === null ? "" : `${width.toLocaleString("en")} × ${height.toLocaleString("en")} pixels, `;
  return `${mime_type}, ${pixels}${bytes === null ? "of unknown size" : bytes === 1 ? "1 byte" : `${bytes.toLocaleString("en")} bytes`}`;
}

function ImagePair({ recorded, now, same }: ImagePair) {
  const verdict = same ? "the same image" : !recorded ? "an image that was not recorded" : !now ? "the recorded image is missing" : "a different image";
  const side = (name: string, image: ImageFacts | null) => (
    <div><span class="kind">{name}</span><p class="none">{image ? sizeOf(image) : "No image."}</p>{image?.data && <Picture block={{ type: "image", mimeType: image.mime_type, data: image.data }} run="" />}</div>
  );
  return (
    <div class="image-pair">
      <p><span class={same ? "note" : "badge"}>{verdict}</span>{same && recorded && <span class="note">: {sizeOf(now?.bytes != null ? now : recorded)}</span>}</p>
      {!same && <div class="two">{side("Recorded", recorded)}{side("Now", now)}</div>}
    </div>
  );
}

function Pair({ name, request, before, now, images, same = false, about = "" }: { name: string; request?: string; before: string; now: string | null; images: ImagePair[]; same?: boolean; about?: string }) {
  return (
    <details class={`pair-of ${same ? "same" : "differs"}`} open={!same}>
      <summary><b dir="auto">{name}</b> <span class={now === null || same ? "note" : "badge"}>{now === null ? "not sent" : same ? "same" : "differs"}</span> {about && <span class="note">{about}</span>}</summary>
      {request && request !== "null" && <pre class="raw request" dir="auto">{request}</pre>}
      <div class="two">
        <div><span class="kind">Recorded</span><pre class="raw" dir="auto">{before}</pre></div>
        <div><span class="kind">Now</span><pre class="raw" dir="auto">{now ?? "The arguments were not a JSON object, so no tool was called."}</pre></div>
      </div>
      {images.map((pair, index) => <ImagePair key={index} {...pair} />)}
    </details>
  );
}
