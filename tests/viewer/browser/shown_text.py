"""What the page shows of recorded texts, read from its document, to be compared with what is stored.

Formulas are drawn in place of their source; what is compared is their `data-source`. The tags around a thought are shown
as its frame; they are in `data-before` and `data-after`. What the page itself says within a text has `data-ui`.
A short call is one line until it is unfolded: the line is read first, and then its arguments.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page

from openreward_gym.types import AssistantMessage, Message, ReasoningItem, Rollout, TextBlock, ToolCall, ToolMessage

# JSON keeps lone surrogates, which the driver would replace.
READ = """async () => {
  // What is not laid out because it is far from the window would have no visible text.
  for (const node of document.querySelectorAll(".sample > *, .sample .chunk")) node.style.contentVisibility = "visible"
  const shown = node => {
    if (node.nodeType === Node.TEXT_NODE) return node.data
    if (node.nodeType !== Node.ELEMENT_NODE || "ui" in node.dataset) return ""
    if ("source" in node.dataset) return node.dataset.source
    const inside = [...node.childNodes].map(shown).join("")
    return node.matches("details.think") ? (node.dataset.before ?? "") + inside + (node.dataset.after ?? "") : inside
  }
  const about = node => ({
    shown: shown(node), inner: node.innerText, math: node.querySelector(".math") !== null,
    table: node.querySelector("table") !== null,
    json: node.querySelector(".json") !== null, machine: node.querySelector(".tool-text, .plain .machine") !== null,
    thought: node.querySelector("details.think") !== null,
    note: node.querySelector("[data-ui]") !== null,
  })
  const lines = [...document.querySelectorAll(".sample .call > .call-head")].map(head => {
    const line = head.querySelector(".oneline")
    return line && {
      shown: shown(line), inner: line.innerText, name: shown(line.querySelector(".tool")),
      pairs: [...line.querySelectorAll(".key")].map(key => [shown(key), shown(key.parentElement.querySelector("bdi"))]),
    }
  })
  const folded = () => document.querySelectorAll('.sample .call > .call-head > .fold[aria-expanded="false"]')
  for (const button of folded()) button.click()
  while (folded().length) await new Promise(requestAnimationFrame)
  const texts = [...document.querySelectorAll(".sample .block:is([data-type=text], [data-type=reasoning])")].map(about)
  const calls = [...document.querySelectorAll(".sample .arguments")].map(node => node.matches("dl")
    ? [...node.children].map(one => [shown(one.querySelector("dt")), about(one.querySelector("dd"))]) : about(node))
  return JSON.stringify({ texts, calls, lines })
}"""

TOGGLES = ("think", "markdown", "latex", "code")


def choose(page: Page, base: str, off: tuple[str, ...]) -> None:
    """Switch the Render menu's options on, except some, for the pages that are opened next."""
    page.goto(f"{base}/#/")
    chosen = {name: name not in off for name in TOGGLES}
    page.evaluate("value => localStorage.setItem('openreward-gym.render', value)", json.dumps(chosen))


def show(page: Page, base: str, rollout: Rollout) -> None:
    """Open a rollout of the run `r` in a document of its own."""
    page.goto("about:blank")
    page.goto(f"{base}/#/rollouts?run=r&sample={quote(rollout.id)}")
    page.locator(".sample .ending").wait_for(state="attached")


def read(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.evaluate(READ))
    return found


def tokens(text: str) -> str:
    """JSON without the white space of its layout."""
    return re.sub(
        r'"(?:[^"\\]|\\.)*"|\s+', lambda found: "" if found[0][0] != '"' else found[0].replace("\n", ""), text, flags=re.DOTALL
    )


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def stored(rollout: Rollout) -> Iterator[tuple[bool, str]]:
    """The texts of a rollout as the page has them, and whether each is a tool's."""
    for message in rollout.messages:
        for text in _texts(message):
            yield isinstance(message, ToolMessage), text


def _texts(message: Message) -> Iterator[str]:
    before = ""
    for block in message.blocks:
        if isinstance(block, TextBlock):
            if isinstance(message, AssistantMessage):
                before += block.text  # texts that were sampled one after the other are one
            else:
                yield block.text
            continue
        if before:
            yield before
        before = ""
        if isinstance(block, ReasoningItem):
            yield block.content or block.summary or ""
    if before:
        yield before


