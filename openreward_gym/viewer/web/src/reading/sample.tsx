import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, at, go } from "../address";
import { Blocks, Json } from "../text/blocks";
import { shared, useRequest } from "../api";
import { advantageRange, finite, goodness, seconds, shown, titleCase, UNIT } from "../numbers";
import { HitBar } from "../searching/hits";
import { render } from "../settings";
import { Labelled } from "./labelled";
import { Labels } from "./labels";
import { formatSide } from "../comparing/choosing";
import { useHits } from "../searching/marking";
import { Check, Copy, Link, Menu, Problem, Reward } from "../components";
import { Lens, type Extensions, Replay } from "./extensions";
import { pythonOf } from "./python";
import { argumentsOf, blocksOf, durationOf, notesOf, raw, type Section, sectionOf, sections, textOf, tokensOf } from "./rollout";
import type { Card, Message, Opened, Range, Rollout, Run } from "../types";

const NAMES: Record<string, string> = { system: "System", user: "User", assistant: "Assistant", tool: "Tool result" };

export function rangeOf(run: Run | undefined, name: string): Range | null {
  return run?.ranges[name] ?? (name === "reward" ? UNIT : null);
}

/** One rollout. `siblings` are the samples of its group. */
export function Sample({ run, id, siblings }: { run: Run | undefined; id: string; siblings: Card[] }) {
  const key = address.value.run ?? "";
  const { value, error } = useRequest<Opened>("rollout", { run: key, id }, (opened) => !opened || opened.rollout.status === "running");
  if (error?.status === 404 && !value)
    return <div class="empty"><h1>Not written yet</h1><p>There is no rollout {id} in this run. If it is being recorded, it opens here by itself.</p></div>;
  if (!value) return error ? <Problem error={error} /> : <p class="empty">Opening…</p>;
  return <LoadedSample key={`${key} ${id}`} opened={value} run={run} siblings={siblings} />;
}

function LoadedSample({ opened, run, siblings }: { opened: Opened; run: Run | undefined; siblings: Card[] }) {
  const { rollout } = opened;
  const list = useMemo(() => sections(rollout), [rollout]);
  const [closed, setClosed] = useState<Set<number>>(new Set());
  const extensions = useRequest<Extensions>("extensions", {}, false).value;
  const view = address.value.view;
  const box = useRef<HTMLDivElement>(null);
  const target = address.value.message;
  const index = target ? sectionOf(list, Number(target)) : -1;
  useEffect(() => {
    if (index < 0) return;
    setClosed((before) => (before.has(index) ? new Set([...before].filter((one) => one !== index)) : before));
    box.current?.querySelector(`#section-${index}`)?.scrollIntoView({ block: "start" });
  }, [target, rollout.id]);
  useHits(box, [rollout.id, view, index >= 0 && closed.has(index), render.value]);
  const toggle = (number: number) => setClosed((before) => {
    const after = new Set(before);
    if (!after.delete(number)) after.add(number);
    return after;
  });
  const toggleView = (name: string) => go(at({ view: view === name ? undefined : name }), true);
  return (
    <article class="sample" ref={box} aria-label="Sample">
      <HitBar />
      <p class="crumbs line">
        {address.value.group !== undefined && <Link to={at({ sample: undefined, view: undefined, message: undefined })}>‹ <span dir="auto">{address.value.group}</span>, all samples</Link>}
        <span class="space" />
        {siblings.length > 1 && <Link to={at({ page: address.value.page, sample: undefined, view: "divergence" })}>Divergence</Link>}
        <Link to={{ page: "pair", left: formatSide({ run: opened.run, id: rollout.id }) }}>Compare</Link>
        {rollout.task?.id && <Link to={at({ page: "task", task: rollout.task.id, sample: undefined })}>Task history</Link>}
      </p>
      <Head opened={opened} run={run} siblings={siblings} />
      <div class="bar" role="toolbar" aria-label="How the sample is shown">
        <RenderMenu />
        {([["raw", "Raw"], ...(extensions?.lens.length ? [["lens", "Export lens"]] : []), ...(shared ? [] : [["replay", "Replay check"]])] as [string, string][]).map(([name, label]) => (
          <button type="button" key={name} aria-pressed={view === name} onClick={() => toggleView(name)}>{label}</button>
        ))}
        <button type="button" onClick={() => setClosed(new Set(list.map((_, index) => index)))}>Collapse all</button>
        <button type="button" onClick={() => setClosed(new Set())}>Expand all</button>
      </div>
      {view === "raw" ? <Raw rollout={rollout} />
        : view === "lens" && extensions ? <Lens opened={opened} formats={extensions.lens} />
        : view === "replay" && extensions ? <Replay opened={opened} server={extensions.replay} /> : (
        <>
          {list.map((section, index) => (
            <SectionView key={index} index={index} section={section} rollout={rollout} run={opened.run} range={rangeOf(run, "reward")} closed={closed.has(index)} toggle={() => toggle(index)} />
          ))}
          <End rollout={rollout} />
          <Golden rollout={rollout} />
        </>
      )}
      {shared ? <Labelled opened={opened} /> : <Labels opened={opened} />}
    </article>
  );
}

