"""A rollout as HTML for a notebook: one piece that needs nothing else, in which nothing recorded runs or loads anything."""

from __future__ import annotations

import html
import json
import math
import re
from typing import TYPE_CHECKING, Any

from openreward_gym.types.rollout import ImagePart, ReasoningPart, TextPart, ToolCallPart

if TYPE_CHECKING:
    from openreward_gym.types.rollout import MessageRecord, Rollout

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


def rollout_html(rollout: Rollout) -> str:
    """The rollout as an HTML fragment: what it is, its messages with their rewards, how it ended.

    Long texts and long rollouts are cut, and say so. Images that are in the run's folder are named, not shown.
    """
    parts = [f"<style>{_STYLE}</style>", '<div class="openreward-rollout">', _head(rollout)]
    parts += [_message(message) for message in rollout.messages[:MAX_MESSAGES]]
    if len(rollout.messages) > MAX_MESSAGES:
        parts.append(f'<div class="m">… {len(rollout.messages) - MAX_MESSAGES} more messages</div>')
    return "".join([*parts, _end(rollout), "</div>"])


def _head(rollout: Rollout) -> str:
    environment, task = rollout.environment, rollout.task
    model = (rollout.model or {}).get("name") or (rollout.model or {}).get("model_name")
    facts = {
        "environment": " / ".join(filter(None, (environment.name, environment.variant))),
        "split": environment.split,
        "task": task.index if task.index is not None else task.id,
        "step": rollout.step,
        "group": rollout.group,
        "sample": rollout.sample,
        "model": model,
    }
    told = " · ".join(f"{name} {_text(value, 200)}" for name, value in facts.items() if value not in (None, ""))
    name = f'<b dir="auto">{_text(rollout.name or rollout.id, 200)}</b>'
    return f'<div>{name}{_reward(rollout.reward)}<div class="m">{told}</div></div>'


def _message(message: MessageRecord) -> str:
    title = _ROLES.get(message.role, message.role) + (f" {_text(message.name, 100)}" if message.name else "")
    kind = f"{message.role} error" if message.is_error else message.role
    marks = (' <span class="x">error</span>' if message.is_error else "") + (_reward(message.reward))
    shown = "" if message.role == "system" else " open"
    inside = "".join(map(_part, message.blocks)) or '<span class="m">(empty)</span>'
    return f'<details class="{html.escape(kind)}"{shown}><summary>{title}{marks}</summary>{inside}</details>'


def _part(part: Any) -> str:
    if isinstance(part, TextPart):
        return _pre(part.text)
    if isinstance(part, ReasoningPart):
        said = part.text or part.summary
        name = "Reasoning" if part.text else "Hidden reasoning"
        return f'<div class="m">{name}{_pre(said) if said else ""}</div>'
    if isinstance(part, ToolCallPart):
        arguments = part.input_text if part.input is None else json.dumps(part.input, ensure_ascii=False)
        return f"<div><b>{_text(part.name, 200)}</b>{_pre(arguments or '{}', 'c')}</div>"
    if isinstance(part, ImagePart):
        return _image(part)
    return _pre(json.dumps(part.model_dump(), ensure_ascii=False, default=str), "c")


def _image(part: ImagePart) -> str:
    kind = part.mime_type.lower()
    if part.data and _IMAGES.fullmatch(kind) and len(part.data) <= MAX_IMAGE and _BASE64.fullmatch(part.data):
        return f'<img alt="Recorded image" src="data:{kind};base64,{part.data}">'
    return f'<span class="m">[image {_text(part.mime_type, 60)}]</span>'


def _end(rollout: Rollout) -> str:
    kind = "m" if rollout.status in ("completed", "running") else "x"
    why = f" ({_text(rollout.stop_reason, 100)})" if rollout.stop_reason else ""
    problem = f'<div class="x">{_text(rollout.error, 2000)}</div>' if rollout.error else ""
    return f'<div class="{kind}">{_text(rollout.status, 40)}{why}</div>{problem}'


def _reward(value: float | None) -> str:
    if value is None:
        return ""
    return f'<span class="r">reward {value:g}</span>' if math.isfinite(value) else f'<span class="r">reward {value}</span>'


def _pre(text: str, kind: str = "") -> str:
    more = f'<span class="m">… {len(text) - MAX_TEXT:,} more characters</span>' if len(text) > MAX_TEXT else ""
    return f'<pre dir="auto"{f" class={kind!r}" if kind else ""}>{_text(text, MAX_TEXT)}</pre>{more}'


def _text(value: Any, most: int) -> str:
    # What no UTF-8 text may hold is replaced: a notebook's file is one.
    text = str(value)[:most].encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return html.escape(text)
