import { useMemo, useRef } from "preact/hooks";
import { address, at, everyStep, go, stepKey } from "../address";
import { type Parameters, useRequest } from "../api";
import { Link } from "../components";
import { finite, titleCase } from "../numbers";
import { type Column, exactText, fractions, shadeOf, textOf } from "./columns";
import { idsOf, isSelected, select, selectAll, selection, clearSelection, toggle } from "./selection";
import { type Item, type List } from "./uselist";
import { VirtualRows } from "./virtual";
import type { Card, Group, Run } from "../types";

function isFlat(): boolean {
  return everyStep() || address.value.flat === "1";
}

const OPENED = { view: undefined, message: undefined } as const;

/** A table of rollouts, by group or flat, of which the rows in view are drawn. `request` asks for the whole list. */
export function SampleTable({ list, request, columns, run, runKey, discarded }: { list: List; request: Parameters; columns: Column[]; run: Run | undefined; runKey: string; discarded: boolean }) {
  const { layout, items, item, value } = list;
  const most = useMemo(() => Math.max(1, ...items.map(({ card }) => card.tokens ?? 0)), [items]);
  const even = useMemo(() => fractions(columns, items.map(({ card }) => card)), [items, columns.map((column) => column.key).join()]);
  const { sample, sort } = address.value;
  const flat = isFlat();
  const loaded = sample === undefined ? -1 : items.findIndex(({ card }) => card.id === sample);
  const found = useRequest<{ position: number | null }>(sample !== undefined && loaded < 0 && value ? "position" : null, { ...request, id: sample }, false);
  const offset = loaded >= 0 ? (value?.offset ?? 0) + loaded : found.value?.position ?? -1;
  const names = useRef<HTMLDivElement>(null);
  const width = `${(discarded ? 170 : 92) + (flat ? 62 : 0) + columns.length * 58}px`;
  const keyOf = (index: number) => {
    const place = layout.at(index);
    const there = item(place.offset);
    return !there ? `? ${index}` : place.head ? `g ${there.group.group}` : there.card.id;
  };
  const row = (index: number) => {
    const place = layout.at(index);
    const there = item(place.offset);
    if (!there) return <div class="row waits" role="row" aria-rowindex={index + 2}><span role="cell">…</span></div>;
    if (place.head) {
      const cards = Array.from({ length: place.size }, (_, number) => item(place.offset + number)?.card);
      return <GroupRow index={index} group={there.group} offset={place.offset} cards={cards} step={there.card.step} request={request} runKey={runKey} span={columns.length + 1} />;
    }
    return <SampleRow index={index} there={there} offset={place.offset} size={flat ? samplesOf(there) : place.size} columns={columns} even={even} run={run} runKey={runKey} most={most} discarded={discarded} request={request} />;
  };
  return (
    <div class={`listing${flat ? " flat" : ""}`} role="table" aria-label="Samples" aria-rowcount={layout.rows + 1} onKeyDown={moveFocus}
      ref={(node) => node?.style.setProperty("--wide", width)}
      onScrollCapture={(event) => { if (names.current && event.target !== names.current) names.current.scrollLeft = (event.target as HTMLElement).scrollLeft; }}>
      <div class="heads" role="rowgroup" ref={names}>
        <div class="names" role="row" aria-rowindex={1}>
          <span class="pick" role="columnheader"><All runKey={runKey} request={request} total={value?.rollouts ?? 0} /></span>
          <span class="who" role="columnheader">Sample</span>
          {columns.map((column) => <Head key={column.key} column={column} sort={sort} />)}
        </div>
      </div>
      <VirtualRows
        key={`${JSON.stringify(request)}`} label="Groups and samples" count={layout.rows} row={row} keyOf={keyOf} onRange={list.see}
        size={(index) => (layout.at(index).head ? 46 : 28)} show={offset < 0 ? -1 : layout.rowOf(offset)} showKey={sample}
      />
    </div>
  );
}

function samplesOf({ group }: Item): number {
  return Math.max(2, group.cards.length);
}

/** The next order of a column: from the largest, from the smallest, as recorded. */
export function nextSort(column: string, sort: string | undefined): string | undefined {
  return sort === `-${column}` ? column : sort === column ? undefined : `-${column}`;
}

function Head({ column, sort }: { column: Column; sort: string | undefined }) {
  const order = sort === column.sort ? "ascending" : sort === `-${column.sort}` ? "descending" : "none";
  return (
    <span role="columnheader" data-key={column.key} aria-sort={order} title={column.about}>
      <button type="button" class="quiet" onClick={() => go(at({ sort: nextSort(column.sort, sort), from: undefined }), true)}>{order !== "none" && <i aria-hidden="true">{order === "ascending" ? "↑ " : "↓ "}</i>}{column.label}</button>
    </span>
  );
}

