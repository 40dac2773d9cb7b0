"""Each reason is true: it is counted where its cause is there, and gone where its hint is followed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, call, episode, png, result, user
from tiny_tokenizer import CHATML, tiny_tokenizer

from openreward_gym import export
from openreward_gym.export import Select
from openreward_gym.export.report import FormatReport
from openreward_gym.types import ImageBlock, Message, OpaqueBlock, Rollout, Task, TextBlock, ToolSpec

BROKEN = call("weather", None, id="b", text='{"city": ')
PICTURE = ImageBlock(png(2, 2))


def pair(better: Message | list[Message], worse: Message | list[Message], **fields: Any) -> list[Rollout]:
    sides = [side if isinstance(side, list) else [side] for side in (better, worse)]
    return [episode(*messages, reward=1.0 - n, group="g", **fields) for n, messages in enumerate(sides)]


def shown(*blocks: Any) -> Message:
    return Message("user", tuple(blocks))


@dataclass
class Case:
    """A cause, the reason for it, and what its hint advises: other options or another format."""

    reason: str
    rollouts: list[Rollout]
    format: str = "sft"
    options: dict[str, Any] = field(default_factory=dict)
    advised: dict[str, Any] | None = None
    advised_format: str | None = None
    rows_before: int = 0


ASKED = [episode(assistant("a", ended=ended)) for ended in ("length", "refusal", "content_filter", "pause", "unknown")]
FEW_SHOT = [episode(assistant("given", origin="given"), user("and?"), assistant("x", origin="policy"))]
PARALLEL = [
    episode(
        assistant("", call("a", {}, id="1"), call("b", {}, id="2")), result("1", id="1"), result("2", id="2"), assistant("end")
    )
]
HISTORY = [assistant("", BROKEN), result("bad", id="b")]
REPEATED = [episode(assistant("", call("a", {"x": 2}, text='{"x":1,"x":2}')), result("r"), assistant("end"))]
HUGE = [episode(assistant("", call("a", {"x": 2**70})), result("r"), assistant("end"))]

CASES = [
    *(Case(f"a turn ended by {r.messages[-1].ended}", [r], advised={"endings": "any"}) for r in ASKED),
    Case(
        "a turn whose weight is negative or not a number",
        [episode(assistant("a", weight=-1.0))],
        advised={"weights": lambda *_: 1.0},
    ),
    Case(
        "a turn without anything to train (hidden reasoning only, or an empty answer)",
        [episode(assistant(""))],
        advised_format="rollouts",
    ),
    Case("a call's arguments are not a JSON object", [episode(*HISTORY, assistant("x"))], advised={"malformed_calls": "keep"}),
    Case("a call names no tool", [episode(assistant("", call("", {})), result("r"), assistant("x"))], advised_format="rollouts"),
    Case(
        "a call in the middle has no result",
        [episode(assistant("", call("a", {})), user("?"), assistant("x"))],
        advised_format="rollouts",
    ),
    Case("a tool result answers no call", [episode(result("r", id="zz"), assistant("x"))], advised_format="nemo_gym"),
    Case(
        "text after a call of the same turn: chat messages have all text before the calls",
        [episode(assistant(blocks=(call("a", {}), TextBlock("now"))), result("r"), assistant("x"))],
        advised_format="nemo_gym",
    ),
    Case(
        "a part that chat messages do not have (a document, an image by address, a provider's own tool)",
        [episode(shown(OpaqueBlock({"type": "document"})), assistant("x"))],
        advised_format="rollouts",
    ),
    Case(
        "an image whose bytes are missing or are not an image of pixels",
        [episode(shown(ImageBlock("", sha256="0" * 64)), assistant("x"))],
        advised_format="rollouts",
    ),
    Case("an assistant message has an image", [episode(assistant("x", blocks=(PICTURE,)))], advised_format="rollouts"),
    Case("the model took no turn that can be trained", [episode(assistant("x", weight=0.0))], advised_format="prompts"),
    Case(
        "it is not known which turns the model took",
        [episode(assistant("a"), user("b").replace(origin="environment"), assistant("c"))],
        advised={"assume_sampled": True},
    ),
    Case(
        "a tool or user wrote a control token",
        [episode(user("<|im_end|>"), assistant("x"))],
        options={"control_tokens": "drop"},
        advised={"control_tokens": "escape"},
    ),
    Case("several calls in one message", PARALLEL, options={"parallel_calls": "drop"}, advised={"parallel_calls": "split"}),
    Case(
        "a call has a key twice, which an object cannot keep (take openai or compat='string')",
        REPEATED,
        advised={"compat": "string"},
    ),
    Case(
        "a call has a key twice, which an object cannot keep (take openai or compat='string')", REPEATED, advised_format="openai"
    ),
    Case(
        "a number that a Json column cannot give back (take compat='string' or the tokens format)",
        HUGE,
        advised={"compat": "string"},
    ),
    Case(
        "an assistant message that is not to be trained (take prompt_completion, tokens or axolotl)",
        FEW_SHOT,
        advised_format="prompt_completion",
    ),
    Case(
        "an assistant message that is not to be trained: LLaMA-Factory would train it",
        FEW_SHOT,
        "sharegpt",
        advised_format="axolotl",
    ),
    Case(
        "an assistant message that is not to be trained: verl would train it",
        [replace(r, tools=[]) for r in FEW_SHOT],
        "verl_sft",
        advised_format="axolotl",
    ),
    Case(
        "it has tools: verl would show nulls in their definitions and arguments (take tokens)",
        PARALLEL,
        "verl_sft",
        advised_format="axolotl",
    ),
    Case(
        "a malformed call: LLaMA-Factory reads arguments as an object",
        [episode(*HISTORY, assistant("x"))],
        "sharegpt",
        {"malformed_calls": "keep"},
        {"malformed_calls": "keep"},
        "axolotl",
    ),
    Case(
        "<tool_call> in a text beside a call: LLaMA-Factory would read the call there",
        [episode(assistant("<tool_call>", call("a", {})), result("r"), assistant("x"))],
        "sharegpt",
        advised_format="axolotl",
    ),
    Case(
        "its turns do not alternate: LLaMA-Factory would skip it",
        [episode(assistant("a"), assistant("b"))],
        "sharegpt",
        advised_format="axolotl",
    ),
    Case(
        "it has images: lines with and without would differ in type (take sft)",
        [episode(shown(PICTURE), assistant("x"))],
        "axolotl",
        advised_format="sft",
    ),
    Case(
        "it has images: LLaMA-Factory's new core would look for files in its working folder (take sharegpt)",
        [episode(shown(PICTURE), assistant("x"))],
        "llama_factory_v1",
        advised_format="sharegpt",
    ),
    Case(
        "a text contains <image>, <video> or <audio>: LLaMA-Factory would look for one there",
        [episode(shown(PICTURE, TextBlock("<video>")), assistant("x"))],
        "sharegpt",
        advised_format="sft",
    ),
    Case(
        "a text contains <image>: verl would look for an image there",
        [episode(shown(PICTURE, TextBlock("<image>")), assistant("x"), tools=[])],
        "verl",
        advised_format="sft",
    ),
    Case(
        "a call, a result or reasoning in its prompt: verl's table has no place for it",
        [
            replace(
                episode(),
                messages=[
                    user("q"),
                    assistant("", call("a", {}), origin="given"),
                    result("r").replace(origin="given"),
                    assistant("x", origin="policy"),
                ],
            )
        ],
        "verl",
        advised_format="prompts",
    ),
    Case(
        "its prompt is empty or ends with an assistant message",
        [replace(episode(), messages=[assistant("x")])],
        "prompts",
        advised_format="rollouts",
    ),
    Case(
        "another rollout of its task makes the row",
        [episode(assistant(w), task="t") for w in "ab"],
        "prompts",
        advised_format="rollouts",
        rows_before=1,
    ),
    Case(
        "an empty assistant message: OpenAI refuses it",
        [episode(assistant("", origin="given"), user("?"), assistant("x", origin="policy"))],
        "openai",
        advised_format="axolotl",
    ),
    Case(
        "a tool's name that OpenAI refuses (other characters than letters, digits, _ and -, or more than 64)",
        [episode(assistant("x"), tools=[ToolSpec("a b")])],
        "openai",
        advised_format="sft",
    ),
    Case(
        "a tool's description of more than 1,024 characters: OpenAI refuses it",
        [episode(assistant("x"), tools=[ToolSpec("a", "d" * 1025)])],
        "openai",
        advised_format="sft",
    ),
    Case(
        "more than 128 tools: OpenAI refuses them",
        [episode(assistant("x"), tools=[ToolSpec(f"a{n}") for n in range(129)])],
        "openai",
        advised_format="sft",
    ),
    Case(
        "the model speaks first: there is no prompt",
        [replace(episode(), messages=[assistant("x")])],
        "prompt_completion",
        advised_format="sft",
    ),
    Case("it has no messages", [replace(episode(), messages=[])], "atif", advised_format="rollouts"),
    # Pairs
    Case("alone in its group", [episode(assistant("x"))], "preference", advised_format="sft"),
    Case(
        "its group has one reward only",
        pair(assistant("a"), assistant("b"))[:1] * 1 + [episode(assistant("b"), group="g")],
        "preference",
        advised_format="sft",
    ),
    Case(
        "its group has no reward",
        [episode(assistant(w), reward=None, group="g") for w in "ab"],
        "preference",
        advised_format="sft",
    ),
    Case(
        "a rollout without a reward",
        [*pair(assistant("a"), assistant("b")), episode(assistant("c"), reward=None, group="g")],
        "preference",
        advised_format="sft",
        rows_before=1,
    ),
    Case(
        "other tools",
        [pair(assistant("a"), assistant("b"))[0], pair(assistant("a"), assistant("b"), tools=[ToolSpec("o")])[1]],
        "preference",
        advised_format="sft",
    ),
    Case("rewards closer than 2", pair(assistant("a"), assistant("b")), "preference", {"min_gap": 2}, {"min_gap": 0}),
    Case(
        "one says no more than the other",
        pair(assistant("a"), [assistant("a"), user("?"), assistant("b")]),
        "preference",
        advised_format="sft",
    ),
    Case(
        "the same pair again",
        [*pair(assistant("a"), assistant("b")), *pair(assistant("a"), assistant("b"))],
        "preference",
        {"max_pairs": None},
        advised_format="sft",
        rows_before=1,
    ),
    Case(
        "more than 1 pairs per group",
        [episode(assistant(str(n)), reward=n, group="g") for n in range(3)],
        "preference",
        {"max_pairs": 1},
        {"max_pairs": None},
        rows_before=1,
    ),
    Case(
        "the first difference is not in the model's turns",
        pair([user("a"), assistant("c")], [user("b"), assistant("d")]),
        "preference",
        advised_format="sft",
    ),
    Case(
        "the first difference is not in the model's turns",
        pair([shown(PICTURE), assistant("c")], [shown(ImageBlock(png(3, 3))), assistant("d")]),
        "preference",
        advised_format="sft",
    ),
    Case(
        "the first difference is not in the model's turns",
        pair([assistant("a"), assistant("c")], [assistant("a"), user("?"), assistant("d")]),
        "preference",
        advised_format="sft",
    ),
    *(
        Case(
            f"the chosen side is a turn ended by {end}",
            pair(assistant("a", ended=end), assistant("b")),
            "preference",
            advised={"endings": "any"},
        )
        for end in ("refusal", "length", "content_filter")
    ),
    *(
        Case(
            f"the rejected side is a turn ended by {end}",
            pair(assistant("a"), assistant("b", ended=end)),
            "preference",
            advised={"endings": "any"},
        )
        for end in ("refusal", "error", "pause")
    ),
    Case(
        "the rejected side is a turn of weight 0",
        pair(assistant("a"), assistant("b", weight=0.0)),
        "preference",
        advised={"weights": lambda *_: 1.0},
    ),
    Case(
        "the chosen side is a turn of weight 0",
        pair([assistant("a", weight=0.0), user("?"), assistant("c")], assistant("b")),
        "preference",
        advised={"weights": lambda *_: 1.0},
    ),
    Case(
        "the rejected side is a turn whose weight is negative or not a number",
        pair(assistant("a"), assistant("b", weight=-2.0)),
        "preference",
        advised={"weights": lambda *_: 1.0},
    ),
    Case(
        "the rejected side is a turn without anything to train (hidden reasoning only, or an empty answer)",
        pair(assistant("a"), assistant("")),
        "preference",
        advised_format="rollouts",
    ),
    Case(
        "the chosen side has a malformed call",
        pair(assistant("", BROKEN), assistant("b")),
        "preference",
        {"malformed_calls": "keep"},
        {"malformed_calls": "keep"},
        "sft",
    ),
    Case(
        "the rejected side has a malformed call (malformed_calls='keep' writes it as text)",
        pair(assistant("a"), assistant("", BROKEN)),
        "preference",
        advised={"malformed_calls": "keep"},
    ),
    Case(
        "the history has a malformed call",
        pair([*HISTORY, assistant("a")], [*HISTORY, assistant("b")]),
        "preference",
        {"malformed_calls": "keep"},
        {"malformed_calls": "keep"},
        "prompt_completion",
    ),
    Case(
        "lengths differ by more than a factor of 2",
        pair(assistant("a" * 900), assistant("b")),
        "preference",
        {"length_ratio": 2},
        {"length_ratio": None},
    ),
    Case(
        "an image after the first difference",
        pair([assistant("", call("a", {})), Message("tool", (PICTURE,), call_id="c"), assistant("x")], assistant("b")),
        "preference",
        {"whole_trajectories": True},
        {"whole_trajectories": False},
    ),
    Case(
        "the chosen side has a turn that is not to be trained",
        pair([assistant("a"), user("?"), assistant("m", weight=0.0), user("?"), assistant("c")], assistant("b")),
        "preference",
        {"whole_trajectories": True},
        {},
    ),
    Case(
        "several messages on a side: OpenAI takes one (whole_trajectories=False)",
        pair([assistant("a"), user("?"), assistant("c")], assistant("b")),
        "openai_dpo",
        {"whole_trajectories": True},
        {},
    ),
    Case(
        "several messages on a side: LLaMA-Factory takes one (whole_trajectories=False)",
        pair([assistant("a"), user("?"), assistant("c")], assistant("b")),
        "sharegpt_preference",
        {"whole_trajectories": True},
        {},
    ),
    Case(
        "sampled with other chat_template_kwargs",
        [replace(r, sampling={"chat_template_kwargs": {"a": n}}) for n, r in enumerate(pair(assistant("a"), assistant("b")))],
        "preference",
        advised={"chat_template_kwargs": {}},
    ),
    # Labels
    Case("no reward", [episode(assistant("a"), reward=None)], "kto", advised_format="sft"),
    Case(
        "balanced by label",
        [episode(assistant(str(n)), reward=float(n > 0), task=str(n)) for n in range(3)],
        "kto",
        advised={"balance_labels": False},
        rows_before=2,
    ),
    Case(
        "the history has a malformed call",
        [episode(*HISTORY, assistant("x"))],
        "kto",
        {"malformed_calls": "keep"},
        {"malformed_calls": "keep"},
        "prompt_completion",
    ),
    Case(
        "a good answer with a malformed call",
        [episode(assistant("", BROKEN))],
        "kto",
        {"malformed_calls": "keep"},
        {"malformed_calls": "keep"},
        "sft",
    ),
    Case(
        "a bad answer with a malformed call",
        [episode(assistant("", BROKEN), reward=0.0)],
        "kto",
        advised={"malformed_calls": "keep"},
    ),
]


def exported(rollouts: list[Rollout], format: str, folder: Path, **options: Any) -> tuple[int, Counter[str]]:
    report: FormatReport = export.write(rollouts, folder, [format], **options).formats[format]
    assert report.read == report.selected + report.excluded.total()
    return report.rows, report.excluded + report.dropped_rows


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}: {case.reason}")
def test_a_reason_is_true_and_its_hint_helps(case: Case, tmp_path: Path) -> None:
    rows, reasons = exported(case.rollouts, case.format, tmp_path, **case.options)
    assert (rows, case.reason in reasons) == (case.rows_before, True), reasons
    advised = case.options if case.advised is None else case.advised
    form = case.advised_format or case.format
    more, left = exported(case.rollouts, form, tmp_path, **advised)
    assert more > rows, left
    assert case.reason not in left


SELECTIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("status truncated", {}, {"status": ["completed", "truncated"]}),
    ("reward below 0.6", {"min_reward": 0.6}, {"min_reward": 0.1}),
    ("reward above 0.4", {"max_reward": 0.4}, {"max_reward": 0.6}),
    ("other training step", {"steps": (5, None)}, {"steps": (1, 2)}),
    ("fewer than 2 turns", {"min_turns": 2}, {"min_turns": 1}),
    ("tokens not observed", {"max_tokens": 5}, {}),
    ("label missing", {"labels": "gold"}, {}),
    ("label unwanted", {"without_labels": "x"}, {}),
    ("no rating", {"min_rating": 2}, {}),
    ("discarded: stale", {"discarded": False}, {}),
    ("refused by `where`", {"where": lambda rollout: rollout.reward == 7}, {}),
    ("beyond the first 1", {"limit": 1}, {}),
    ("duplicate (exact)", {"dedupe": "exact"}, {"dedupe": None}),
    ("not the best of 2", {"best_of": 2}, {"best_of": None}),
    ("not in the top 1", {"top_k": 1}, {}),
    ("another of its group was drawn", {"one_per_group": True}, {}),
    ("balanced by reward", {"balance": "reward"}, {}),
    *((f"other {kind}", {f"{kind}s": "elsewhere"}, {}) for kind in ("environment", "split", "model", "run", "task", "group")),
]


@pytest.mark.parametrize(("reason", "criteria", "advised"), SELECTIONS, ids=[reason for reason, _, _ in SELECTIONS])
def test_a_reason_of_a_selection_is_true_and_its_hint_helps(
    reason: str, criteria: dict[str, Any], advised: dict[str, Any], tmp_path: Path
) -> None:
    common: dict[str, Any] = {"group": "g", "step": 1, "labels": ["x"], "discard_reason": "stale"}
    rollouts = [
        episode(assistant("same"), reward=0.5, sample=0, **common),
        episode(assistant("same"), reward=0.5, sample=1, **common),
        episode(assistant("other"), reward=0.5, sample=2, status="truncated", **common),
    ]
    rollouts.append(replace(rollouts[0], id="more", reward=0.3))
    _, reasons = exported(rollouts, "sft", tmp_path, select=Select(**criteria))
    assert reason in reasons
    _, left = exported(rollouts, "sft", tmp_path, select=Select(**advised))
    assert reason not in left


QUIET = CHATML.replace("{{- message.content }}", "{{- message.content | replace('loud', 'quiet') }}")
PLAIN = (
    "{%- for m in messages %}{{- m.role + ': ' + m.content + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}assistant: {% endif %}"
)
TEMPLATES: list[tuple[str, str, list[Rollout], str]] = [
    ("the template loses or changes the model's text", QUIET, [episode(assistant("so loud"))], "tokens"),
    (
        "the template refuses it: no systems",
        "{{- raise_exception('no systems') if messages[0].content == 'What is the weather?' }}" + CHATML,
        [episode(assistant("a"))],
        "sft",
    ),
    (
        "the template ends a turn without a control token: the model would not learn to stop",
        PLAIN,
        [episode(assistant("a"))],
        "tokens",
    ),
    (
        "it has images: the template shows none (take a vision model's tokenizer, or sft)",
        CHATML,
        [episode(shown(PICTURE), assistant("x"))],
        "tokens",
    ),
    ("longer than 5 tokens", CHATML, [episode(assistant("x"))], "sft"),
    ("shorter than 9999 tokens", CHATML, [episode(assistant("x"))], "sft"),
]


@pytest.mark.parametrize(("reason", "template", "rollouts", "form"), TEMPLATES, ids=[reason for reason, *_ in TEMPLATES])
def test_a_reason_of_a_template_is_true(reason: str, template: str, rollouts: list[Rollout], form: str, tmp_path: Path) -> None:
    limits = {"longer": {"max_length": 5}, "shorter": {"min_length": 9999}}.get(reason.split()[0], {})
    rows, reasons = exported(rollouts, form, tmp_path, tokenizer=tiny_tokenizer(template), **limits)
    assert (rows, dict(reasons)) == (0, {reason: 1})
    assert exported(rollouts, "sft", tmp_path)[0] == 1


def findings(rollout: Rollout, form: str, folder: Path, **options: Any) -> set[str]:
    return set(export.write([rollout], folder, [form], **options).formats[form].findings)


def test_remarks_are_true(tmp_path: Path) -> None:
    """A remark says what happened to the rows of this very format."""
    negative = episode(assistant("a", weight=-1.0), user("?"), assistant("b"))
    assert findings(negative, "axolotl", tmp_path) == {"untrained_turn"}
    half = episode(assistant("a", weight=0.5))
    assert findings(half, "axolotl", tmp_path) == {"other_weight"}
    # These write the weight, or train nothing.
    assert [findings(half, form, tmp_path) for form in ("llama_factory_v1", "rollouts", "atif", "prompts", "nemo_gym")] == [
        set()
    ] * 5
    assert findings(PARALLEL[0], "sft", tmp_path, parallel_calls="split") == {"parallel_calls_split"}
    assert findings(PARALLEL[0], "rollouts", tmp_path, parallel_calls="split") == set()
    report = str(export.write(PARALLEL, tmp_path, ["sft"], parallel_calls="split"))
    assert re.search(r"parallel_calls='split', or the template", report)
    thinking = episode(assistant("x"), sampling={"chat_template_kwargs": {"a": 1}}, task="t")
    worse = replace(thinking, id="w", reward=0.0, messages=[thinking.messages[0], assistant("y")], task=Task(id="t", index=0))
    written = export.write([thinking, worse], tmp_path, ["sharegpt_preference", "preference"], tokenizer=tiny_tokenizer())
    assert "template_options_unwritten" not in written.formats["preference"].findings
