"""A rollout as HTML for a notebook: one self-contained fragment in which no recorded text runs or loads anything."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from openreward_gym.jsonio import Json
from openreward_gym.types.blocks import Block, ImageBlock, ReasoningItem, TextBlock, ToolCall
from openreward_gym.types.codec import write
from openreward_gym.types.messages import Message

MAX_MESSAGES = 200
MAX_TEXT = 20_000
MAX_IMAGE = 4_000_000

_IMAGES = re.compile(r"image/(png|jpeg|gif|webp|bmp)")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool result"}

# Only what is inside .openreward-rollout is styled. Its colours follow the notebook's theme where that tells, else the system's.
_LIGHT = "{--i:#1b1f26;--m:#59616e;--l:#dfe3e9;--p:#f7f8fa;--a:#1f5fc4;--b:#b3261e}"
_DARK = "{--i:#e4e8ee;--m:#a0a9b7;--l:#313844;--p:#1d222a;--a:#7fb0ff;--b:#ff9b93}"
_STYLE = (
    f"""
.openreward-rollout{_LIGHT}
@media(prefers-color-scheme:dark){{.openreward-rollout{_DARK}}}
[data-jp-theme-light="true"] .openreward-rollout,.vscode-light .openreward-rollout{_LIGHT}
[data-jp-theme-light="false"] .openreward-rollout,.vscode-dark .openreward-rollout{_DARK}
"""
    + """
.openreward-rollout{color:var(--i);font:13px/1.5 system-ui,sans-serif;border:1px solid var(--l);border-radius:8px;
padding:10px 14px;max-width:1000px}
.openreward-rollout .m{color:var(--m)}
.openreward-rollout .x{color:var(--b)}
.openreward-rollout .r{border:1px solid var(--l);border-radius:5px;padding:0 6px;margin-left:6px;white-space:nowrap;
font-weight:400}
.openreward-rollout details{border-left:3px solid var(--l);margin:6px 0;padding-left:10px}
.openreward-rollout details.assistant{border-color:var(--a)}
.openreward-rollout details.error{border-color:var(--b)}
.openreward-rollout summary{cursor:pointer;font-weight:600}
.openreward-rollout pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;padding:0;font:12px/1.5 ui-monospace,monospace;
color:inherit;background:none;max-height:360px;overflow:auto;unicode-bidi:isolate}
.openreward-rollout pre.c{background:var(--p);border-radius:5px;padding:4px 8px}
.openreward-rollout img{max-width:min(100%,480px);max-height:360px;display:block}
"""
)


def rollout_html(
    name: str,
    facts: Mapping[str, Json],
    messages: Sequence[Message],
    reward: float | None,
    status: str,
    stop_reason: str,
    error: str,
) -> str:
    """Return a rollout as an HTML fragment: its facts, its messages with their rewards, its end.

    Long texts and long rollouts are cut, and say so. Images that are in the run's folder are named, not shown.

    Args:
        name: The title.
        facts: Names and values of the line below it; None and empty values are left out.
        messages: The conversation.
        reward: The return; None where there is none.
        status, stop_reason, error: The end; empty texts are left out.
    """
    parts = [f"<style>{_STYLE}</style>", '<div class="openreward-rollout">', _head(name, facts, reward)]
    parts += [_message(message) for message in messages[:MAX_MESSAGES]]
    if len(messages) > MAX_MESSAGES:
        parts.append(f'<div class="m">… {len(messages) - MAX_MESSAGES} more messages</div>')
    return "".join([*parts, _end(status, stop_reason, error), "</div>"])


def _head(name: str, facts: Mapping[str, Json], reward: float | None) -> str:
    line = " · ".join(f"{fact} {_text(value, 200)}" for fact, value in facts.items() if value not in (None, ""))
    title = f'<b dir="auto">{_text(name, 200)}</b>'
    return f'<div>{title}{_reward(reward)}<div class="m">{line}</div></div>'


def _message(message: Message) -> str:
    title = _ROLES.get(message.role, message.role) + (f" {_text(message.name, 100)}" if message.name else "")
    kind = f"{message.role} error" if message.is_error else message.role
    marks = (' <span class="x">error</span>' if message.is_error else "") + (_reward(message.reward))
    shown = "" if message.role == "system" else " open"
    inside = "".join(map(_block, message.blocks)) or '<span class="m">(empty)</span>'
    return f'<details class="{html.escape(kind)}"{shown}><summary>{title}{marks}</summary>{inside}</details>'


def _block(block: Block) -> str:
    if isinstance(block, TextBlock):
        return _pre(block.text)
    if isinstance(block, ReasoningItem):
        reasoning = block.content or block.summary
        title = "Reasoning" if block.content else "Hidden reasoning"
        return f'<div class="m">{title}{_pre(reasoning) if reasoning else ""}</div>'
    if isinstance(block, ToolCall):
        arguments = block.content if block.arguments is None else json.dumps(block.arguments, ensure_ascii=False)
        return f"<div><b>{_text(block.name, 200)}</b>{_pre(arguments or '{}', 'c')}</div>"
    if isinstance(block, ImageBlock):
        return _image(block)
    return _pre(json.dumps(write(block), ensure_ascii=False, default=str), "c")


def _image(block: ImageBlock) -> str:
    kind = block.mime_type.lower()
    if block.data and _IMAGES.fullmatch(kind) and len(block.data) <= MAX_IMAGE and _BASE64.fullmatch(block.data):
        return f'<img alt="Recorded image" src="data:{kind};base64,{block.data}">'
    return f'<span class="m">[image {_text(block.mime_type, 60)}]</span>'


def _end(status: str, stop_reason: str, error: str) -> str:
    kind = "m" if status in ("completed", "running") else "x"
    why = f" ({_text(stop_reason, 100)})" if stop_reason else ""
    problem = f'<div class="x">{_text(error, 2000)}</div>' if error else ""
    return f'<div class="{kind}">{_text(status, 40)}{why}</div>{problem}'


def _reward(value: float | None) -> str:
    if value is None:
        return ""
    return f'<span class="r">reward {value:g}</span>' if math.isfinite(value) else f'<span class="r">reward {value}</span>'


def _pre(text: str, kind: str = "") -> str:
    more = f'<span class="m">… {len(text) - MAX_TEXT:,} more characters</span>' if len(text) > MAX_TEXT else ""
    return f'<pre dir="auto"{f" class={kind!r}" if kind else ""}>{_text(text, MAX_TEXT)}</pre>{more}'


def _text(value: Any, most: int) -> str:
    # A notebook is a UTF-8 file: characters that it cannot hold are replaced.
    text = str(value)[:most].encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return html.escape(text)
