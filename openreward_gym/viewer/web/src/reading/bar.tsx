import { address, at, go } from "../address";
import { shared } from "../api";
import { Check, Menu, Reward } from "../components";
import { goodness, titleCase } from "../numbers";
import { HitBar } from "../searching/hits";
import { render } from "../settings";
import type { Extensions } from "./extensions";
import { Errors, Outline, type Stop, TurnMap } from "./outline";
import { Saving } from "./saving";
import { endOf } from "./words";
import type { Card, Opened, Range } from "../types";

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

function Siblings({ id, siblings }: { id: string; siblings: Card[] }) {
  const place = siblings.findIndex((card) => card.id === id);
  if (siblings.length < 2 || place < 0) return null;
  const to = (index: number) => go(at({ sample: siblings[index]!.id, message: undefined }));
  return (
    <span class="siblings">
      <button type="button" aria-label="Previous sample" title="Previous sample of the group (←)" disabled={place === 0} onClick={() => to(place - 1)}>‹</button>
      <span>{place + 1}/{siblings.length}</span>
      <button type="button" aria-label="Next sample" title="Next sample of the group (→)" disabled={place === siblings.length - 1} onClick={() => to(place + 1)}>›</button>
    </span>
  );
}

export interface BarProps {
  opened: Opened; siblings: Card[]; range: Range | null; stops: Stop[]; title: string; extensions: Extensions | null; hasTokens: boolean;
  collapse: () => void; expand: () => void;
}

/** What stays in view: the title once the headline is out of view, reward, end, the outline and the map of turns, and how the sample is shown. */
export function Bar({ opened, siblings, range, stops, title, extensions, hasTokens, collapse, expand }: BarProps) {
  const { rollout } = opened;
  const view = address.value.view;
  const views = [...(hasTokens ? [["tokens", "Tokens"]] : []), ["raw", "Raw"], ...(extensions?.lens.length ? [["lens", "Export lens"]] : []), ...(shared ? [] : [["replay", "Replay check"]])] as [string, string][];
  return (
    <div class="samplebar">
      <HitBar />
      <p class="stuck-title" dir="auto" aria-hidden="true" title={title}>{title}</p>
      <div class="bar-lines">
        <div class="line outcome" role="group" aria-label="Outcome">
          <Reward label="Reward" value={rollout.reward ?? null} good={goodness(rollout.reward ?? null, range)} />
          <span class={`status ${rollout.status}`}>{endOf(rollout)}</span>
          {rollout.discard_reason && <span class="badge" dir="auto">Discarded: {titleCase(rollout.discard_reason)}</span>}
          <Siblings id={rollout.id} siblings={siblings} />
        </div>
        <div class="bar" role="toolbar" aria-label="How the sample is shown">
          <Errors stops={stops} />
          <Outline stops={stops} range={range} />
          <RenderMenu />
          {views.map(([name, label]) => (
            <button type="button" key={name} aria-pressed={view === name} onClick={() => go(at({ view: view === name ? undefined : name }), true)}>{label}</button>
          ))}
          <button type="button" onClick={collapse}>Collapse all</button>
          <button type="button" onClick={expand}>Expand all</button>
          <Saving opened={opened} expand={expand} />
        </div>
      </div>
      <TurnMap stops={stops} range={range} />
    </div>
  );
}
