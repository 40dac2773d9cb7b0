import { signal } from "@preact/signals";

/** The page and its parameters: the whole state of the view, kept in the URL fragment. */
export interface Address {
  page: string;
  run?: string; step?: string; group?: string; sample?: string; filter?: string; runs?: string; task?: string; query?: string;
  regex?: string; view?: string; format?: string; message?: string; hit?: string; scope?: string;
  left?: string; right?: string; against?: string; show?: string; order?: string; contains?: string;
  /** The order of a list: a column, with `-` before it from the largest on. */
  sort?: string;
  /** "1" for a list of rollouts without their groups. */
  flat?: string;
  /** "all" for a list over all steps; `step` is then that of what is open. */
  steps?: string;
  /** The number of the first group on the page of groups. */
  from?: string;
}

export const KEYS = [
  "run", "step", "group", "sample", "filter", "runs", "task", "query", "regex", "view", "format", "message", "hit", "scope", "left", "right", "against",
  "show", "order", "contains", "sort", "flat", "steps", "from",
] as const;

export function parseAddress(hash: string): Address {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parameters = new URLSearchParams(query);
  const address: Address = { page: path || "runs" };
  for (const key of KEYS) {
    const value = parameters.get(key);
    if (value !== null && value !== "") address[key] = value;
  }
  if (address.step === "all") [address.step, address.steps] = [undefined, "all"];
  return address;
}

export function formatAddress(address: Address): string {
  const query = KEYS.filter((key) => address[key] && (key !== "format" || address.view === "lens")).map((key) => `${key}=${encodeURIComponent((address[key] as string).toWellFormed())}`);
  return `#/${address.page === "runs" ? "" : address.page}${query.length ? `?${query.join("&")}` : ""}`;
}

export const address = signal<Address>(parseAddress(location.hash));

window.addEventListener("hashchange", () => {
  address.value = parseAddress(location.hash);
});

/** Navigate; `replace` adds no entry to the browser's history. */
export function go(to: Address, replace = false): void {
  const hash = formatAddress(to);
  if (hash === formatAddress(address.value)) return;
  if (replace) {
    history.replaceState(null, "", hash);
    address.value = parseAddress(hash);
  } else location.hash = hash;
}

/** The current address with some parameters changed; undefined removes a parameter. */
export function at(changes: Partial<Address>): Address {
  return { ...address.value, ...changes };
}

/** Whether the list has the rollouts of all steps. */
export function everyStep(): boolean {
  return address.value.steps === "all";
}

/** A step as the address has it: "none" for rollouts without a step. */
export function stepKey(step: number | null): string {
  return step === null ? "none" : String(step);
}
