"""For each chat template that TRL ships: the trained spans equal those that a scanner of its markup finds.

The exporter takes renderings from each other. The scanner knows nothing of that, only how each family writes a turn; the text
before a turn is compared with what the template gives a sampler, from chat messages that are made here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import WEATHER
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.export.template import ChatTemplate
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    ReasoningItem,
    Rollout,
    Sampled,
    TextBlock,
    ToolCall,
    ToolMessage,
)

CONVERSATIONS = 1000 if os.environ.get("OPENREWARD_GYM_LONG") else 20
INTERLEAVED = "text after a call of the same turn: chat messages have all text before the calls"
TOOL = {
    "type": "function",
    "function": {"name": WEATHER.name, "description": WEATHER.description, "parameters": WEATHER.input_schema},
}


@dataclass(frozen=True)
class Family:
    """The markup of an assistant's turn in a family.

    Attributes:
        begin: What stands before it, prefilled text included.
        end: The control token that ends it.
        tools: Whether it renders calls and their results.
        system: Whether it takes a system message.
        reasoning: Whether it renders reasoning at all.
        text_beside_call: Whether it renders text beside a call.
        parallel: Whether it renders several calls of one message.
        arguments: "objects" or "texts": what it takes as a call's arguments.
        parts: Whether it takes a content as a list of parts only.
    """

    begin: str
    end: str
    tools: bool = True
    system: bool = True
    reasoning: bool = True
    text_beside_call: bool = True
    parallel: bool = True
    arguments: str = "objects"
    parts: bool = False


_CHATML = r"<\|im_start\|>assistant\n(?:<think>\n\n</think>\n\n)?"
_THINK = r"<\|im_start\|>assistant\n<think>\n(?:\n</think>\n\n)?"
_NEMOTRON = r"<\|im_start\|>assistant\n<think>\n?(?:</think>)?"
# Its own template writes no header before the second message with calls of a conversation.
_DEEPSEEK = r"<｜Assistant｜>(?:<think>\n)?|<｜tool▁outputs▁end｜>|(?<!<｜tool▁call▁end｜>)(?=\n<｜tool▁call▁begin｜>)"
_EOS = r"<｜end▁of▁sentence｜>"
_IM_END = r"<\|im_end\|>"
_MODEL = r"(?:<tool_response\|>)?<\|turn>model\n|<tool_response\|>(?!<\|tool_response>)"
_GEMMA4 = r"<turn\|>|<\|tool_response>"
_LLAMA = r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n"
_COHERE = r"<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>"
_GLM = r"<\|assistant\|>(?:\n<think></think>\n)?"

_llama = Family(_LLAMA, r"<\|eot_id\|>", reasoning=False, text_beside_call=False, parallel=False)
_gemma4 = Family(_MODEL, _GEMMA4, reasoning=False, text_beside_call=False)
_deepseek = Family(_DEEPSEEK, _EOS, reasoning=False, text_beside_call=False)
_nemotron = Family(_NEMOTRON, _IM_END)
_think = Family(_THINK, _IM_END)
_plain = Family(_CHATML, _IM_END, reasoning=False)
_chat = Family(_CHATML, _IM_END)
_gptoss = Family(
    r"<\|start\|>assistant",
    r"<\|call\|>|<\|return\|>|<\|end\|>(?!<\|start\|>assistant)",
    reasoning=False,
    parallel=False,
)
_muse = Family(r"<\|start\|>assistant", r"<\|eot\|>|<\|eom\|>(?!<\|start\|>assistant)", text_beside_call=False)
_glm = Family(_GLM, r"<\|user\|>|<\|observation\|>")
_no_tools = Family("", "", tools=False, reasoning=False)
_gemma = replace(_no_tools, begin=r"<start_of_turn>model\n", end="<end_of_turn>", system=False)
_nano = replace(_nemotron, begin=r"<\|im_start\|>assistant\n<think>\n?(?:</think>\n?)?")
_seeing = replace(_no_tools, begin="\nAssistant:", end="<end_of_utterance>", parts=True)
_phi = replace(_no_tools, begin=r"<\|assistant\|>\n", end=r"<\|end\|>")

FAMILIES = {
    "cohere": replace(_no_tools, begin=_COHERE, end=r"<\|END_OF_TURN_TOKEN\|>"),
    "cohere2": replace(_no_tools, begin=_COHERE + r"<\|START_RESPONSE\|>", end=r"<\|END_OF_TURN_TOKEN\|>"),
    "deepseek_r1_distill": replace(_deepseek, tools=False),
    "deepseekv3": replace(_deepseek, arguments="texts"),
    "diffusion_gemma": replace(_gemma4, reasoning=True),
    "gemma": _gemma,
    "gemma3": replace(_gemma, system=True),
    "gemma4": _gemma4,
    "gemma4_v2": _gemma4,
    "gemma4_v3": _gemma4,
    "gemma4_v4": _gemma4,
    "gemma4_v5": replace(_gemma4, reasoning=True),
    "glm4moe": _glm,
    "gptoss": _gptoss,
    "idefics3": _seeing,
    "lfm2": replace(_plain, tools=False),
    "lfm2_2_5": _chat,
    "lfm2_2_5_v2": _chat,
    "lfm2_2_5_vl": _chat,
    "lfm2_v2": _plain,
    "llama3": replace(_llama, tools=False),
    "llama3_1": _llama,
    "llama3_2": _llama,
    "llava_next": replace(_no_tools, begin=r"\[/INST\]", end="</s>", parts=True),
    "muse_glimmer": _muse,
    "nemotron_3_5_lightning": _nemotron,
    "nemotron_3_nano": _nano,
    "nemotron_3_super": _nano,
    "nemotron_3_ultra": _nemotron,
    "phi3": _phi,
    "phi3_5": _phi,
    "qwen2_5": _plain,
    "qwen2_5_vl": replace(_plain, tools=False),
    "qwen3": _chat,
    "qwen3_5_nothink": _think,
    "qwen3_5_think": _think,
    "qwen3_6": _think,
    "qwen3_8": _think,
    "qwen3_instruct_2507": _plain,
    "qwen3_vl": _plain,
    "smolvlm": _seeing,
}


def templates() -> dict[str, Path]:
    """Return the files of all templates of the installed TRL, by name."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    return {path.stem: path for path in sorted(folder.glob("*.jinja"))}


