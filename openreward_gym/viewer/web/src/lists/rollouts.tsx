import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { address, at, everyStep, formatAddress, go, stepKey } from "../address";
import { Sidecharts } from "../charts/metrics";
import { shared, useRequest } from "../api";
import { GroupView } from "../comparing/group";
import { Panes } from "../reading/panes";
import { Sample } from "../reading/sample";
import { Sidebar } from "./sidebar";
import { MissingGroup, MissingStep, Overview } from "./states";
import { chosenStep } from "./steps";
import type { Card, Opened, Run, Step } from "../types";

/** The pages `Rollouts` and `Discarded rollouts`: samples on the left, one of them in the middle, metrics on the right. */
export function Rollouts({ run, discarded, indexed }: { run: Run | undefined; discarded: boolean; indexed: boolean }) {
  const { run: runKey = "", filter = "", sample } = address.value;
  const steps = useRequest<Step[]>("steps", { run: runKey, discarded });
  const matching = useRequest<Step[]>(filter ? "steps" : null, { run: runKey, discarded, filter });
  const { step, missing } = chosenStep(steps.value, address.value.step, discarded);
  const group = address.value.group;
  usePinned(indexed && step !== undefined && !everyStep() ? step : undefined, steps.value);
  const lost = useGroupStep(runKey, group, discarded);
  const cards = useRequest<Card[]>(group !== undefined && step !== undefined && address.value.step !== undefined ? "group" : null, { run: runKey, group, step: step ?? "", discarded });
  const place = useRef<HTMLElement>(null);
  useScroll(place, formatAddress({ page: address.value.page, run: runKey, step: everyStep() && !sample && group === undefined ? "all" : String(step), group, sample, view: address.value.view }));
  usePlace(runKey, sample);
  const siblings = (cards.value ?? []).slice();
  return (
    <Panes
      reading={sample !== undefined || group !== undefined} place={sample ?? group}
      list={<Sidebar run={run} runKey={runKey} discarded={discarded} steps={steps.value} step={step} missing={missing} matching={matching.value} stepsError={matching.error ?? steps.error} />}
      charts={<Sidecharts run={run} step={everyStep() && !sample && group === undefined ? null : step ?? null} />}
    >
      <main id="content" class="middle" ref={place} tabIndex={-1}>
        {sample ? <Sample run={run} id={sample} siblings={siblings} />
          : missing !== undefined && steps.value ? <MissingStep steps={steps.value} value={missing} />
          : group !== undefined && (lost || cards.value?.length === 0) ? <MissingGroup runKey={runKey} group={group} step={step ?? null} discarded={discarded} />
          : group !== undefined ? <GroupView run={run} runKey={runKey} cards={cards.value} error={cards.error} />
          : <Overview run={run} runKey={runKey} steps={steps.value} matching={filter ? matching.value : steps.value} problem={matching.error ?? steps.error} step={step} discarded={discarded} />}
      </main>
    </Panes>
  );
}

const scrolled = new Map<string, number>();

/** Restore the scroll position when the reader goes back. */
function useScroll(box: { current: HTMLElement | null }, key: string): void {
  useLayoutEffect(() => {
    const node = box.current;
    if (!node) return;
    const position = scrolled.get(key) ?? 0;
    node.scrollTop = position;
    // The content is fetched later: the position is restored once the content is tall enough.
    const seen = new ResizeObserver(() => {
      if (position && node.scrollHeight >= position + node.clientHeight) {
        node.scrollTop = position;
        seen.disconnect();
      }
    });
    if (position && node.scrollTop < position && node.firstElementChild) seen.observe(node.firstElementChild);
    const keep = () => scrolled.set(key, node.scrollTop);
    const timer = window.setTimeout(() => node.addEventListener("scroll", keep, { passive: true }), 100);
    return () => {
      window.clearTimeout(timer);
      seen.disconnect();
      node.removeEventListener("scroll", keep);
    };
  }, [key]);
}

/** Put the step that is open into an address without one, so that it stays open when another step arrives. */
function usePinned(step: number | null | undefined, steps: Step[] | null): void {
  const { step: named, sample, group } = address.value;
  const plain = steps?.length === 1 && step === null;
  const pins = step !== undefined && named === undefined && sample === undefined && group === undefined && !plain;
  useEffect(() => {
    if (pins) go(at({ step: stepKey(step!) }), true);
  }, [pins, step]);
}

export interface GroupStep { step: number | null; kept: number; discarded: number }

/** Add the step to an address that has a group only: the group's own. Returns whether there is no such group. */
function useGroupStep(run: string, group: string | undefined, discarded: boolean): boolean {
  const missing = group !== undefined && address.value.step === undefined && address.value.sample === undefined;
  const { value } = useRequest<GroupStep[]>(missing ? "group_steps" : null, { run, group }, (steps) => !steps?.length);
  useEffect(() => {
    if (!missing || !value?.length) return;
    const own = value.find((one) => (discarded ? one.discarded : one.kept) > 0) ?? value[0]!;
    go(at({ page: (discarded ? own.discarded : own.kept) > 0 ? address.value.page : discarded ? "rollouts" : "discarded", step: stepKey(own.step) }), true);
  }, [value, missing]);
  return missing && value?.length === 0;
}

/** Add step and group to an address that has a sample only, as the recorder prints it. */
function usePlace(run: string, sample: string | undefined): void {
  const { group, step } = address.value;
  const missing = sample !== undefined && (group === undefined || step === undefined);
  const asked = shared ? "rollout" : "place";
  const { value } = useRequest<Pick<Opened, "place"> | { place: null }>(missing ? asked : null, { run, id: sample }, (answer) => !answer?.place);
  useEffect(() => {
    if (!value?.place || !missing) return;
    const { discarded, step, group } = value.place;
    go(at({ page: discarded ? "discarded" : "rollouts", step: stepKey(step), group }), true);
  }, [value, missing]);
}
