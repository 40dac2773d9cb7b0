import { useEffect, useMemo, useState } from "preact/hooks";
import { address, at, go } from "../address";
import { load, useRequest } from "../api";
import { advantageRange, finite, goodness, titleCase } from "../numbers";
import { Filter } from "./filter";
import { columns } from "../settings";
import { Check, Dot, Link, Menu, Problem, Virtual } from "../components";
import { rangeOf } from "../reading/sample";
import type { Card, Group, Listing, Run, Step } from "../types";

const OWN = ["reward", "advantage", "tokens", "steps"];

type Row = { kind: "group"; group: Group; open: boolean } | { kind: "sample"; card: Card; group: Group };

export function stepOf(steps: Step[] | null, value: string | undefined): number | null | undefined {
  if (!steps?.length) return undefined;
  const known = steps.map((step) => step.step);
  if (value === "none" && known.includes(null)) return null;
  if (value !== undefined && known.includes(Number(value))) return Number(value);
  return steps[steps.length - 1]!.step;
}

/** The samples of one step, by group. */
export function Sidebar({ run, runKey, discarded, steps, step, stepsError }: { run: Run | undefined; runKey: string; discarded: boolean; steps: Step[] | null; step: number | null | undefined; stepsError: Error | null }) {
  const filter = address.value.filter ?? "";
  const parameters = { run: runKey, step: step ?? "", discarded, filter };
  const first = useRequest<Listing>(step === undefined ? null : "list", parameters, true);
  const [more, setMore] = useState<Listing[]>([]);
  const place = `${runKey} ${step} ${discarded} ${filter}`;
  useEffect(() => setMore([]), [place]);
  const groups = useMemo(() => merged([first.value, ...more]), [first.value, more]);
  const next = more.length ? more[more.length - 1]!.next : first.value?.next ?? null;
  const names = [...OWN, ...(run?.metrics ?? []).filter((name) => !OWN.includes(name))];
  const picked = (columns.value ?? names.slice(0, 4)).filter((name) => names.includes(name));
  const rows: Row[] = useMemo(() => groups.flatMap((group) => [{ kind: "group" as const, group, open: true }, ...group.cards.map((card) => ({ kind: "sample" as const, card, group }))]), [groups]);
  const most = useMemo(() => Math.max(1, ...groups.flatMap((group) => group.cards.map((card) => card.tokens ?? 0)).slice(0, 5000)), [groups]);
  const sample = address.value.sample;
  const show = sample ? rows.findIndex((row) => row.kind === "sample" && row.card.id === sample) : undefined;
  const loadMore = async () => {
    if (next !== null) setMore([...more, await load<Listing>("list", { ...parameters, offset: next })]);
  };
  return (
    <nav class={`sidebar${discarded ? " discarded" : ""}`} aria-label="Samples">
      <Steps steps={steps} step={step} />
      <Filter run={runKey} value={filter} change={(text) => go(at({ filter: text || undefined }))} error={stepsError} />
      <div class="columns">
        <span class="count">{steps ? `${steps.find((one) => one.step === step)?.rollouts ?? 0} samples` : ""}</span>
        <span class="space" />
        <Menu label="Columns">
          {names.map((name) => <Check key={name} label={name} on={picked.includes(name)} change={(on) => { columns.value = names.filter((one) => (one === name ? on : picked.includes(one))); }} />)}
        </Menu>
      </div>
      <div class="names" aria-hidden="true"><span class="who" />{picked.map((name) => <span key={name} title={name}>{name}</span>)}</div>
      <Problem error={first.error} />
      {rows.length > 0 ? (
        <Virtual
          label="Groups and samples" count={rows.length} show={show} size={(index) => (rows[index]?.kind === "group" ? 46 : 28)}
          keyOf={(index) => { const row = rows[index]!; return row.kind === "group" ? `g ${row.group.group}` : row.card.id; }}
          row={(index) => {
            const row = rows[index]!;
            return row.kind === "group" ? <GroupRow group={row.group} /> : <SampleRow card={row.card} group={row.group} run={run} picked={picked} most={most} discarded={discarded} />;
          }}
        />
      ) : first.value || steps?.length === 0 ? <p class="empty">{filter ? "No sample matches the filter." : discarded ? "No rollout was discarded." : "No samples yet."}</p> : null}
      {next !== null && <button type="button" onClick={loadMore}>Load more</button>}
    </nav>
  );
}

