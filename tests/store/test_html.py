"""A rollout as a notebook shows it."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest

from openreward_gym.types import (
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Task,
    TextBlock,
    ToolCall,
)
from openreward_gym.types.html import MAX_MESSAGES, MAX_TEXT

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></details></div><style>*{display:none}</style>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
]


class Seen(HTMLParser):
    """Every tag and attribute, whether all tags are closed in order, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[tuple[str, str]] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*blocks: Block, role: str = "assistant", **fields: object) -> str:
    message = Message("user", blocks).replace(role=role)
    return Rollout(**{"status": "completed", "messages": [message], **fields})._repr_html_()  # type: ignore[arg-type]


def test_it_shows_what_happened() -> None:
    rollout = Rollout(
        name="first", status="truncated", stop_reason="max_steps", reward=0.5, step=3,
        environment=RolloutEnvironment(name="counting", variant="files"), task=Task(index=7), model={"name": "tiny"},
        messages=[
            Message(role="user", blocks=(TextBlock(text="Count & compare 1 < 2."),)),
            Message(role="assistant", blocks=(ReasoningItem(content="Hm."), ToolCall(name="bash", arguments={"cmd": "ls"}),)),
            Message(role="tool", name="bash", is_error=True, reward=0.25, blocks=(TextBlock(text="no such file"),)),
        ],
    )  # fmt: skip
    seen = Seen(rollout._repr_html_())
    for text in ("first", "reward 0.5", "counting / files", "task 7", "step 3", "model tiny", "Count & compare 1 < 2.", "Hm.",
                 "bash", '{"cmd": "ls"}', "error", "reward 0.25", "no such file", "truncated (max_steps)"):  # fmt: skip
        assert text in seen.text


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_recorded_is_markup(attack: str) -> None:
    blocks: list[Block] = [
        TextBlock(text=attack), ReasoningItem(summary=attack), ToolCall(call_id=attack, name=attack, arguments={attack: attack}),
        ToolCall(name="x", content=attack), ImageBlock(mime_type=attack, data=attack),
        ImageBlock(mime_type="image/png", data=attack),
        ImageBlock(mime_type="image/svg+xml", data=PIXEL), OpaqueBlock({"type": "new", "x": attack}),
    ]  # fmt: skip
    page = page_of(
        *blocks, name=attack, stop_reason=attack, error=attack, group=attack, model={"name": attack},
        environment=RolloutEnvironment(name=attack, split=attack), task=Task(id=attack),
    )  # fmt: skip
    seen = Seen(page)
    assert set(seen.tags) == {"style", "div", "b", "details", "summary", "pre", "span"}
    assert {name for name, _ in seen.attributes} == {"class", "dir", "open"}
    assert attack in seen.text


def test_images_are_shown_where_they_are_in_the_record() -> None:
    seen = Seen(page_of(ImageBlock(data=PIXEL), ImageBlock(sha256="0" * 64)))
    assert ("src", f"data:image/png;base64,{PIXEL}") in seen.attributes
    assert seen.tags.count("img") == 1
    assert "[image image/png]" in seen.text


def test_hidden_reasoning_is_no_empty_box() -> None:
    assert "Hidden reasoning" in Seen(page_of(ReasoningItem(content_reference="rs_1"))).text
    assert "(empty)" in Seen(page_of()).text


def test_what_is_long_is_cut_and_says_so() -> None:
    page = page_of(TextBlock(text="x" * (MAX_TEXT + 1234)))
    assert "… 1,234 more characters" in page
    assert len(page) < MAX_TEXT + 5000
    many = Rollout(status="running", messages=[Message(role="user")] * (MAX_MESSAGES + 5))
    assert "… 5 more messages" in many._repr_html_()


def test_any_text_can_be_kept_in_a_notebooks_file() -> None:
    page = page_of(TextBlock(text="\ud800 \0 \u202e"), name="\udfff", reward=float("nan"))
    assert "reward nan" in page
    assert "\0" not in page
    page.encode("utf-8")
