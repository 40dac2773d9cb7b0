"""How recorded texts are drawn: by their kind, in lines, with marks; and how they are reached, folded and copied."""

# ruff: noqa: E501  (a text is best read on one line)

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser_pages import Opener, complaints
from playwright.sync_api import Locator, Page, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    ReasoningItem,
    Rollout,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)

DIFF = "--- a/sum.py\n+++ b/sum.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b"
NESTED = '{"files": [{"name": "a.txt", "size": 18446744073709551617, "words": ["one", "two"]}, {"name": "a.txt", "note": "first\\n  second"}], "files": 1.50}'
TRACE = 'Traceback (most recent call last):\n  File "/srv/sum.py", line 3\n    add(\nSyntaxError: unclosed'
PROSE = """# Plan

1. **Read** `sum.py`, see [the issue](https://issues.example/7)
2. Call `__add__`

| file | lines |
|------|------:|
| sum.py | 3 |

```python
def add(a, b):
    return a + b
```
The total is $\\boxed{42}$ and
\\begin{gather}
a = b \\\\
c = d
\\end{gather}
<answer>42</answer>"""


def everything() -> Rollout:
    arguments = {
        "command": 'cd /srv\n  make -j2\necho "$?"',
        "timeout": 18446744073709551617,
        "ratio": 2.50,
        "flag": "true",
        "where": {"path": ["a", "b"]},
    }
    return Rollout(
        id="all", group="g", sample=0, status="error", stop_reason="failed", error=TRACE, reward=1.0,
        messages=[
            SystemMessage(content=[TextBlock("Think in <think></think>, answer in <answer></answer>.")]),
            UserMessage(content=[TextBlock("Repair it.\n    This line is indented."), ImageBlock(data="AAAA", mime_type="image/tiff")]),
            AssistantMessage(content=[TextBlock("Half of a thought</think>" + PROSE), ToolCall(call_id="a", name="shell\u202e", arguments=arguments), ToolCall(call_id="b", name="look", arguments={})]),
            ToolMessage(call_id="a", content=[TextBlock(DIFF)]),
            ToolMessage(call_id="b", content=[TextBlock(NESTED)]),
            AssistantMessage(content=[ReasoningItem(content="Was it __right__?"), TextBlock("Pass\u200bword of pdf\u202egnp.exe, 5\u00ad0 \u0000 end")]),
            AssistantMessage(content=[TextBlock("")]),
        ],
    )  # fmt: skip


@pytest.fixture
def page(opened: Opener, tmp_path: Path):  # type: ignore[no-untyped-def]
    with RolloutStore(tmp_path / "runs" / "r") as store:
        store.append(everything())
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=all", base=base)
        expect(page.locator(".sample .ending")).to_be_attached()
        page.evaluate("for (const node of document.querySelectorAll('.sample > *')) node.style.contentVisibility = 'visible'")
        yield page


def lines(place: Locator) -> list[str]:
    return [line.rstrip() for line in place.inner_text().split("\n") if line.strip()]


