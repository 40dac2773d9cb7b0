import { useState } from "preact/hooks";
import { address, at, go } from "../address";
import { shared } from "../api";
import { Check, Menu, Problem } from "../components";
import { columns } from "../settings";
import { type Column, columnsOf, DEFAULT } from "./columns";
import { Filter } from "./filter";
import { SelectionBar } from "./selected";
import { Steps } from "./steps";
import { SampleTable } from "./table";
import { useList } from "./uselist";
import type { Run, Step } from "../types";

/** The rollouts of one step, by group. */
export function Sidebar({ run, runKey, discarded, steps, step, stepsError }: { run: Run | undefined; runKey: string; discarded: boolean; steps: Step[] | null; step: number | null | undefined; stepsError: Error | null }) {
  const { filter = "", sort = "", flat } = address.value;
  const request = { run: runKey, step: step ?? "", discarded, filter, sort, flat: flat === "1" };
  const list = useList(step === undefined ? null : request);
  const all = columnsOf(run);
  const picked = all.filter((column) => (columns.value ? columns.value.includes(column.key) : all.indexOf(column) < DEFAULT));
  const total = list.value?.rollouts;
  const groups = list.layout.groups;
  return (
    <nav class={`sidebar${discarded ? " discarded" : ""}`} aria-label="Samples">
      <Steps steps={steps} step={step} />
      <Filter run={runKey} value={filter} change={(text) => go(at({ filter: text || undefined, from: undefined }))} error={stepsError} />
      <div class="columns">
        {total !== undefined && groups > 0 && groups < total && <span class="groups">{groups.toLocaleString("en")} {groups === 1 ? "group" : "groups"},</span>}
        <span class="count">{total === undefined ? "" : `${total.toLocaleString("en")} ${total === 1 ? "sample" : "samples"}`}</span>
        <span class="space" />
        <button type="button" aria-pressed={flat === "1"} title="List samples without their groups" onClick={() => go(at({ flat: flat === "1" ? undefined : "1" }), true)}>Flat</button>
        <Columns all={all} picked={picked} />
      </div>
      {!stepsError && <Problem error={list.error} />}
      {list.value && list.layout.rows > 0 ? <SampleTable list={list} request={request} columns={picked} run={run} runKey={runKey} discarded={discarded} />
        : <p class="empty">{!steps && !stepsError ? "Opening…" : step === undefined && steps?.length ? "" : !list.value && step !== undefined ? "Opening…" : filter ? "No sample matches the filter." : discarded ? "No rollout was discarded." : steps?.some((one) => one.step === step && one.discarded > 0) ? "No sample was kept." : "No samples yet."}</p>}
      <SelectionBar run={run} runKey={runKey} shared={shared} />
    </nav>
  );
}

const MANY = 14;

function Columns({ all, picked }: { all: Column[]; picked: Column[] }) {
  const [word, setWord] = useState("");
  const change = (key: string, on: boolean) => { columns.value = all.filter((one) => (one.key === key ? on : picked.includes(one))).map((one) => one.key); };
  const found = all.filter((column) => column.label.toLowerCase().includes(word.toLowerCase()));
  return (
    <Menu label="Columns">
      {all.length > MANY + 8 && <input type="search" aria-label="Find a column" placeholder="Find a column" value={word} onInput={(event) => setWord(event.currentTarget.value)} />}
      {found.map((column) => <Check key={column.key} label={column.label} on={picked.includes(column)} change={(on) => change(column.key, on)} />)}
      {!found.length && <p class="none">No column has this in its name.</p>}
    </Menu>
  );
}