def family_of(name: str) -> Family:
    """Return the family of a template, or of the one that it is TRL's variant for training of."""
    family = FAMILIES.get(name) or FAMILIES[name.removesuffix("_training")]
    return replace(family, arguments="objects") if name.endswith("_training") else family


def template_of(name: str) -> Any:
    eos = "<｜end▁of▁sentence｜>" if "deepseek" in name else "</s>" if "llava" in name else "<|endoftext|>"
    text = templates()[name].read_text(encoding="utf-8")
    return tiny_tokenizer(text, ("<end_of_utterance>",), bos_token="<|begin_of_text|>", eos_token=eos)


@dataclass
class Sample:
    """A rollout, its chat messages, and the words that are to be trained.

    Attributes:
        rollout: The rollout.
        messages: Its chat messages, made without the exporter.
        words: The words to train, each of which one text has.
        turns: For each word of the assistant, the position of its chat message.
        others: The words that nobody may train.
        kinds: What it has besides plain turns.
    """

    rollout: Rollout
    messages: list[dict[str, Any]] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    turns: dict[str, int] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)


class Generator:
    """Makes conversations that a family can render.

    One to three user turns, none to three tool turns after each, calls one after the other or side by side, after examples in the
    prompt; now and then a turn is a refusal, has the weight 0, a malformed call, a thought alone, or interleaved texts and calls.
    """

    def __init__(self, family: Family, chance: random.Random) -> None:
        self.family = family
        self.chance = chance
        self.numbers = count(10000)

    def text(self) -> tuple[str, str]:
        """Return a text, and the word that no other text has."""
        word = f"w{next(self.numbers)}w"
        return word, f"{word} " + " ".join(
            self.chance.choice(["rain", "naïve", "日本", "x < y", '"so"', "a\nb"]) for _ in range(3)
        )

    def sample(self) -> Sample:
        sample = Sample(Rollout(messages=[], tools=[WEATHER] if self.family.tools else [], status="completed", reward=1.0))
        self.thinks = self.family.reasoning and self.chance.random() < 0.7
        if self.family.system and self.chance.random() < 0.5:
            self.speak(sample, "system", "given")
        if self.chance.random() < 0.2:
            sample.kinds.add("given history")
            self.exchange(sample, "given")
        for _ in range(self.chance.choice([1, 1, 2, 3])):
            self.exchange(sample, "policy")
        if not sample.words:
            return self.sample()
        return sample

    def speak(self, sample: Sample, role: Any, origin: Any) -> None:
        word, text = self.text()
        sample.others.add(word)
        sample.rollout.messages.append(Message(role, (TextBlock(text),), origin=origin))
        sample.messages.append({"role": role, "content": text})

    def exchange(self, sample: Sample, origin: Any) -> None:
        self.speak(sample, "user", "given" if origin == "given" else "environment")
        chance = self.chance
        for _ in range(chance.randrange(3) if self.family.tools else 0):
            odd = chance.random()
            if origin == "policy" and odd < 0.03:
                sample.kinds.add("malformed call")
                self.turn(sample, origin, calls=1, ended="malformed", malformed=True)
            elif origin == "policy" and odd < 0.05:
                sample.kinds.add("interleaved")
                self.turn(sample, origin, calls=1, interleaved=True)
            else:
                self.turn(sample, origin, calls=chance.choice([1, 1, 2, 3]))
        odd = chance.random()
        if origin == "policy" and odd < 0.05:
            sample.kinds.add("refusal")
            self.turn(sample, origin, ended="refusal")
        elif origin == "policy" and odd < 0.1:
            sample.kinds.add("weight 0")
            self.turn(sample, origin, weight=0.0)
        elif origin == "policy" and odd < 0.15 and self.thinks:
            sample.kinds.add("reasoning only")
            self.turn(sample, origin, answers=False)
        else:
            self.turn(sample, origin)

    def turn(
        self,
        sample: Sample,
        origin: Any,
        *,
        calls: int = 0,
        ended: Any = None,
        weight: float | None = None,
        malformed: bool = False,
        interleaved: bool = False,
        answers: bool = True,
    ) -> None:
        """Add a turn of the assistant, and the results of its calls."""
        family, chance = self.family, self.chance
        blocks: list[Block] = []
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        words: list[str] = []
        if self.thinks or not answers:
            word, text = self.text()
            words.append(word)
            blocks.append(ReasoningItem(text))
            message["reasoning_content"] = text
        if answers and (not calls or (family.text_beside_call and chance.random() < 0.5)):
            word, message["content"] = self.text()
            words.append(word)
            blocks.append(TextBlock(message["content"]))
        at = len(sample.messages)
        of_calls = []
        for _ in range(calls):
            block, word, call, answer = self.call(sample, malformed)
            blocks.append(block)
            of_calls.append((word, call, answer))
        if interleaved:
            word, text = self.text()
            words.append(word)
            blocks.append(TextBlock(text))
        sample.rollout.messages.append(
            AssistantMessage(blocks, origin=origin, ended=ended or ("tool_calls" if calls else "stop"), weight=weight)
        )
        sample.rollout.messages += [
            ToolMessage(
                answer["content"], answer["tool_call_id"], "weather", origin="given" if origin == "given" else "environment"
            )
            for _, _, answer in of_calls
        ]
        if of_calls and not family.parallel:
            for number, (word, call, answer) in enumerate(of_calls):
                first = message if number == 0 else {"role": "assistant", "content": ""}
                sample.turns[word] = len(sample.messages)
                sample.messages += [{**first, "tool_calls": [call]}, answer]
        else:
            sample.turns.update((word, at) for word, _, _ in of_calls)
            sample.messages.append({**message, **({"tool_calls": [call for _, call, _ in of_calls]} if of_calls else {})})
            sample.messages += [answer for _, _, answer in of_calls]
        sample.turns.update(dict.fromkeys(words, at))
        words += [word for word, _, _ in of_calls]
        trained = origin == "policy" and weight != 0 and ended not in ("refusal", "malformed")
        (sample.words if trained else sample.others).update(words)

    def call(self, sample: Sample, malformed: bool) -> tuple[ToolCall, str, dict[str, Any], dict[str, Any]]:
        """Return a call: its block, the word in its arguments, and the chat's call and result."""
        word, city = self.text()
        call_id = f"call{next(self.numbers):05d}"
        arguments: Any = {"city": city, "days": self.chance.randrange(9), "metric": self.chance.random() < 0.5}
        content = json.dumps(arguments)[:-2] if malformed else None
        block = ToolCall("weather", None if malformed else arguments, call_id, content)
        if malformed:
            arguments = content
        elif self.family.arguments == "texts":
            arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        call = {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}
        result_word, result = self.text()
        sample.others.add(result_word)
        return block, word, call, {"role": "tool", "tool_call_id": call_id, "name": "weather", "content": result}

    def recorded(self, sample: Sample, tokenizer: Any) -> None:
        """Give each turn of the policy the ids that it was sampled as, in the order of its blocks."""

        def ids(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

        messages = sample.rollout.messages
        for number, message in enumerate(messages):
            if message.role == "assistant" and message.origin == "policy":
                text = "|".join(map(written, message.blocks)) + tokenizer.eos_token
                before = "".join(f"[{one.role}]{''.join(map(written, one.blocks))}" for one in messages[:number])
                sampled = Sampled(token_ids=ids(text), prompt_token_ids=ids(before), logprobs=(-0.5,) * len(ids(text)))
                messages[number] = message.replace(sampled=sampled)


def written(block: Block) -> str:
    if isinstance(block, ToolCall):
        return f"{block.name} {json.dumps(block.arguments, ensure_ascii=False)} {block.content or ''}"
    return block.text if isinstance(block, TextBlock) else getattr(block, "content", None) or ""


def trained_spans(row: dict[str, Any]) -> list[tuple[int, int]]:
    """(begin, end) of each run of trained tokens."""
    mask = [label != -100 for label in row["labels"]]
    edges = [n for n in range(1, len(mask)) if mask[n] != mask[n - 1]] + ([len(mask)] if mask[-1] else [])
    return list(zip(edges[::2], edges[1::2], strict=True))


def words_in(text: str) -> list[str]:
    return re.findall(r"w\d{5}w", text)


def contexts(row: dict[str, Any], sample: Sample, family: Family, tokenizer: Any, turns: re.Pattern[str]) -> Iterator[bool]:
    """Check a row, and yield for each trained span whether the text before it is what the template gives a sampler."""
    spans = trained_spans(row)
    places = [place for span in spans for place in span]
    pieces = [tokenizer.decode(row["input_ids"][begin:end]) for begin, end in zip([0, *places], places, strict=False)]
    text = "".join(pieces)
    scanned = {match.span(1) for match in turns.finditer(text)}
    # Nothing is after the last trained token.
    assert places[-1] == len(row["input_ids"])
    position = 0
    for before, trained in zip(pieces[::2], pieces[1::2], strict=True):
        position += len(before)
        assert (position, position + len(trained)) in scanned, (text, trained)
        (turn,) = {sample.turns[word] for word in words_in(trained)}
        messages = sample.messages[:turn]
        if family.parts:
            messages = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]
        context = tokenizer.apply_chat_template(
            messages, tools=[TOOL] if family.tools else None, tokenize=False, add_generation_prompt=True
        )
        yield context == text[:position]
        position += len(trained)


