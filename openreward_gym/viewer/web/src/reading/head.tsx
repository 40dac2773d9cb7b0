import { useState } from "preact/hooks";
import { address, at } from "../address";
import { advantageRange, finite, goodness, seconds, shown } from "../numbers";
import { formatSide } from "../comparing/choosing";
import { Link, Reward } from "../components";
import { ErrorText } from "../text/blocks";
import { rangeOf } from "./ranges";
import { durationOf } from "./rollout";
import { headlineOf } from "./words";
import type { Card, Num, Opened, Rollout, Run } from "../types";

const METRICS = 6;

function Fact({ name, value, title }: { name: string; value: unknown; title?: string }) {
  if (value === null || value === undefined || value === "") return null;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return <div><dt>{name}</dt><dd dir="auto" title={title ?? (text.length > 120 ? text.slice(0, 2000) : undefined)}>{text.slice(0, 600)}</dd></div>;
}

/** A value that fits beside others; the whole one is at the end of the rollout. */
function brief(value: unknown): unknown {
  return typeof value === "number" || (typeof value === "string" && value.length <= 60 && !value.includes("\n")) ? value : null;
}

/** Where the sample belongs: its group, its task. */
export function Crumbs({ run, rollout, siblings }: { run: string; rollout: Rollout; siblings: Card[] }) {
  return (
    <p class="crumbs line">
      {address.value.group !== undefined && <Link to={at({ sample: undefined, view: undefined, message: undefined })}>‹ <span dir="auto">{address.value.group}</span>, all samples</Link>}
      <span class="space" />
      <Link to={{ page: "pair", left: formatSide({ run, id: rollout.id }) }}>Compare</Link>
      {siblings.length > 1 && <Link to={at({ page: address.value.page, sample: undefined, view: "divergence" })}>Divergence</Link>}
      {rollout.task?.id && <Link to={at({ page: "task", task: rollout.task.id, sample: undefined })}>Task history</Link>}
    </p>
  );
}

export function Headline({ rollout }: { rollout: Rollout }) {
  return <h1 dir="auto">{headlineOf(rollout)}</h1>;
}

function Metrics({ entries, run }: { entries: [string, Num][]; run: Run | undefined }) {
  const [all, setAll] = useState(false);
  const more = entries.length - METRICS;
  const shownOnes = all || more <= 0 ? entries : entries.slice(0, METRICS);
  return (
    <>
      {shownOnes.map(([name, value]) => <Reward key={name} label={name} value={value} good={goodness(value, rangeOf(run, name))} />)}
      {more > 0 && <button type="button" class="quiet" aria-expanded={all} onClick={() => setAll(!all)}>{all ? "Fewer metrics" : `${more} more ${more === 1 ? "metric" : "metrics"}`}</button>}
    </>
  );
}

/** The figures and facts of a rollout. Its reward and its end are in the bar. */
export function Facts({ opened, run, siblings }: { opened: Opened; run: Run | undefined; siblings: Card[] }) {
  const { rollout } = opened;
  const env = rollout.environment ?? {};
  const usage = rollout.usage ?? {};
  const model = rollout.model ?? {};
  const metrics = Object.entries(rollout.metrics ?? {});
  return (
    <>
      {(rollout.advantage != null || metrics.length > 0) && (
        <div class="rewards" role="group" aria-label="Metrics of the sample">
          {rollout.advantage != null && <Reward label="Advantage" value={rollout.advantage} good={goodness(rollout.advantage, advantageRange(siblings.length))} />}
          <Metrics entries={metrics} run={run} />
        </div>
      )}
      <dl class="facts">
        <Fact name="Environment" value={[env.name, env.variant].filter(Boolean).join(" / ")} />
        <Fact name="Split" value={env.split} />
        <Fact name="Task" value={rollout.task?.index} />
        <Fact name="Golden answer" value={brief(rollout.task?.golden_answer)} />
        <Fact name="Step" value={rollout.step} />
        <Fact name="Model" value={model.name ?? model.model_name} />
        <Fact name="Time" value={rollout.started_at ? `${rollout.started_at.slice(0, 19).replace("T", " ")} UTC, ${seconds(durationOf(rollout.started_at, rollout.ended_at))}` : null} />
        <Fact name="Tokens" value={usage.input_tokens != null || usage.output_tokens != null ? `${tokens(usage.input_tokens)} in, ${tokens(usage.output_tokens)} out` : null} />
        <Fact name="Cost" value={finite(rollout.cost_usd) === null ? null : `$${shown(rollout.cost_usd)}`} />
      </dl>
      <details class="more">
        <summary>All fields of this rollout</summary>
        <dl class="facts wide">
          <Fact name="Name" value={rollout.name} /><Fact name="Id" value={rollout.id} /><Fact name="Run" value={rollout.run} /><Fact name="Group" value={rollout.group} />
          <Fact name="Sample" value={rollout.sample} /><Fact name="Status" value={rollout.status} /><Fact name="Stop reason" value={rollout.stop_reason} /><Fact name="Discarded" value={rollout.discard_reason} />
          <Fact name="Task id" value={rollout.task?.id} /><Fact name="Task spec" value={rollout.task?.spec} /><Fact name="Served at" value={env.origin} />
          <Fact name="Run info" value={rollout.model} /><Fact name="Sampling" value={rollout.sampling} /><Fact name="Seed" value={rollout.seed} />
          <Fact name="Final reward" value={rollout.final_reward} /><Fact name="Timing" value={rollout.timing} /><Fact name="Tools" value={rollout.tools} />
          <Fact name="Versions" value={rollout.versions} /><Fact name="Metadata" value={rollout.metadata} />
        </dl>
      </details>
      {rollout.error && <ErrorText text={rollout.error} />}
    </>
  );
}

function tokens(count: number | null | undefined): string {
  return count == null ? "–" : count.toLocaleString("en");
}
