import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { type Address, address, at, formatAddress as hrefOf, go } from "../address";
import { goodness, shown } from "../numbers";
import { Link, Reward } from "../components";
import type { Range } from "../types";
import { choiceOf, type Order, type Show, sortTasks } from "./ordering";
import { type Comparison, Mark, signed, type TaskRow } from "./runs";

const PAGE = 100;

/** The rewards of each task in each run. A click on a reward opens two rollouts of the task side by side. */
export function Tasks({ comparison, range }: { comparison: Comparison; range: (key: string) => Range }) {
  const keys = comparison.runs.map((run) => run.key);
  const { against, show, order, contains = "" } = address.value;
  const second = Math.max(1, against ? keys.indexOf(decodeURIComponent(against)) : 1);
  const wanted = (show ?? "all") as Show;
  const chosen = order ?? (keys.length > 2 ? "-spread" : "-size");
  const rows = useMemo(() => sortTasks(choiceOf(comparison, wanted, second, contains), chosen, second), [comparison, wanted, second, contains, chosen]);
  const [page, setPage] = useState(0);
  useEffect(() => setPage(0), [wanted, second, contains, chosen, address.value.runs]);
  const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
  const now = Math.min(page, last);
  const from = now * PAGE;
  return (
    <section class="by-task" aria-labelledby="by-task">
      <h2 id="by-task">Task by task</h2>
      <Controls comparison={comparison} second={second} show={wanted} contains={contains} />
      {comparison.common === 0 && <p class="note">The runs share no task with a reward.</p>}
      {rows.length === 0 ? (comparison.common > 0 || wanted === "alone") && <p class="empty">No task is like this.</p> : (
        <>
          <div class="scroll" tabIndex={0} role="group" aria-label="Tasks"><table class="tasks">
            <Head keys={keys} order={chosen} second={second} />
            <tbody>{rows.slice(from, from + PAGE).map((row) => <Row key={row.task} row={row} keys={keys} second={second} range={range} />)}</tbody>
          </table></div>
          <div class="line pages">
            <span class="note" role="status">{(from + 1).toLocaleString("en")}–{Math.min(rows.length, from + PAGE).toLocaleString("en")} of {rows.length.toLocaleString("en")} tasks</span>
            {last > 0 && ([["First page", "«", 0], ["Previous page", "‹", now - 1], ["Next page", "›", now + 1], ["Last page", "»", last]] as [string, string, number][]).map(([name, sign, to]) => (
              <button type="button" key={name} aria-label={name} disabled={to < 0 || to > last || to === now} onClick={() => setPage(to)}>{sign}</button>
            ))}
          </div>
        </>
      )}
      {comparison.tasks.length < comparison.common && <p class="note">{comparison.tasks.length.toLocaleString("en")} of {comparison.common.toLocaleString("en")} shared tasks: those in which the runs differ most.</p>}
    </section>
  );
}

function Controls({ comparison, second, show, contains }: { comparison: Comparison; second: number; show: Show; contains: string }) {
  const keys = comparison.runs.map((run) => run.key);
  const other = comparison.runs[second]!;
  const tied = comparison.tasks.length;
  const options: [Show, string][] = [
    ["all", `All shared tasks (${tied.toLocaleString("en")})`], ["worse", `${keys[0]} better`], ["better", `${other.key} better`], ["differ", "They differ"],
    ["alone", `In one run only (${comparison.only.toLocaleString("en")})`],
  ];
  return (
    <div class="line controls">
      <label>Show <select value={show} onChange={(event) => go(at({ show: event.currentTarget.value === "all" ? undefined : event.currentTarget.value }), true)}>{options.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>
      {keys.length > 2 && <label>{keys[0]} against <select aria-label={`${keys[0]} against`} value={other.key} onChange={(event) => go(at({ against: encodeURIComponent(event.currentTarget.value) }), true)}>{keys.slice(1).map((key) => <option key={key} value={key}>{key}</option>)}</select></label>}
      <label>Prompt <input type="search" value={contains} placeholder="Text of the prompt" onInput={(event) => go(at({ contains: event.currentTarget.value || undefined }), true)} /></label>
    </div>
  );
}

/** The heads of the columns, which sort: first in the order that is most useful, then in the other one. */
function Head({ keys, order, second }: { keys: string[]; order: string; second: number }) {
  const column = (name: Order, label: ComponentChildren, number: boolean, title?: string) => {
    const current = order.replace(/^-/, "") === name;
    const descending = order.startsWith("-");
    const next = current ? (descending ? name : `-${name}`) : number ? `-${name}` : name;
    return (
      <th scope="col" key={name} class={number ? "num" : undefined} aria-sort={current ? (descending ? "descending" : "ascending") : undefined} title={title}>
        <button type="button" class="sort" onClick={() => go(at({ order: next }), true)}>{label}{current && <span aria-hidden="true"> {descending ? "↓" : "↑"}</span>}</button>
      </th>
    );
  };
  return (
    <thead><tr>
      {column("task", "Task", false)}
      {keys.map((key, index) => column(`run${index}`, <span dir="auto"><Mark index={index} /> {key}</span>, true))}
      {column("difference", "Difference", true, `${keys[second]} − ${keys[0]}`)}
      {keys.length > 2 ? column("spread", "Spread", true) : column("size", "Size", true, "The size of the difference, without its sign")}
    </tr></thead>
  );
}

function Row({ row, keys, second, range }: { row: TaskRow; keys: string[]; second: number; range: (key: string) => Range }) {
  const name = row.prompt || row.task;
  const difference = row.rewards[0] != null && row.rewards[second] != null ? row.rewards[second]! - row.rewards[0]! : null;
  const pair = (index: number): Address => ({ page: "pair", runs: [keys[0]!, keys[index]!].map(encodeURIComponent).join(","), task: row.task });
  return (
    <tr>
      <th scope="row"><Link to={{ page: "task", task: row.task, run: keys[row.counts.findIndex(Boolean)] }} title={row.prompt}><span class="prompt" dir="auto">{name}</span></Link><small class="note">{row.environment}{row.index !== null ? ` ${row.index}` : ""}</small></th>
      {row.rewards.map((reward, index) => {
        const other = index === 0 ? second : index;
        const open = reward !== null && row.rewards[0] != null && row.rewards[other] != null;
        const what = <><Reward label="" value={reward} good={goodness(reward, range(keys[index]!))} /> <small class="note">×{row.counts[index]}</small></>;
        const label = `${keys[index]}, ${name.slice(0, 80)}: mean reward ${shown(reward)} of ${row.counts[index]} ${row.counts[index] === 1 ? "rollout" : "rollouts"}; side by side with ${keys[index === 0 ? other : 0]}`;
        return <td class="num" key={index}>{open ? <a class="cell-link" href={hrefOf(pair(other))} aria-label={label}>{what}</a> : what}</td>;
      })}
      <td class="num">{difference !== null ? <a class="cell-link" href={hrefOf(pair(second))} aria-label={`Difference ${signed(difference)}, ${name.slice(0, 80)}: side by side`}>{signed(difference)}</a> : "–"}</td>
      <td class="num">{shown(keys.length > 2 ? row.spread : difference === null ? null : Math.abs(difference))}</td>
    </tr>
  );
}
