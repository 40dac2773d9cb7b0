"""Rollouts with an attack in every field."""

# ruff: noqa: E501  (an attack stands on one line)

from __future__ import annotations

import base64
from pathlib import Path

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    SystemMessage,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)

ATTACKS = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror='window.hacked=1'>",
    "<svg onload='window.hacked=1'><a xlink:href='javascript:window.hacked=1'><text>x</text></a></svg>",
    "[click](javascript:window.hacked=1) [data](data:text/html,<script>window.hacked=1</script>) <a href='JaVaScRiPt:window.hacked=1'>x</a>",
    "![remote](https://evil.example/pixel.png) <img src='//evil.example/a.png' alt='pixel'>",
    "<style>body{display:none}</style><link rel=stylesheet href=//evil.example/x.css><p style='position:fixed;inset:0'>cover</p>",
    "<iframe src='javascript:window.hacked=1'></iframe><object data='//evil.example'></object><embed src='//evil.example'>",
    "<form action='//evil.example'><input name=q autofocus onfocus='window.hacked=1'><button>x</button></form>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.hacked=1&gt;'>",
    "$\\href{javascript:window.hacked=1}{x}$ $\\htmlData{a=b}{x}$ $\\includegraphics{https://evil.example/a.png}$ $$\\def\\a{\\a\\a}\\a$$",
    '```html\n<script>window.hacked=1</script>\n```\n~~~"><img src=x onerror=window.hacked=1>\nx\n~~~',
    "</script><script>window.hacked=1</script><!-- --!><script>window.hacked=1</script>",
    "<base href='//evil.example/'><meta http-equiv=refresh content='0;url=//evil.example'>",
    "\u202e\u2066right to left\u2069 \u0000\u0007\ufffe Z\u0335\u0321\u0489a\u0335l\u0336g\u0337o " + "\u0301" * 400,
    "| " + " | ".join(["x"] * 400) + " |\n|" + "-|" * 400 + "\n" + ("| " + " | ".join(["y"] * 400) + " |\n") * 20,
    "<p id='app'></p><p id='embedded'>{}</p><form id='content'><input name='attributes'></form><a name='document'></a>",
    "{{constructor.constructor('window.hacked=1')()}} ${window.hacked=1} %3Cscript%3E ..%2f..%2fetc/passwd",
    "> " * 600 + "deep\n" + "- " * 200 + "deep\n" + "*_" * 400 + "[" * 500 + "`" * 301,
    "<think><script>window.hacked=1</script></think><think><think></think><img src=x onerror=window.hacked=1>",
    "\ud800 lone \udfff",
]


def hostile(folder: Path) -> int:
    """Write a run with an attack in every field of every rollout; return the number of rollouts."""
    svg = base64.b64encode(
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='top.hacked=1'><script>top.hacked=1</script></svg>"
    ).decode()
    count = 0
    with RolloutStore(folder / "hostile") as store:
        for attack in ATTACKS:
            short = attack[:300]
            for sample in range(10):
                messages = [
                    SystemMessage(content=[TextBlock(attack)], name=short),
                    UserMessage(content=[TextBlock(attack), ImageBlock(mime_type=short, data=short), ImageBlock(mime_type="image/svg+xml", data=svg)]),
                    AssistantMessage(sampled=Sampled(stop_reason=short), content=[
                        ReasoningItem(content=attack), ReasoningItem(summary=attack, content_reference=short), TextBlock(attack * (1 + sample % 3)),
                        ToolCall(call_id=short, name=short, arguments={short: attack}), ToolCall(call_id="x", name=short, content=attack)]),
                    ToolMessage(call_id=short, name=short, is_error=True, content=[TextBlock(attack)], metadata={short: short}),
                ]  # fmt: skip
                store.append(
                    Rollout(
                        id=f"{count} {short}", name=short, group=f"{count // 10} {short}", sample=sample, run="hostile", status="error", stop_reason=short,
                        error=attack, discard_reason=short if sample == 9 else None, messages=messages, reward=float("inf"), metrics={short: 1.0, "m": float("nan")},
                        environment=RolloutEnvironment(name=short, variant=short, split=short, origin=short),
                        task=Task(id=short, spec={short: attack}, golden_answer=attack), model={"name": short}, metadata={short: attack, "ranges": {short: [0, 2]}},
                    )
                )  # fmt: skip
                count += 1
    return count
