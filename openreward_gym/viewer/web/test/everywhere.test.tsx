// @vitest-environment jsdom
import { render } from "preact";
import { expect, test } from "vitest";
import { markEverywhere, spelled } from "../src/text/everywhere";

markEverywhere();

function drawn(node: preact.ComponentChild): HTMLElement {
  const box = document.createElement("div");
  render(node, box);
  return box;
}

const marks = (box: HTMLElement) => [...box.querySelectorAll<HTMLElement>(".invisible")].map((node) => node.dataset.mark);

test("invisible characters are marked in every element, and stay in its text", () => {
  const run = "pay\u202Eexe.fdp";
  const box = drawn(<a title={run}>Run {run}, {["a\u200Bb", <b key="b">{"\0"}</b>]}</a>);
  expect(marks(box)).toEqual(["RLO", "ZWSP", "NUL"]);
  expect(box.textContent).toBe(`Run ${run}, a\u200Bb\0`);
  expect(box.querySelector("a")!.title).toBe("pay[RLO]exe.fdp");
});

test("a text that changes keeps its element", () => {
  const box = drawn(<p>plain</p>);
  const node = box.firstChild;
  render(<p>{"now \u2066"}</p>, box);
  expect(box.firstChild).toBe(node);
  expect(marks(box)).toEqual(["LRI"]);
  render(<p>plain</p>, box);
  expect(box.innerHTML).toBe("<p>plain</p>");
});

test("options, fields and emoji stay as they are", () => {
  const box = drawn(<label><select><option value={"x\u200B"}>{"x\u200B"}</option></select><input value={"y\u200B"} /><i>👩\u200D🚀</i></label>);
  expect(box.querySelector("option")!.value).toBe("x\u200B");
  expect(box.querySelector("option")!.textContent).toBe("x[ZWSP]");
  expect(box.querySelector("input")!.value).toBe("y\u200B");
  expect(marks(box)).toEqual([]);
});

test("hints spell what cannot be seen", () => {
  expect(spelled("plain")).toBe("plain");
  expect(spelled("a\u202Eb\0")).toBe("a[RLO]b[NUL]");
});
