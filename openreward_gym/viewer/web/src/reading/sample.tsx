import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address } from "../address";
import { shared, useRequest } from "../api";
import { Copy, Problem } from "../components";
import { useHits } from "../searching/marking";
import { render } from "../settings";
import { isPartial, type OpenedState, useOpened, wholeRollout } from "../opened";
import { marked } from "../text/blocks";
import { useOpenedName } from "../title";
import { Bar } from "./bar";
import { End, Golden } from "./ending";
import { type Extensions, Lens, Replay } from "./extensions";
import { Crumbs, Facts, Headline } from "./head";
import { Labelled } from "./labelled";
import { Labels } from "./labels";
import { useTokens } from "./lefttokens";
import { follow, jumpTo } from "./moving";
import { stopsOf } from "./outline";
import { rangeOf } from "./ranges";
import { raw, type Section, sectionOf, sections } from "./rollout";
import { driftsOf, tokensRecorded } from "./sampled";
import { timelineOf } from "./timeline";
import { Timing } from "./timing";
import { TokensLegend } from "./tokens";
import { SectionView } from "./turn";
import { headlineOf, tabNameOf } from "./words";
import type { Card, Opened, Rollout, Run } from "../types";

export { rangeOf };

/** One rollout. `siblings` are the samples of its group. */
export function Sample({ run, id, siblings }: { run: Run | undefined; id: string; siblings: Card[] }) {
  const key = address.value.run ?? "";
  const { opened, error, waiting, loading } = useOpened(key, id);
  useOpenedName(opened ? tabNameOf(opened.rollout) : null);
  if (waiting)
    return <div class="empty"><h1>Not written yet</h1><p>Waiting for its first message: there is no rollout {id} in this run. If it is being recorded, it opens here by itself.</p></div>;
  if (!opened) return error ? <Problem error={error} /> : <Opening />;
  return <LoadedSample key={`${key} ${id}`} opened={opened} loading={loading} run={run} siblings={siblings} />;
}

/** The outline of a sample while it is fetched. */
function Opening() {
  return (
    <div class="opening" role="status">
      <p class="note">Opening…</p>
      {["wide", "short", "tall", "tall", "tall"].map((size, index) => <div key={index} class={`grey ${size}`} aria-hidden="true" />)}
    </div>
  );
}

/** Which sections are folded. */
function useFolding(list: Section[]) {
  const [closed, setClosed] = useState<ReadonlySet<number>>(new Set());
  const toggle = useCallback((number: number) => setClosed((before) => {
    const after = new Set(before);
    if (!after.delete(number)) after.add(number);
    return after;
  }), []);
  const open = (number: number) => setClosed((before) => (before.has(number) ? new Set([...before].filter((one) => one !== number)) : before));
  const expand = useCallback(() => setClosed(new Set<number>()), []);
  return { closed, toggle, open, expand, collapse: () => setClosed(new Set(list.map((_, index) => index))) };
}

