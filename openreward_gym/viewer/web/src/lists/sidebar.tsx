import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { address, at, everyStep, go } from "../address";
import { shared } from "../api";
import { Check, Menu, Problem } from "../components";
import { columns } from "../settings";
import { type Column, columnsOf, DEFAULT, STEP } from "./columns";
import { Filter } from "./filter";
import { SelectionBar } from "./selected";
import { MissingStep, Nothing } from "./states";
import { Matches, Steps } from "./steps";
import { SampleTable } from "./table";
import { useList } from "./uselist";
import type { Run, Step } from "../types";

const narrowScreen = matchMedia("(max-width: 1000px)");
const narrow = signal(narrowScreen.matches);
narrowScreen.addEventListener("change", (event) => { narrow.value = event.matches; });

/** The rollouts of one step, by group. On a narrow screen it is the page's only part while it is shown. */
export function Sidebar({ run, runKey, discarded, steps, step, missing, matching, stepsError }: { run: Run | undefined; runKey: string; discarded: boolean; steps: Step[] | null; step: number | null | undefined; missing?: string; matching: Step[] | null; stepsError: Error | null }) {
  const { filter = "", sort = "", flat } = address.value;
  const every = everyStep();
  const request = { run: runKey, step: every ? "" : step ?? "", every, discarded, filter, sort, flat: every || flat === "1" };
  const list = useList(step === undefined && !(every && steps?.length) ? null : request);
  const all = columnsOf(run);
  const picked = all.filter((column) => (columns.value ? columns.value.includes(column.key) : all.indexOf(column) < DEFAULT));
  const shown = every ? [STEP, ...picked] : picked;
  const total = list.value?.rollouts;
  const groups = list.layout.groups;
  const empty = list.value !== null && list.layout.rows === 0;
  return (
    <section class={`sidebar${discarded ? " discarded" : ""}`} role={narrow.value ? "main" : "navigation"} aria-label="Samples">
      {narrow.value && <h1 class="unseen">{discarded ? "Discarded rollouts" : "Rollouts"}</h1>}
      <Steps steps={steps} step={step} />
      <Filter run={runKey} value={filter} change={(text) => go(at({ filter: text || undefined, from: undefined }))} error={stepsError} />
      {filter && matching && <Matches matching={matching} step={step} discarded={discarded} />}
      <div class="columns">
        {total !== undefined && groups > 0 && groups < total && <span class="groups">{groups.toLocaleString("en")} {groups === 1 ? "group" : "groups"},</span>}
        <span class="count">{total === undefined ? "" : `${total.toLocaleString("en")} ${total === 1 ? "sample" : "samples"}`}</span>
        <span class="space" />
        {!every && <button type="button" aria-pressed={flat === "1"} title="List samples without their groups" onClick={() => go(at({ flat: flat === "1" ? undefined : "1" }), true)}>Flat</button>}
        <Columns all={all} picked={picked} />
      </div>
      {!stepsError && <Problem error={list.error} />}
      {/* On narrow screens the middle of the page, which says the same, is not there. */}
      {missing !== undefined && steps ? <MissingStep steps={steps} value={missing} inList /> : empty && !every && steps?.length ? <Nothing step={step ?? null} figures={steps.find((one) => one.step === step)} discarded={discarded} /> : null}
      {list.value && !empty ? <SampleTable list={list} request={request} columns={shown} run={run} runKey={runKey} discarded={discarded} />
        : <p class="empty">{emptyText(steps, step, list.value !== null, stepsError !== null || list.error !== null)}</p>}
      <SelectionBar run={run} runKey={runKey} shared={shared} />
    </section>
  );
}

function emptyText(steps: Step[] | null, step: number | null | undefined, loaded: boolean, failed: boolean): string {
  if (failed) return "";
  if (!steps || (step !== undefined && !loaded)) return "Opening…";
  if (!steps.length) return "No samples yet.";
  return step === undefined ? "" : address.value.filter ? "No sample matches the filter." : "No samples.";
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