def differences(page: Page, rollout: Rollout) -> tuple[int, list[str]]:
    """The number of texts and arguments that were compared, and what differs."""
    found = read(page)
    wrong: list[str] = []
    count = 0
    shown = [one for one in found["texts"] if one["shown"]]
    kept = [(tool, text) for tool, text in stored(rollout) if re.search(r"[^ \t\r\n]", text)]
    left = Counter((tool, text) for tool, text in kept)
    for one in shown:
        count += 1
        tool, match = bool(one["machine"]), one["shown"]
        if one["json"]:
            match = next((text for known, text in left if known == tool and tokens(text) == tokens(one["shown"])), match)
        if not left[tool, match]:
            wrong.append(f"shown, but not stored: {one['shown'][:300]!r}")
            continue
        left[tool, match] -= 1
        wrong += list(_seen(one, match))
    wrong += [f"stored, but not shown: {text[:300]!r}" for (_, text), times in left.items() for _ in range(times)]
    calls = [
        block
        for message in rollout.messages
        if isinstance(message, AssistantMessage)
        for block in message.blocks
        if isinstance(block, ToolCall)
    ]
    if len(calls) != len(found["calls"]):
        wrong.append(f"{len(found['calls'])} of {len(calls)} calls are shown")
    if len(calls) != len(found["lines"]):
        wrong.append(f"{len(found['lines'])} of {len(calls)} calls have a head")
    for call, given, line in zip(calls, found["calls"], found["lines"], strict=False):
        count += 1
        wrong += list(_arguments(call, given))
        if line is not None:
            count += 1
            wrong += list(_one_line(call, line))
    return count, wrong


def _one_line(call: ToolCall, line: dict[str, Any]) -> Iterator[str]:
    """What the one line of a call does not say of its name and its arguments, and what of it cannot be seen."""
    written = call.arguments if call.content is None else json.loads(call.content)
    if line["name"] != call.name:
        yield f"the name {call.name!r} is {line['name']!r} in one line"
    # The same numbers, digit by digit; texts with the same characters.
    values = [(key, json.dumps(json.loads(value))) for key, value in line["pairs"]]
    if written is None or values != [(key, json.dumps(value)) for key, value in written.items()]:
        yield f"arguments {call.content or call.arguments!r} are {line['pairs']!r} in one line"
    expected = f"{call.name}({', '.join(f'{key}={value}' for key, value in line['pairs'])})"
    if not line["shown"] == expected == line["inner"]:
        yield f"a line is shown as {line['shown']!r} and seen as {line['inner']!r}, not {expected!r}"


def _seen(one: dict[str, Any], text: str) -> Iterator[str]:
    """What is in the document and cannot be seen, or on other lines than stored."""
    if one["math"] or one["thought"] or one["note"]:
        return
    if squeezed(one["inner"]) != squeezed(text):
        yield f"not all is visible: {one['inner'][:300]!r} of {text[:300]!r}"
    elif not one["table"] and not one["json"]:
        lines, expected = (
            [line.rstrip() for line in source.replace("\r", " ").split("\n") if line.strip()] for source in (one["inner"], text)
        )
        if lines != expected:
            yield f"on other lines: {one['inner'][:300]!r} for {text[:300]!r}"


def _arguments(call: ToolCall, given: Any) -> Iterator[str]:
    if isinstance(given, dict):
        shown = given["shown"]
        if call.content is not None:
            same = shown == call.content or (given["json"] and tokens(shown) == tokens(call.content))
        else:
            same = json.loads(tokens(shown)) == call.arguments
        if not same:
            yield f"arguments {call.content or call.arguments!r} are shown as {shown[:300]!r}"
        return
    if [key for key, _ in given] != list(call.arguments or {}):
        yield f"the keys of {call.arguments!r} are shown as {[key for key, _ in given]!r}"
        return
    for (key, one), value in zip(given, (call.arguments or {}).values(), strict=True):
        if isinstance(value, str):
            same = one["shown"] == value or (one["json"] and tokens(one["shown"]) == tokens(value))
        else:
            same = json.loads(tokens(one["shown"])) == value and (
                not isinstance(value, int | float) or one["shown"] == json.dumps(value)
            )
        if not same:
            yield f"argument {key!r}, {value!r}, is shown as {one['shown'][:300]!r}"