function merged(pages: (Listing | null)[]): Group[] {
  const groups: Group[] = [];
  for (const page of pages)
    for (const group of page?.groups ?? []) {
      const last = groups[groups.length - 1];
      if (last?.group === group.group) groups[groups.length - 1] = { ...last, cards: [...last.cards, ...group.cards] };
      else groups.push(group);
    }
  return groups;
}

function Steps({ steps, step }: { steps: Step[] | null; step: number | null | undefined }) {
  const known = (steps ?? []).map((one) => one.step);
  const index = step === undefined ? -1 : known.indexOf(step);
  const [typed, setTyped] = useState<string | null>(null);
  const to = (number: number) => go(at({ step: known[number] === null ? "none" : String(known[number]), group: undefined, sample: undefined, message: undefined }));
  const take = () => {
    const index = typed === null || typed === "" ? -1 : known.indexOf(Number(typed));
    if (index >= 0) to(index);
    setTyped(null);
  };
  if (known.length === 1 && known[0] === null) return null;
  return (
    <div class="steps" role="group" aria-label="Training step">
      <button type="button" aria-label="First step" disabled={index <= 0} onClick={() => to(0)}>«</button>
      <button type="button" aria-label="Previous step" disabled={index <= 0} onClick={() => to(index - 1)}>‹</button>
      <label>Step <input aria-label="Step" inputMode="numeric" value={typed ?? (step === null || step === undefined ? "" : String(step))} onInput={(event) => setTyped(event.currentTarget.value)} onBlur={take} onKeyDown={(event) => { if (event.key === "Enter") take(); if (event.key === "Escape") setTyped(null); }} /></label>
      <span class="of">of {known.length ? known[known.length - 1] ?? "–" : "–"}</span>
      <button type="button" aria-label="Next step" disabled={index < 0 || index >= known.length - 1} onClick={() => to(index + 1)}>›</button>
      <button type="button" aria-label="Last step" disabled={index < 0 || index >= known.length - 1} onClick={() => to(known.length - 1)}>»</button>
    </div>
  );
}

function GroupRow({ group }: { group: Group }) {
  return (
    <Link to={at({ group: group.group, sample: undefined, view: undefined, message: undefined })} class={`group${address.value.group === group.group && !address.value.sample ? " current" : ""}`} title={group.prompt}>
      <span class="prompt" dir="auto">{group.prompt || "(no prompt)"}</span>
      <span class="about"><span dir="auto">{group.group}</span><span>{group.cards.length} {group.cards.length === 1 ? "sample" : "samples"}</span></span>
    </Link>
  );
}

function SampleRow({ card, group, run, picked, most, discarded }: { card: Card; group: Group; run: Run | undefined; picked: string[]; most: number; discarded: boolean }) {
  return (
    <Link to={at({ step: card.step === null ? "none" : String(card.step), group: group.group, sample: card.id, view: undefined, message: undefined })} class={`row${address.value.sample === card.id ? " current" : ""}`} current={address.value.sample === card.id}>
      <span class="who">
        <span title={card.name ?? card.id}>{card.sample ?? card.id.slice(0, 6)}</span>
        {card.status !== "completed" && <span class={`state ${card.status}`} title={`${card.status} ${card.stop ?? ""}`}>{card.status === "running" ? "…" : "!"}</span>}
        {card.label?.rating != null && <span class="state" title="Your rating">★{card.label.rating}</span>}
        {discarded && card.discard && <span class="badge" title={card.discard}>{titleCase(card.discard)}</span>}
      </span>
      {picked.map((name) => <MetricDot key={name} card={card} name={name} run={run} samples={group.cards.length} most={most} />)}
    </Link>
  );
}

export function MetricDot({ card, name, run, samples, most }: { card: Card; name: string; run: Run | undefined; samples: number; most: number }) {
  if (name === "tokens") {
    const share = card.tokens === null ? null : Math.min(1, card.tokens / most);
    return <span class="dot" title={`tokens: ${card.tokens ?? "none (not recorded)"}`}><i class={share === null ? "blank" : `t${Math.round(share * 10)}`} aria-hidden="true" /><span>{card.tokens ?? "–"}</span></span>;
  }
  const value = name === "reward" ? card.reward : name === "advantage" ? card.advantage : name === "steps" ? card.turns : card.metrics[name];
  const range = name === "advantage" ? advantageRange(samples) : rangeOf(run, name);
  return <Dot name={name} value={value} good={finite(value) === null ? null : goodness(value, range)} />;
}