function RenderMenu() {
  const how = render.value;
  return (
    <Menu label="Render">
      {([["think", "Think blocks"], ["markdown", "Markdown"], ["latex", "LaTeX"], ["code", "Code blocks"]] as const).map(([key, label]) => (
        <Check key={key} label={label} on={how[key]} change={(on) => { render.value = { ...how, [key]: on }; }} />
      ))}
    </Menu>
  );
}

function Raw({ rollout }: { rollout: Rollout }) {
  const text = useMemo(() => raw(rollout), [rollout]);
  return (
    <section class="section">
      <header><h2>The whole sample as text</h2><span class="space" /><Copy text={() => pythonOf(rollout)} label="Copy as Python" /><Copy text={() => text} /></header>
      <pre class="raw" tabIndex={0}>{text}</pre>
    </section>
  );
}

function Fact({ name, value }: { name: string; value: unknown }) {
  if (value === null || value === undefined || value === "") return null;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return <div><dt>{name}</dt><dd dir="auto" title={text.length > 120 ? text.slice(0, 2000) : undefined}>{text.slice(0, 600)}</dd></div>;
}

function Head({ opened, run, siblings }: { opened: Opened; run: Run | undefined; siblings: Card[] }) {
  const { rollout } = opened;
  const place = siblings.findIndex((card) => card.id === rollout.id);
  const range = rangeOf(run, "reward");
  const env = rollout.environment ?? {};
  const usage = rollout.usage ?? {};
  const metrics = Object.entries(rollout.metrics ?? {});
  const model = rollout.model ?? {};
  return (
    <header class="head">
      <div class="line">
        <h1 dir="auto">{rollout.name || (rollout.sample != null ? `Sample ${rollout.sample}` : `Rollout ${rollout.id.slice(0, 8)}`)}</h1>
        {siblings.length > 1 && place >= 0 && (
          <span class="siblings">
            <button type="button" aria-label="Previous sample" disabled={place === 0} onClick={() => go(at({ sample: siblings[place - 1]!.id, message: undefined }))}>‹</button>
            <span>{place + 1}/{siblings.length}</span>
            <button type="button" aria-label="Next sample" disabled={place === siblings.length - 1} onClick={() => go(at({ sample: siblings[place + 1]!.id, message: undefined }))}>›</button>
          </span>
        )}
        <span class={`status ${rollout.status}`}>{rollout.status}{rollout.stop_reason ? ` · ${rollout.stop_reason}` : ""}</span>
        {rollout.discard_reason && <span class="badge" dir="auto">{titleCase(rollout.discard_reason)}</span>}
      </div>
      <div class="rewards" aria-label="Rewards">
        <Reward label="Reward" value={rollout.reward ?? null} good={goodness(rollout.reward ?? null, range)} />
        {rollout.advantage != null && <Reward label="Advantage" value={rollout.advantage} good={goodness(rollout.advantage, advantageRange(siblings.length))} />}
        {metrics.map(([name, value]) => <Reward key={name} label={name} value={value} good={goodness(value, rangeOf(run, name))} />)}
      </div>
      <dl class="facts">
        <Fact name="Environment" value={[env.name, env.variant].filter(Boolean).join(" / ")} />
        <Fact name="Split" value={env.split} />
        <Fact name="Task" value={rollout.task?.index} />
        <Fact name="Step" value={rollout.step} />
        <Fact name="Model" value={model.name ?? model.model_name} />
        <Fact name="Time" value={rollout.started_at ? `${rollout.started_at.slice(0, 19).replace("T", " ")} UTC, ${seconds(durationOf(rollout.started_at, rollout.ended_at))}` : null} />
        <Fact name="Tokens" value={usage.input_tokens != null || usage.output_tokens != null ? `${usage.input_tokens ?? "–"} in, ${usage.output_tokens ?? "–"} out` : null} />
        <Fact name="Cost" value={finite(rollout.cost_usd) === null ? null : `$${shown(rollout.cost_usd)}`} />
      </dl>
      <details class="more">
        <summary>All fields of this rollout</summary>
        <dl class="facts wide">
          <Fact name="Id" value={rollout.id} /><Fact name="Run" value={rollout.run} /><Fact name="Group" value={rollout.group} />
          <Fact name="Task id" value={rollout.task?.id} /><Fact name="Task spec" value={rollout.task?.spec} /><Fact name="Served at" value={env.origin} />
          <Fact name="Run info" value={rollout.model} /><Fact name="Sampling" value={rollout.sampling} /><Fact name="Seed" value={rollout.seed} />
          <Fact name="Final reward" value={rollout.final_reward} /><Fact name="Timing" value={rollout.timing} /><Fact name="Tools" value={rollout.tools} />
          <Fact name="Versions" value={rollout.versions} /><Fact name="Metadata" value={rollout.metadata} />
        </dl>
      </details>
      {rollout.error && <p class="problem" dir="auto" data-message="-1">{rollout.error}</p>}
    </header>
  );
}

