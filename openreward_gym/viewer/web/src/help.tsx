import { useEffect, useRef } from "preact/hooks";
import { shared } from "./api";

const KEYS: [string, string][] = [
  ["n, p", "next, previous turn; with a search open, n and N: next, previous hit"],
  ["n, p", "of two rollouts side by side: next, previous difference"],
  ["j, k", "next, previous message"],
  ["e, E", "next, previous error"],
  ["r, R", "next, previous reward"],
  ["←, →", "previous, next sample of the group"],
  ["[, ]", "previous, next step"],
  ["/", "search"],
  ...(shared ? [] : [["f", "filter"] as [string, string]]),
  ["s, m", "show or hide the samples, the metrics"],
  ["1 – 5, 0", "rate the sample, remove the rating"],
  ["l", "write a note"],
  ["t", "light, dark"],
  ["Esc", "close; leave the sample"],
  ["?", "show these keys"],
];

/** The dialog of the keys. It holds the focus until it is closed, and gives it back. */
export function Help({ closed }: { closed: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const node = dialog.current!;
    node.showModal();
    return () => node.close();
  }, []);
  return (
    <dialog
      class="help" ref={dialog} aria-label="Keys" onClose={closed}
      onClick={(event) => { if (event.target === dialog.current) dialog.current!.close(); }}
      onKeyDown={(event) => {
        // The only button: Tab would lead to the browser's own bars.
        if (event.key === "Tab") event.preventDefault();
      }}
    >
      <div class="help-inside">
        <h2>Keys</h2>
        <dl>{KEYS.map(([key, action]) => <div key={key}><dt>{key.split(", ").map((one, index) => <>{index > 0 && " "}<kbd>{one}</kbd></>)}</dt><dd>{action}</dd></div>)}</dl>
        <button type="button" autofocus onClick={() => dialog.current!.close()}>Close</button>
      </div>
    </dialog>
  );
}
