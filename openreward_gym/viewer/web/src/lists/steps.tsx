import { useEffect, useRef, useState } from "preact/hooks";
import { address, at, everyStep, go, stepKey } from "../address";
import { Link } from "../components";
import type { Step } from "../types";

const ELSEWHERE = { group: undefined, sample: undefined, message: undefined, view: undefined, from: undefined, steps: undefined } as const;

/** The place of the list over all steps. */
export function toEveryStep(page?: string) {
  return at({ ...(page ? { page } : {}), ...ELSEWHERE, step: undefined, steps: "all" });
}

/** The place of another step in the address. */
export function toStep(step: number | null, page?: string) {
  return at({ ...(page ? { page } : {}), step: stepKey(step), ...ELSEWHERE });
}

/** The step that the address names, or else the latest; `missing` is what it names and the run does not have. */
export function chosenStep(steps: Step[] | null, value: string | undefined, discarded: boolean): { step: number | null | undefined; missing?: string } {
  if (!steps?.length) return { step: undefined, missing: steps && value !== undefined ? value : undefined };
  if (value === undefined) {
    const some = discarded ? steps.filter((one) => one.discarded > 0) : steps;
    return { step: (some.length ? some : steps).at(-1)!.step };
  }
  const wanted = value === "none" ? null : /^-?\d+$/.test(value) ? Number(value) : NaN;
  return steps.some((one) => one.step === wanted) ? { step: wanted } : { step: undefined, missing: value };
}

export function nearest(steps: Step[], wanted: number): number | null {
  const numbers = steps.map((one) => one.step).filter((step) => step !== null);
  if (!numbers.length) return null;
  if (Number.isNaN(wanted)) return numbers.at(-1)!;
  return numbers.reduce((best, step) => (Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best));
}

/** "There is no step 99 in this run; steps go from 0 to 26." */
export function noStep(steps: Step[], value: string): string {
  const numbers = steps.map((one) => one.step).filter((step) => step !== null);
  const range = numbers.length > 1 ? `; steps go from ${numbers[0]} to ${numbers.at(-1)}` : numbers.length ? `; its only step is ${numbers[0]}` : "; its rollouts have no steps";
  return value === "none" ? `All rollouts of this run have a step${range}.` : `There is no step ${value.slice(0, 40)} in this run${range}.`;
}

/** Moves by step; a number that is no step is refused with a message. */
export function Steps({ steps, step: open }: { steps: Step[] | null; step: number | null | undefined }) {
  const every = everyStep();
  const step = every ? undefined : open;
  const known = (steps ?? []).map((one) => one.step);
  const index = step === undefined ? -1 : known.indexOf(step);
  const [typed, setTyped] = useState<string | null>(null);
  const [refused, setRefused] = useState("");
  useEffect(() => setRefused(""), [step]);
  const to = (number: number) => go(toStep(known[number]!));
  const take = () => {
    const text = typed?.trim() ?? "";
    if (text.toLowerCase() === "all") go(toEveryStep());
    const found = text === "" ? -1 : known.indexOf(Number(text));
    if (found >= 0) to(found);
    setRefused(text !== "" && text.toLowerCase() !== "all" && found < 0 ? noStep(steps ?? [], text) : "");
    setTyped(null);
  };
  if (known.length === 0 || (known.length === 1 && known[0] === null)) return null;
  const last = known.at(-1);
  return (
    <>
      <div class="steps" role="group" aria-label="Training step">
        <button type="button" aria-label="First step" disabled={index === 0 || (index < 0 && every)} onClick={() => to(0)}>«</button>
        <button type="button" aria-label="Previous step" disabled={index <= 0} onClick={() => to(index - 1)}>‹</button>
        <label>Step <input aria-label="Step" inputMode="numeric" placeholder={every ? "all" : undefined} value={typed ?? (step === null || step === undefined ? "" : String(step))} onInput={(event) => setTyped(event.currentTarget.value)} onBlur={take} onKeyDown={(event) => { if (event.key === "Enter") take(); if (event.key === "Escape") setTyped(null); }} /></label>
        <span class="of">of {last ?? "–"}</span>
        <button type="button" aria-label="Next step" disabled={index < 0 || index >= known.length - 1} onClick={() => to(index + 1)}>›</button>
        <button type="button" aria-label="Last step" disabled={index >= known.length - 1 || (index < 0 && every)} onClick={() => to(known.length - 1)}>»</button>
        <span class="space" />
        <button type="button" aria-pressed={every} title={every ? "List one step" : "List the rollouts of all steps"} onClick={() => go(every ? toStep(open ?? last ?? null) : toEveryStep())}>All steps</button>
      </div>
      {refused && <p class="notice" role="status">{refused}</p>}
      <Arrived steps={steps} step={step} />
    </>
  );
}

/** Says that a step has come since the reader was last at the end; what is open stays open. */
function Arrived({ steps, step }: { steps: Step[] | null; step: number | null | undefined }) {
  const last = steps?.at(-1)?.step ?? null;
  const known = useRef<number | null>(last);
  if (step === last || known.current === null) known.current = last;
  if (last === null || known.current === null || last <= known.current) return null;
  return <p class="notice" role="status"><Link to={toStep(last, address.value.page)}>Step {last} has arrived</Link></p>;
}

const LISTED = 8;

/** In which other steps rollouts match the filter. */
export function Matches({ matching, step, discarded }: { matching: Step[]; step: number | null | undefined; discarded: boolean }) {
  const every = everyStep();
  const fate = discarded ? matching.reduce((sum, one) => sum + one.kept, 0) : matching.reduce((sum, one) => sum + one.discarded, 0);
  const apart = fate > 0 && <Link to={toEveryStep(discarded ? "rollouts" : "discarded")}>{fate.toLocaleString("en")} {discarded ? "kept" : "discarded"}</Link>;
  const found = matching.map((one) => ({ step: one.step, count: discarded ? one.discarded : one.kept })).filter((one) => one.count > 0);
  const others = found.filter((one) => one.step !== step);
  if (every || !others.length) return apart ? <p class="notice">{apart} match, too</p> : null;
  const total = found.reduce((sum, one) => sum + one.count, 0);
  const near = [...others].sort((a, b) => Math.abs((a.step ?? 0) - (step ?? 0)) - Math.abs((b.step ?? 0) - (step ?? 0))).slice(0, LISTED).sort((a, b) => (a.step ?? -1) - (b.step ?? -1));
  return (
    <p class="notice">{total.toLocaleString("en")} match in {found.length.toLocaleString("en")} {found.length === 1 ? "step" : "steps"}; also in {near.map((one, index) => (
      <span key={one.step}>{index > 0 && ", "}<Link to={toStep(one.step)}>{one.step === null ? "those without a step" : `step ${one.step}`}</Link> ({one.count})</span>
    ))}{others.length > near.length && " and others"}. <Link to={toEveryStep()}>List all</Link>{apart && <>, and {apart}</>}</p>
  );
}