function LoadedSample({ opened: sent, loading, run, siblings }: { opened: Opened; loading: OpenedState["loading"]; run: Run | undefined; siblings: Card[] }) {
  const { message: target, view } = address.value;
  const tokens = useTokens(sent, view === "tokens");
  const { rollout } = tokens;
  const opened = useMemo(() => ({ ...sent, rollout }), [sent, rollout]);
  const list = useMemo(() => sections(rollout), [rollout]);
  const stops = useMemo(() => stopsOf(list), [list]);
  const places = useMemo(() => placesOf(list), [list]);
  const drifts = useMemo(() => driftsOf(rollout), [rollout]);
  const timeline = useMemo(() => timelineOf(rollout, list), [rollout, list]);
  const folding = useFolding(list);
  const extensions = useRequest<Extensions>("extensions", {}, false).value;
  const range = rangeOf(run, "reward");
  const box = useRef<HTMLElement>(null);
  const index = target ? sectionOf(list, Number(target)) : -1;
  const hasTokens = list.some((section) => tokensRecorded(section.message));
  useEffect(() => {
    if (index < 0) return;
    folding.open(index);
    const node = box.current?.querySelector<HTMLElement>(`[data-message="${Number(target)}"]`) ?? box.current?.querySelector<HTMLElement>(`#section-${index}`);
    if (node) jumpTo(node);
  }, [target, rollout.id]);
  useHits(box, [rollout.id, view, index >= 0 && folding.closed.has(index), render.value]);
  useStuck(box);
  useEffect(() => (box.current ? follow(box.current) : undefined), [list, view]);
  return (
    <article class="sample" ref={box} aria-label="Sample">
      <div class="head">
        <Crumbs run={opened.run} rollout={rollout} siblings={siblings} />
        <Headline rollout={rollout} />
      </div>
      <Bar opened={opened} siblings={siblings} range={range} stops={stops} title={headlineOf(rollout)} extensions={extensions} hasTokens={hasTokens} collapse={folding.collapse} expand={folding.expand} />
      <div class="sample-facts">
        <Facts opened={opened} run={run} siblings={siblings} />
        {timeline && <Timing timeline={timeline} />}
      </div>
      <State opened={opened} loading={loading} />
      {view === "raw" ? <Raw opened={opened} />
        : view === "lens" && extensions ? <Lens opened={opened} formats={extensions.lens} />
        : view === "replay" && extensions ? <Replay opened={opened} server={extensions.replay} /> : (
        <>
          {view === "tokens" && hasTokens && <TokensLegend list={list} drifts={drifts} decodes={extensions?.tokens ?? false} loading={tokens.loading} error={tokens.error} />}
          {list.length === 0 && <p class="empty">{rollout.status === "running" ? "Nothing has been said yet." : "No messages were recorded."}</p>}
          {list.map((section, number) => (
            <SectionView
              key={number} index={number} section={section} rollout={rollout.id} run={opened.run} range={range} running={rollout.status === "running"} closed={folding.closed.has(number)} toggle={folding.toggle}
              showTokens={view === "tokens"} decodes={extensions?.tokens ?? false} drift={drifts.get(section.number) ?? null}
              ofPrompt={section.kind === "message" && (section.message.origin === "given" || number < (stops[0]?.index ?? list.length))} again={places[number]!}
            />
          ))}
          {!opened.running?.writing && opened.next == null && <End rollout={rollout} />}
          <Golden rollout={rollout} />
        </>
      )}
      {shared ? <Labelled opened={opened} /> : <Labels opened={opened} />}
    </article>
  );
}

/** For each section, the how-manieth it is of its role: two landmarks must not have one name. */
function placesOf(list: Section[]): number[] {
  const counts = new Map<string, number>();
  return list.map(({ kind, message }) => {
    if (kind === "turn") return 1;
    const count = (counts.get(message.role) ?? 0) + 1;
    counts.set(message.role, count);
    return count;
  });
}

/** Mark the sample while its headline is out of view: the bar then has the title. */
function useStuck(box: { current: HTMLElement | null }): void {
  useEffect(() => {
    const headline = box.current?.querySelector("h1");
    if (!headline) return;
    const seen = new IntersectionObserver(([entry]) => {
      box.current?.classList.toggle("stuck", entry !== undefined && !entry.isIntersecting);
    }, { root: box.current!.closest(".middle"), rootMargin: "-4px 0px 0px 0px" });
    seen.observe(headline);
    return () => seen.disconnect();
  }, []);
}

/** Whether the rollout is being recorded, and how much of a large one is here. */
function State({ opened: { running }, loading }: { opened: Opened; loading: OpenedState["loading"] }) {
  if (running && !running.writing) return <p class="problem">Stopped while running: its recorder is gone. Last written at {running.written_at.slice(0, 19).replace("T", " ")} UTC.</p>;
  if (running) return <p class="note following" role="status">Being recorded: the next messages come by themselves.</p>;
  if (loading) return <p class="note" role="status">A large rollout: {loading.messages.toLocaleString("en")} of {loading.of.toLocaleString("en")} messages are here, the others are coming.</p>;
  return null;
}

function Raw({ opened }: { opened: Opened }) {
  const [rollout, setRollout] = useState<Rollout | null>(isPartial(opened) ? null : opened.rollout);
  const [share, setShare] = useState(0);
  useEffect(() => {
    let current = true;
    void wholeRollout(opened, (done) => current && setShare(done)).then((whole) => current && setRollout(whole), () => undefined);
    return () => { current = false; };
  }, [opened.rollout]);
  return rollout ? <RawText rollout={rollout} /> : <p class="empty" role="status">Loading the whole rollout: {Math.round(100 * share)} %</p>;
}

function RawText({ rollout }: { rollout: Rollout }) {
  const text = useMemo(() => raw(rollout), [rollout]);
  return (
    <section class="section">
      <header><h2>The whole sample as text</h2><span class="space" /><Copy text={() => text} /></header>
      <pre class="raw" tabIndex={0}>{marked(text)}</pre>
    </section>
  );
}
