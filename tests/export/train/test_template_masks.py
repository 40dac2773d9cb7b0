"""For each family of chat templates that TRL ships: the trained spans equal those that a scanner of its markup finds.

The exporter takes prefixes from each other; the scanner knows nothing of prefixes, only how each family writes a turn.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import WEATHER
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.export.template import ChatTemplate
from openreward_gym.types import Block, Message, ReasoningItem, Rollout, TextBlock, ToolCall

CONVERSATIONS = 1000 if os.environ.get("OPENREWARD_GYM_LONG") else 12


@dataclass(frozen=True)
class Family:
    """The markup of an assistant's turn in a family.

    Attributes:
        begin: What stands before it, prefilled text included.
        end: The control token that ends it.
        reasoning: Whether it renders reasoning at all.
        text_beside_call: Whether it renders text beside a call.
        parallel: Whether it renders several calls of one message.
    """

    begin: str
    end: str
    reasoning: bool = True
    text_beside_call: bool = True
    parallel: bool = True


_CHATML = r"<\|im_start\|>assistant\n"
_THINK = r"<\|im_start\|>assistant\n<think>\n"
# Its own template writes no header before the second message with calls of a conversation.
_DEEPSEEK = r"<｜Assistant｜>|<｜tool▁outputs▁end｜>|(?<!<｜tool▁call▁end｜>)(?=\n<｜tool▁call▁begin｜>)"
_NEMOTRON = r"<\|im_start\|>assistant\n<think>\n?"
_IM_END = r"<\|im_end\|>"
_MODEL = r"(?:<tool_response\|>)?<\|turn>model\n|<tool_response\|>(?!<\|tool_response>)"
_GEMMA = r"<turn\|>|<\|tool_response>"

FAMILIES = {
    "qwen2_5": Family(_CHATML, _IM_END, reasoning=False),
    "qwen3": Family(_CHATML, _IM_END),
    "qwen3_instruct_2507": Family(_CHATML, _IM_END, reasoning=False),
    "qwen3_vl": Family(_CHATML, _IM_END, reasoning=False),
    "qwen3_5_think": Family(_THINK, _IM_END),
    "qwen3_5_nothink": Family(_THINK + r"(?:\n</think>\n\n)?", _IM_END),
    "qwen3_6": Family(_THINK, _IM_END),
    "qwen3_8": Family(_THINK, _IM_END),
    "glm4moe": Family(r"<\|assistant\|>", r"<\|user\|>|<\|observation\|>"),
    "nemotron_3_nano": Family(_NEMOTRON, _IM_END),
    "nemotron_3_super": Family(_NEMOTRON, _IM_END),
    "nemotron_3_ultra": Family(_NEMOTRON, _IM_END),
    "nemotron_3_5_lightning": Family(_NEMOTRON, _IM_END),
    "lfm2_v2": Family(_CHATML, _IM_END, reasoning=False),
    "lfm2_2_5": Family(_CHATML, _IM_END),
    "lfm2_2_5_v2": Family(_CHATML, _IM_END),
    "lfm2_2_5_vl": Family(_CHATML, _IM_END),
    "llama3_1": Family(
        r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n",
        r"<\|eot_id\|>",
        reasoning=False,
        text_beside_call=False,
        parallel=False,
    ),
    "llama3_2": Family(
        r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n",
        r"<\|eot_id\|>",
        reasoning=False,
        text_beside_call=False,
        parallel=False,
    ),
    "gptoss": Family(
        r"<\|start\|>assistant",
        r"<\|call\|>|<\|return\|>|<\|end\|>(?!<\|start\|>assistant)",
        reasoning=False,
        parallel=False,
    ),
    "deepseekv3": Family(_DEEPSEEK, r"<｜end▁of▁sentence｜>", reasoning=False, text_beside_call=False),
    "gemma4": Family(_MODEL, _GEMMA, reasoning=False, text_beside_call=False),
    "gemma4_v2": Family(_MODEL, _GEMMA, reasoning=False, text_beside_call=False),
    "gemma4_v3": Family(_MODEL, _GEMMA, reasoning=False, text_beside_call=False),
    "gemma4_v4": Family(_MODEL, _GEMMA, reasoning=False, text_beside_call=False),
    "gemma4_v5": Family(_MODEL, _GEMMA, text_beside_call=False),
    "muse_glimmer": Family(r"<\|start\|>assistant", r"<\|eot\|>|<\|eom\|>(?!<\|start\|>assistant)", text_beside_call=False),
    "diffusion_gemma": Family(_MODEL, _GEMMA, text_beside_call=False),
}


def template_of(family: str) -> Any:
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{family}.jinja"
    eos = {"deepseekv3": "<｜end▁of▁sentence｜>"}.get(family, "<|endoftext|>")
    return tiny_tokenizer(path.read_text(encoding="utf-8"), bos_token="<|begin_of_text|>", eos_token=eos)


def conversation(chance: random.Random, family: Family) -> Rollout:
    """One to three user turns, none to three tool turns after each, calls one after the other or side by side."""

    def words(what: str) -> str:
        return f"{what} " + " ".join(chance.choice(["rain", "snow", "naïve", "日本", "x < y", '"so"', "a\nb"]) for _ in range(4))

    messages: list[Message] = []
    if chance.random() < 0.5:
        messages.append(Message(role="system", blocks=(TextBlock(text=words("SYSTEM")),)))
    identity = 0
    thinks = family.reasoning and chance.random() < 0.7
    for _ in range(chance.randrange(1, 4)):
        messages.append(Message(role="user", blocks=(TextBlock(text=words("USER")),)))
        for turn in range(number := chance.randrange(4)):
            del turn
            blocks: list[Block] = [ReasoningItem(content=words("THOUGHT"))] if thinks else []
            if family.text_beside_call and chance.random() < 0.5:
                blocks.append(TextBlock(text=words("ASIDE")))
            calls = []
            for _ in range(chance.choice([1, 1, 2, 3])):
                identity += 1
                arguments = {"city": words("CITY"), "days": chance.randrange(9), "metric": chance.random() < 0.5}
                calls.append(ToolCall(call_id=f"call{identity:05d}", name="weather", arguments=arguments))
            messages.append(
                Message(
                    role="assistant",
                    blocks=(*blocks, *calls),
                )
            )
            messages += [
                Message(role="tool", call_id=call.call_id, name="weather", blocks=(TextBlock(text=words("RESULT")),))
                for call in calls
            ]
        del number
        thought: list[Block] = [ReasoningItem(content=words("THOUGHT"))] if thinks else []
        messages.append(
            Message(
                role="assistant",
                blocks=(
                    *thought,
                    TextBlock(text=words("ANSWER")),
                ),
            )
        )
    return Rollout(messages=messages, tools=[WEATHER], status="completed", reward=1.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_mask_is_what_a_scanner_of_the_markup_finds(name: str) -> None:
    family = FAMILIES[name]
    tokenizer = template_of(name)
    chance = random.Random(name)
    rollouts = [conversation(chance, family) for _ in range(CONVERSATIONS)]
    turns = re.compile(f"(?:{family.begin})(.*?(?:{family.end}))", re.DOTALL)
    rows = export.to_dataset(rollouts, format="tokens", tokenizer=tokenizer)
    by_rollout: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_rollout.setdefault(row["rollout_id"], []).append(row)
    assert set(by_rollout) == {rollout.id for rollout in rollouts}
    for rollout in rollouts:
        all_trained = []
        for row in by_rollout[rollout.id]:
            spans = trained_spans(row)
            text = tokenizer.decode(row["input_ids"])
            rendered = [match[1] for match in turns.finditer(text)]
            trained = [tokenizer.decode(row["input_ids"][begin:end]) for begin, end in spans]
            assert trained == rendered[len(rendered) - len(trained) :]
            # Nothing is after the last trained token.
            assert spans[-1][1] == len(row["input_ids"])
            all_trained += trained
        assert_all_is_trained(rollout, all_trained)


def trained_spans(row: dict[str, Any]) -> list[tuple[int, int]]:
    """(begin, end) of each run of trained tokens."""
    mask = [label != -100 for label in row["labels"]]
    edges = [n for n in range(1, len(mask)) if mask[n] != mask[n - 1]] + ([len(mask)] if mask[-1] else [])
    return list(zip(edges[::2], edges[1::2], strict=True))


def _text_of(block: TextBlock | ReasoningItem) -> str:
    return block.text if isinstance(block, TextBlock) else block.content or ""


def assert_all_is_trained(rollout: Rollout, trained: list[str]) -> None:
    """Check that the trained text has every text, thought and city of the assistant once, and no text of others."""
    whole = "\n".join(trained)
    for message in rollout.messages:
        if message.role == "assistant":
            texts = [_text_of(block) for block in message.blocks if isinstance(block, (TextBlock, ReasoningItem))]
            assert all(text in whole for text in texts)
    for word, count in (("ANSWER", "ANSWER"), ("THOUGHT", "THOUGHT"), ("ASIDE", "ASIDE")):
        expected = sum(
            1
            for message in rollout.messages
            if message.role == "assistant"
            for block in message.blocks
            if isinstance(block, (TextBlock, ReasoningItem)) and _text_of(block).startswith(word)
        )
        assert whole.count(count) == expected
    assert whole.count("CITY") == rollout.num_tool_calls
    assert not re.search("USER|SYSTEM|RESULT", whole)


@pytest.mark.parametrize("name", FAMILIES)
def test_probes_of_the_template_say_what_the_table_says(name: str) -> None:
    family = FAMILIES[name]
    template = ChatTemplate(template_of(name))
    assert template.has_tools
    assert template.system
    assert template.parallel_calls == family.parallel