function All({ runKey, request, total }: { runKey: string; request: Parameters; total: number }) {
  const { run, ids } = selection.value;
  const count = run === runKey ? ids.size : 0;
  return <input type="checkbox" aria-label={`Select all ${total.toLocaleString("en")} samples`} title={`Select all ${total.toLocaleString("en")}`} checked={count > 0 && count >= total} disabled={!total} ref={(node) => { if (node) node.indeterminate = count > 0 && count < total; }} onChange={(event) => void (event.currentTarget.checked ? selectAll(runKey, request) : clearSelection())} />;
}

function GroupRow({ index, group, offset, cards, step, request, runKey, span }: { index: number; group: Group; offset: number; cards: (Card | undefined)[]; step: number | null; request: Parameters; runKey: string; span: number }) {
  const rewards = cards.map((card) => finite(card?.reward)).filter((reward) => reward !== null);
  const whole = cards.every(Boolean);
  const mean = whole && rewards.length ? rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length : null;
  const on = whole && cards.every((card) => isSelected(runKey, card!.id));
  const current = address.value.group === group.group && !address.value.sample;
  const choose = async (wanted: boolean) => select(runKey, whole ? cards.map((card) => card!.id) : (await idsOf(request)).slice(offset, offset + cards.length), wanted);
  return (
    <div class={`group${current ? " current" : ""}`} role="row" aria-rowindex={index + 2}>
      <span class="pick" role="cell"><input type="checkbox" aria-label={`Select group ${group.group}`} checked={on} onChange={(event) => void choose(event.currentTarget.checked)} /></span>
      <span class="what" role="cell" aria-colspan={span}>
        <Link to={at({ step: stepKey(step), group: group.group, sample: undefined, ...OPENED })} class="open" title={group.prompt} current={current}><span class="prompt" dir="auto">{group.prompt || "(no prompt)"}</span></Link>
        <span class="about"><span dir="auto">{group.group}</span><span>{cards.length.toLocaleString("en")} {cards.length === 1 ? "sample" : "samples"}{mean === null || cards.length < 2 ? "" : `, mean ${mean.toFixed(2).replace("-", "−")}`}</span></span>
      </span>
    </div>
  );
}

function SampleRow({ index, there, offset, size, columns, even, run, runKey, most, discarded, request }: { index: number; there: Item; offset: number; size: number; columns: Column[]; even: Set<string>; run: Run | undefined; runKey: string; most: number; discarded: boolean; request: Parameters }) {
  const { card } = there;
  const name = `sample ${card.sample ?? card.id.slice(0, 8)}${isFlat() ? ` of ${card.group}` : ""}`;
  const current = address.value.sample === card.id;
  const on = isSelected(runKey, card.id);
  const pick = (event: MouseEvent) => void toggle(runKey, request, card.id, offset, (event.currentTarget as HTMLInputElement).checked, event.shiftKey);
  return (
    <div class={`row${current ? " current" : ""}${on ? " chosen" : ""}`} role="row" aria-rowindex={index + 2} aria-label={[name, ...columns.map((column) => `${column.label} ${exactText(column, card)}`)].join(", ")}>
      <span class="pick" role="cell"><input type="checkbox" aria-label={`Select ${name}`} checked={on} onClick={pick} /></span>
      <span class="who" role="rowheader">
        <Link to={at({ step: stepKey(card.step), group: card.group, sample: card.id, ...OPENED })} class="open" title={card.name ?? card.id} current={current}><span class="unseen">Sample </span>{isFlat() ? `${card.group} · ` : ""}{card.sample ?? card.id.slice(0, 6)}</Link>
        {card.status !== "completed" && <span class={`state ${card.status}`} title={`${card.status} ${card.stop ?? ""}`}>{card.status === "running" ? "…" : "!"}<span class="unseen">{card.status}</span></span>}
        {card.label?.rating != null && <span class="state" title="Your rating">★{card.label.rating}</span>}
        {discarded && card.discard && <span class="badge" title={card.discard}>{titleCase(card.discard)}</span>}
      </span>
      {columns.map((column) => (
        <span key={column.key} class="dot" data-key={column.key} role="cell" title={`${column.key}: ${exactText(column, card)}`}>
          {column.dot && <i class={shadeOf(column, card, run, size, most)} aria-hidden="true" />}<span>{textOf(column, card, even.has(column.key))}</span>
        </span>
      ))}
    </div>
  );
}

/** Arrow keys move between the rows in view. */
function moveFocus(event: KeyboardEvent): void {
  const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const row = (event.target as HTMLElement).closest("[role=row]");
  if (!by || !row || (event.target as HTMLElement).matches("input[type=text]")) return;
  const all = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("a.open")].sort((a, b) => rowOf(a) - rowOf(b));
  const next = all[all.findIndex((link) => rowOf(link) === rowOf(row)) + by];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function rowOf(node: Element): number {
  return Number(node.closest("[role=row]")?.getAttribute("aria-rowindex") ?? 0);
}