@pytest.mark.parametrize("name", templates())
def test_mask_is_what_a_scanner_of_the_markup_finds(name: str, tmp_path: Path, record_property: Any) -> None:
    family = family_of(name)
    tokenizer = template_of(name)
    chance = random.Random(name)
    generator = Generator(family, chance)
    samples = [generator.sample() for _ in range(CONVERSATIONS)]
    for sample in samples:
        if chance.random() < (0.5 if "interleaved" in sample.kinds else 0.02):
            sample.kinds.add("recorded")
            generator.recorded(sample, tokenizer)
    rows = export.to_dataset([sample.rollout for sample in samples], "tokens", tokenizer=tokenizer, malformed_calls="keep")
    by_rollout: dict[str, list[dict[str, Any]]] = {}
    for row in rows.with_format(None):
        by_rollout.setdefault(row["rollout_id"], []).append(row)
    turns = re.compile(f"(?:{family.begin})(.*?(?:{family.end}))", re.DOTALL)
    counts: Counter[str] = Counter()
    for sample in samples:
        own = by_rollout.get(sample.rollout.id, [])
        if not own:
            reason = "interleaved" if "interleaved" in sample.kinds else "malformed call"
            assert reason in sample.kinds, sample.messages
            assert "recorded" not in sample.kinds
            counts[f"left out: {reason}"] += 1
            continue
        assert "interleaved" not in sample.kinds or "recorded" in sample.kinds
        counts.update(["conversations", *sample.kinds])
        trained = Counter(
            word
            for row in own
            for begin, end in trained_spans(row)
            for word in words_in(tokenizer.decode(row["labels"][begin:end]))
        )
        assert trained == Counter(sample.words)
        for row in own:
            assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
            if "recorded" in sample.kinds:
                assert row["logprobs"] == [0.0 if label == -100 else -0.5 for label in row["labels"]]
                assert not row["context_differs"]
                continue
            same = all(list(contexts(row, sample, family, tokenizer, turns)))
            assert row["context_differs"] != same
            counts["rows in another context"] += not same
    for kind, number in counts.items():
        record_property(kind, number)
    print(name, dict(counts))


@pytest.mark.parametrize("name", templates())
def test_probes_of_the_template_say_what_the_table_says(name: str) -> None:
    family = family_of(name)
    template = ChatTemplate(template_of(name))
    assert template.has_tools == family.tools
    assert template.system == family.system
    if family.tools:
        assert template.parallel_calls == family.parallel