function Tokens({ message, text }: { message: Message; text: string }) {
  const { count, estimated } = tokensOf(message, text);
  return <span class="tokens" title={estimated ? "Not recorded; estimated as a quarter of the characters." : "As recorded."}>{estimated ? "≈ " : ""}{count.toLocaleString("en")} tokens</span>;
}

function Notes({ message }: { message: Message }) {
  return <>{notesOf(message).map(([note, why]) => <span class="badge" title={why} key={note}>{note}</span>)}</>;
}

function SectionView({ section, index, rollout, run, range, closed, toggle }: { section: Section; index: number; rollout: Rollout; run: string; range: Range | null; closed: boolean; toggle: () => void }) {
  const { message } = section;
  const text = textOf(message);
  const title = section.kind === "turn" ? `Turn ${section.turn}` : NAMES[message.role] ?? message.role;
  const blocks = blocksOf(message).filter((block) => block.type !== "tool_call");
  return (
    <section class={`section ${message.role}${message.is_error ? " error" : ""}`} id={`section-${index}`} data-message={section.number} aria-label={title}>
      <header>
        <button type="button" class="fold" aria-expanded={!closed} onClick={toggle}>
          <h2>{title}{section.kind === "turn" ? <small> Assistant</small> : message.name ? <small> {message.name}</small> : null}</h2>
        </button>
        <Tokens message={message} text={text} />
        <Notes message={message} />
        {message.sampled?.stop_reason && <span class="tokens">stop: {message.sampled.stop_reason}</span>}
        {message.started_at && message.ended_at && <span class="tokens">{seconds(durationOf(message.started_at, message.ended_at))}</span>}
        <span class="space" />
        {message.reward != null && <Reward label="Reward" value={message.reward} good={goodness(message.reward, range)} />}
        <Copy text={() => text} />
      </header>
      {!closed && (
        <div class="inside">
          <Blocks blocks={blocks} run={run} />
          {!message.blocks?.length && <p class="none">An empty message.</p>}
          {section.calls.map((call, number) => (
            <div class={`call${call.result?.is_error ? " error" : ""}`} key={number}>
              <div class="call-head">
                <span class="tool">{call.block.name}</span>
                {call.block.call_id && <code class="id" title="The call's id">{call.block.call_id}</code>}
                {call.block.arguments == null && call.block.content != null && <span class="badge">not a JSON object</span>}
                <span class="space" />
                <Copy text={() => argumentsOf(call.block)} />
              </div>
              <Json text={argumentsOf(call.block) || "{}"} />
              {call.result ? (
                <div class="result" data-message={call.number ?? undefined} aria-label={`Result of ${call.block.name ?? "the call"}`}>
                  <div class="call-head">
                    <span class="kind">{call.result.is_error ? "Error" : "Result"}</span>
                    <Notes message={call.result} />
                    <span class="space" />
                    {call.result.reward != null && <Reward label="Reward" value={call.result.reward} good={goodness(call.result.reward, range)} />}
                    {call.result.finished && <span class="badge end">ends the episode</span>}
                    <Copy text={() => textOf(call.result!)} />
                  </div>
                  <Blocks blocks={call.result.blocks ?? []} run={run} />
                </div>
              ) : <p class="none">{rollout.status === "running" ? "No result yet." : "No result was recorded."}</p>}
            </div>
          ))}
        </div>
      )}
    </section>
  );
}

const ENDINGS: Record<string, string> = { completed: "The episode finished", truncated: "The episode was truncated", error: "The episode ended with an error", cancelled: "The episode was cancelled", running: "The episode is still running" };

function End({ rollout }: { rollout: Rollout }) {
  return (
    <p class={`ending ${rollout.status}`} role="status">
      {ENDINGS[rollout.status] ?? rollout.status}{rollout.stop_reason ? `: ${rollout.stop_reason}` : ""}. Return {shown(rollout.reward ?? null)}.
    </p>
  );
}

function Golden({ rollout }: { rollout: Rollout }) {
  const golden = rollout.task?.golden_answer;
  if (golden === null || golden === undefined || golden === "") return null;
  return (
    <section class="section golden" aria-label="Golden answer">
      <header><h2>Golden answer</h2></header>
      <div class="inside">{typeof golden === "string" ? <Blocks blocks={[{ type: "text", text: golden }]} run="" /> : <Json text={JSON.stringify(golden)} />}</div>
    </section>
  );
}