def test_axe_finds_nothing_in_texts_of_every_kind(page: Page) -> None:
    assert complaints(page) == []
    for width in (1440, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_prose_means_what_its_signs_say_and_keeps_them(page: Page) -> None:
    prose = page.locator(".prose", has_text="Plan")
    assert lines(prose)[:3] == ["# Plan", "1. **Read** `sum.py`, see [the issue](https://issues.example/7)", "2. Call `__add__`"]
    expect(prose.locator("strong")).to_have_text("**Read**")
    expect(prose.get_by_role("link", name="the issue")).to_have_attribute("href", "https://issues.example/7")
    expect(prose.locator("th").first).to_have_text("| file ")
    expect(prose.locator("pre.code[data-language=python] .hljs-keyword").first).to_have_text("def")
    assert "<answer>42</answer>" in prose.inner_text()
    expect(prose.locator(".math.display")).to_have_attribute("data-source", re.compile(r"a = b \\\\\nc = d"))
    box = prose.locator("menclose")
    assert box.evaluate("node => getComputedStyle(node).borderTopStyle") == "solid"
    assert "    This line is indented." in page.locator(".prose", has_text="Repair it.").inner_text()


def test_thoughts_are_a_models_only(page: Page) -> None:
    expect(page.locator(".prose", has_text="Think in <think></think>, answer in")).to_be_visible()
    thought = page.locator(".think", has_text="Half of a thought")
    expect(thought.locator("summary")).to_have_text("Thinking (begun before this text)")
    expect(thought.locator(".body")).to_have_text("Half of a thought")
    expect(page.locator(".think", has_text="Was it __right__?")).to_be_visible()


def test_arguments_are_read_by_their_names(page: Page) -> None:
    expect(page.locator(".arguments")).to_have_count(1)
    unfold = page.get_by_role("button", name="Call of look")
    expect(page.locator(".call", has=unfold).locator(".oneline")).to_have_text("look()")
    unfold.click()
    shown = page.locator(".arguments").first
    assert lines(shown)[:4] == ["command", "cd /srv", "  make -j2", 'echo "$?"']
    for name, value in (("timeout", "18446744073709551617"), ("ratio", "2.5"), ("flag", "true")):
        row = shown.locator(".argument", has=page.locator("dt", has_text=re.compile(f"^{name}$")))
        expect(row.locator("dd")).to_have_text(value)
    expect(shown.locator(".quoted")).to_have_text("true")  # the text "true" is not the value
    expect(page.locator(".arguments").nth(1)).to_have_text("{}")


def test_a_tools_text_is_shown_by_its_kind(page: Page) -> None:
    diff = page.locator("pre[data-kind=diff]")
    assert diff.inner_text() == DIFF
    expect(diff.locator(".diff-added")).to_have_text("+    return a + b")
    expect(diff.locator(".diff-removed")).to_have_text("-    return a - b\n", use_inner_text=False)
    faces = [
        page.locator(one).first.evaluate("node => getComputedStyle(node).fontFamily") for one in (".prose", "pre[data-kind=diff]")
    ]
    assert "monospace" not in faces[0]
    assert "monospace" in faces[1]
    trace = page.get_by_label("Error", exact=True)
    assert trace.inner_text() == TRACE


def test_json_folds_by_keyboard_and_loses_nothing(page: Page) -> None:
    tree = page.locator(".json", has_text="18446744073709551617").last
    for part in ('"size": 18446744073709551617', '"files": 1.50', '"note": "first', '\\n  second"'):
        assert part in tree.inner_text()
    fold = tree.locator("details").first
    fold.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(tree.get_by_text("18446744073709551617")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(tree.get_by_text("18446744073709551617")).to_be_visible()


def test_invisible_characters_are_marks_and_are_copied_as_stored(page: Page) -> None:
    text = page.locator(".prose", has_text="gnp.exe")
    marks = text.locator(".invisible")
    assert marks.evaluate_all("nodes => nodes.map(node => node.dataset.mark)") == ["ZWSP", "RLO", "SHY", "NUL"]
    assert all(box > 10 for box in marks.evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().width)"))
    copied = text.evaluate("node => { getSelection().selectAllChildren(node); return getSelection().toString() }")
    assert copied == "Pass\u200bword of pdf\u202egnp.exe, 5\u00ad0 \u0000 end"
    expect(page.locator(".tool .invisible").first).to_have_attribute("data-mark", "RLO")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("/tmp/shot.png", "a path or a name"),
        ("https://images.example/a.png", "the viewer loads nothing from other places"),
        ("", "the record has no data"),
    ],
)
def test_an_image_that_is_not_in_the_record_says_so(opened: Opener, tmp_path: Path, data: str, why: str) -> None:
    folder = tmp_path / "runs" / "r" / "rollouts"
    folder.mkdir(parents=True)
    image = {"type": "image", "data": data, "mimeType": "image/png"}
    message = {"role": "user", "blocks": [image]}
    record = {"schema": "openreward-gym/rollout/1", "id": "a", "status": "completed", "group": "g", "messages": [message]}
    (folder / "x.jsonl").write_text(json.dumps(record) + "\n")
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        expect(page.get_by_text(why)).to_be_visible()


def test_what_cannot_be_shown_says_why(page: Page) -> None:
    page.locator(".section.user").scroll_into_view_if_needed()
    expect(page.get_by_text("a browser does not show images of the type image/tiff")).to_be_visible()
    expect(page.get_by_text("Empty text")).to_be_visible()


@pytest.mark.parametrize("tool", [False, True], ids=["prose", "tool"])
def test_a_search_reaches_what_is_beyond_the_cut(opened: Opener, tmp_path: Path, tool: bool) -> None:
    long = "".join(f"line {number} of many\n" for number in range(30_000)) + "the needle is here\n"
    rollout = (
        Rollout(id="a", group="g", status="completed", messages=[UserMessage("q"), ToolMessage(content=[TextBlock(long)])])
        if tool
        else simple("a", long)
    )
    RolloutStore(tmp_path / "runs" / "r").append(rollout)
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        button = page.get_by_role("button", name=re.compile(f"Show all {len(long):,} characters"))
        expect(button).to_be_visible()
        expect(page).to_have_url(re.compile("group=g"))
        assert page.locator(".chunk", has_text="the needle is here").count() == 0
        page.goto(f"{base}/#/rollouts?run=r&sample=a&message=1&query=needle")
        expect(page.locator(".chunk", has_text="the needle is here")).to_have_count(1)
        expect(button).to_have_count(0)
