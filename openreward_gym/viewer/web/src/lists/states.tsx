import type { ComponentChildren } from "preact";
import { address, at, everyStep, go } from "../address";
import { type ApiError, useRequest } from "../api";
import { Link, Problem } from "../components";
import { Cards } from "./overview";
import { Discards } from "./discards";
import { StepFigures, StepTable } from "./figures";
import { nearest, noStep, toStep } from "./steps";
import type { Run, Step } from "../types";
import type { GroupStep } from "./rollouts";

/** The middle of the page while nothing is open: the groups of a step, or in words why there are none. */
export function Overview({ run, runKey, steps, matching, problem, step, discarded }: { run: Run | undefined; runKey: string; steps: Step[] | null; matching: Step[] | null; problem: ApiError | null; step: number | null | undefined; discarded: boolean }) {
  const figures = matching?.find((one) => one.step === step);
  const listed = figures ? (discarded ? figures.discarded : figures.kept) : 0;
  const every = everyStep();
  return (
    <>
      <h1>{discarded ? "Discarded rollouts" : "Rollouts"}{every ? <small class="note"> all steps</small> : typeof step === "number" && <small class="note"> step {step}</small>}</h1>
      {discarded && !every && <Discards runKey={runKey} step={step} steps={steps} />}
      {problem ? <Problem error={problem} />
        : !steps || !matching ? <p class="empty">Opening…</p>
        : !steps.length ? <p class="empty">No rollouts yet. They appear here as they are recorded.</p>
        : every ? <StepTable run={run} steps={matching} page={discarded ? "discarded" : "rollouts"} />
        : listed > 0 ? (
          <>
            {!discarded && <StepFigures run={run} steps={matching} step={step ?? null} />}
            <p class="note">Select a group to compare its samples, or a sample to read it. <kbd>?</kbd> shows the keys.</p>
            <Cards run={run} runKey={runKey} step={step} discarded={discarded} />
          </>
        ) : <Nothing step={step ?? null} figures={steps.find((one) => one.step === step)} discarded={discarded} />}
    </>
  );
}

function ofStep(step: number | null): string {
  return step === null ? "of this run" : `of step ${step}`;
}

/** Why a list is empty, and the way to where the rollouts are. */
export function Nothing({ step, figures, discarded }: { step: number | null; figures: Step | undefined; discarded: boolean }) {
  const there = figures ? (discarded ? figures.discarded : figures.kept) : 0;
  if (address.value.filter && there > 0)
    return <Said text={`No ${discarded ? "discarded " : ""}rollout ${ofStep(step)} matches the filter.`}><button type="button" onClick={() => go(at({ filter: undefined }))}>Clear the filter</button></Said>;
  const all = figures?.rollouts ?? 0;
  if (discarded) return <Said text={`No rollout ${ofStep(step)} was discarded.`}>{all > 0 && <Link to={toStep(step, "rollouts")} class="button">Open its {all.toLocaleString("en")} {all === 1 ? "rollout" : "rollouts"}</Link>}</Said>;
  const text = all === 1 ? `The only rollout ${ofStep(step)} was discarded.` : `All ${all.toLocaleString("en")} rollouts ${ofStep(step)} were discarded.`;
  return <Said text={text}><Link to={toStep(step, "discarded")} class="button">Open the discarded rollouts</Link></Said>;
}

export function MissingStep({ steps, value, inList = false }: { steps: Step[]; value: string; inList?: boolean }) {
  const near = nearest(steps, Number(value));
  return (
    <Said heading={!inList} text={steps.length ? noStep(steps, value) : "This run has no rollouts yet."}>
      {near !== null && <Link to={toStep(near)} class="button">Open step {near}</Link>}
      {near === null && steps.length > 0 && <Link to={at({ step: undefined, group: undefined, sample: undefined })} class="button">Open its rollouts</Link>}
    </Said>
  );
}

/** A group without samples on this page: on the other one, in another step, or nowhere. */
export function MissingGroup({ runKey, group, step, discarded }: { runKey: string; group: string; step: number | null; discarded: boolean }) {
  const { value } = useRequest<GroupStep[]>("group_steps", { run: runKey, group });
  if (!value) return <p class="empty">Opening…</p>;
  const here = value.find((one) => one.step === step);
  if (here) {
    const count = discarded ? here.kept : here.discarded;
    return <Said heading text={discarded ? `No sample of group ${group} was discarded.` : `All ${count} samples of group ${group} were discarded.`}><Link to={at({ page: discarded ? "rollouts" : "discarded" })} class="button">Open them</Link></Said>;
  }
  const place = step === null ? "among the rollouts without a step" : `in step ${step}`;
  return (
    <Said heading text={value.length ? `There is no group ${group} ${place} of this run.` : `There is no group ${group} in this run.`}>
      {value.slice(0, 6).map((one) => <Link key={one.step} to={at({ step: one.step === null ? "none" : String(one.step), page: one.kept ? "rollouts" : "discarded" })} class="button">{one.step === null ? "Open it without a step" : `Open it in step ${one.step}`}</Link>)}
      <Link to={at({ group: undefined })} class="button">All groups of this step</Link>
    </Said>
  );
}

/** A message in the place of what is not there; a heading where the page has no other. */
function Said({ text, heading = false, children }: { text: string; heading?: boolean; children?: ComponentChildren }) {
  return <div class="empty said-so">{heading ? <h1>{text}</h1> : <p role="status">{text}</p>}<p class="line">{children}</p></div>;
}
