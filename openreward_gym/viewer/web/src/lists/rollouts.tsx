import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { address, at, formatAddress, go } from "../address";
import { Sidecharts } from "../charts/metrics";
import { shared, useRequest } from "../api";
import { goodness, shade } from "../numbers";
import { Link, Reward } from "../components";
import { GroupView } from "../comparing/group";
import { Panes } from "../reading/panes";
import { rangeOf } from "../reading/ranges";
import { Sample } from "../reading/sample";
import { Sidebar, stepOf } from "./sidebar";
import type { Card, Listing, Opened, Run, Step } from "../types";

/** The pages `Rollouts` and `Discarded rollouts`: samples on the left, one of them in the middle, metrics on the right. */
export function Rollouts({ run, discarded }: { run: Run | undefined; discarded: boolean }) {
  const { run: runKey = "", filter = "", sample } = address.value;
  const steps = useRequest<Step[]>("steps", { run: runKey, discarded, filter });
  const step = stepOf(steps.value, address.value.step);
  const group = address.value.group;
  const cards = useRequest<Card[]>(group !== undefined && step !== undefined ? "group" : null, { run: runKey, group, step: step ?? "", discarded });
  const place = useRef<HTMLElement>(null);
  useScroll(place, formatAddress({ page: address.value.page, run: runKey, step: String(step), group, sample, view: address.value.view }));
  usePlace(runKey, sample);
  const siblings = (cards.value ?? []).slice();
  return (
    <Panes
      reading={sample !== undefined} place={sample ?? group}
      list={<Sidebar run={run} runKey={runKey} discarded={discarded} steps={steps.value} step={step} stepsError={steps.error} />}
      charts={<Sidecharts run={run} step={step ?? null} />}
    >
      <main id="content" class="middle" ref={place} tabIndex={-1}>
        {sample ? <Sample run={run} id={sample} siblings={siblings} />
          : group !== undefined ? <GroupView run={run} runKey={runKey} cards={cards.value} error={cards.error} />
          : <Overview run={run} runKey={runKey} step={step} discarded={discarded} />}
      </main>
    </Panes>
  );
}

const CARDS = 60;

/** The groups of a step as cards: the beginning of the prompt and the rewards of the samples. */
function Overview({ run, runKey, step, discarded }: { run: Run | undefined; runKey: string; step: number | null | undefined; discarded: boolean }) {
  const parameters = { run: runKey, step: step ?? "", discarded, filter: address.value.filter ?? "" };
  const { value } = useRequest<Listing>(step === undefined ? null : "list", parameters, true);
  const range = rangeOf(run, "reward");
  return (
    <>
      <h1>{discarded ? "Discarded rollouts" : "Rollouts"}{typeof step === "number" && <small class="note"> step {step}</small>}</h1>
      <p class="note">Select a group to compare its samples, or a sample to read it. <kbd>?</kbd> shows the keys.</p>
      <div class="cards">
        {value?.groups.slice(0, CARDS).map((group) => {
          const rewards = group.cards.map((card) => card.reward).filter((reward): reward is number => typeof reward === "number");
          const mean = rewards.length ? rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length : null;
          return (
            <Link key={group.group} to={at({ group: group.group, sample: undefined, view: undefined, message: undefined })} class="card">
              <span class="prompt" dir="auto">{group.prompt || "(no prompt)"}</span>
              <span class="dots" aria-hidden="true">{group.cards.slice(0, 32).map((card) => <i key={card.id} class={shade(goodness(card.reward, range))} />)}</span>
              <span class="line"><span class="note">{group.cards.length} {group.cards.length === 1 ? "sample" : "samples"}</span><span class="space" /><Reward label="Mean" value={mean} good={goodness(mean, range)} /></span>
            </Link>
          );
        })}
      </div>
      {value && value.groups.length > CARDS && <p class="note">The first {CARDS} of {value.groups.length} groups; all are in the list of samples.</p>}
    </>
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

/** Add step and group to an address that has a sample only, as the recorder prints it. */
function usePlace(run: string, sample: string | undefined): void {
  const { group, step } = address.value;
  const missing = sample !== undefined && (group === undefined || step === undefined);
  const asked = shared ? "rollout" : "place";
  const { value } = useRequest<Pick<Opened, "place"> | { place: null }>(missing ? asked : null, { run, id: sample }, (answer) => !answer?.place);
  useEffect(() => {
    if (!value?.place || !missing) return;
    const { discarded, step, group } = value.place;
    go(at({ page: discarded ? "discarded" : "rollouts", step: step === null ? "none" : String(step), group }), true);
  }, [value, missing]);
}
