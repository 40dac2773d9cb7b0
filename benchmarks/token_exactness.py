"""Token-exactness over all chat templates of the installed TRL: what is extended, where segments split, and the drift.

    python benchmarks/token_exactness.py                       # all templates, 1,000 conversations each
    python benchmarks/token_exactness.py qwen3 gptoss --conversations 200

A conversation has one to six turns with texts, reasoning, several calls, malformed calls, cut-off and empty turns, unicode, white
space at both ends, results of several kinds and replies of a user. Half of them are sampled with a tokenizer of one token per
byte, half with a BPE trained here, whose ids are cut at random places, so that encoding a sampled text again gives other ids.

After each turn it is checked that the next prompt begins with the last prompt and the sampled ids, or that a segment begins there
with the template's own rendering; that the added ids, decoded, are the end of the template's text for the same messages, from the
end of the turn on; and that a segment is split only where the template's text no longer has every word of the conversation in
order. At the end the trained ids are those that were sampled, with their log-probabilities. Any difference is an error.

TRL 1.16.0, transformers 5.24.0, 1,000 conversations for each template: 251,978 sampled turns, 160,436 prompts by extension,
19,542 with which a segment begins, and no other. `tools`: the template shows the results of tools. `drift`: the mean per
conversation. Most of it is text that the model wrote in another way than the template, and what the template leaves out.

    template                         tools  turns extended split  drift
    cohere                           no      3473     2473     0    2.9
    cohere2                          no      3475     2475     0    3.3
    cohere2_training                 no      3515     2515     0    3.0
    cohere_training                  no      3511     2511     0    3.0
    deepseek_r1_distill              yes     3539     2339   200   16.3
    deepseek_r1_distill_training     yes     3504     2504     0   11.3
    deepseekv3                       yes     3428     2109   319   25.1
    deepseekv3_training              yes     3570     2251   319   27.5
    diffusion_gemma                  yes     3549     1446  1103   54.1
    diffusion_gemma_training         yes     3531     1440  1091   50.5
    gemma                            no      3563     2563     0    3.0
    gemma3                           no      3431     2431     0    2.9
    gemma3_training                  no      3500     2500     0    2.9
    gemma4                           yes     3477     1954   523   37.7
    gemma4_v2                        yes     3450     1887   563   18.9
    gemma4_v3                        yes     3552     1992   560   41.0
    gemma4_v4                        yes     3488     1948   540   39.7
    gemma4_v5                        yes     3527     1463  1064   47.1
    gemma_training                   no      3406     2406     0    2.9
    glm4moe                          yes     3521     1914   607   51.7
    glm4moe_training                 yes     3432     1829   603   50.7
    gptoss                           yes     3447     1462   985  102.5
    gptoss_training                  yes     3495     1559   936   95.0
    idefics3                         yes     3458     2458     0    3.6
    idefics3_training                yes     3379     2379     0    3.6
    lfm2                             yes     3587     2587     0    1.9
    lfm2_2_5                         yes     3508     1875   633   28.9
    lfm2_2_5_v2                      yes     3488     1858   630   29.8
    lfm2_2_5_vl                      yes     3601     1956   645   30.8
    lfm2_training                    yes     3490     2490     0    1.9
    lfm2_v2                          yes     3397     2397     0    9.4
    lfm2_v2_training                 yes     3513     2513     0    9.9
    llama3                           yes     3425     2425     0    2.5
    llama3_1                         yes     3516     2200   316   13.3
    llama3_2                         yes     3491     2156   335   12.6
    llama3_training                  yes     3451     2451     0    2.3
    llava_next                       no      3522     2522     0    3.8
    llava_next_training              no      3589     2589     0    3.7
    muse_glimmer                     yes     3469     2021   448   28.1
    muse_glimmer_training            yes     3484     2020   464   27.8
    nemotron_3_5_lightning           yes     3555     1962   593   40.0
    nemotron_3_5_lightning_training  yes     3518     1971   547   38.1
    nemotron_3_nano                  yes     3611     2029   582   40.3
    nemotron_3_nano_training         yes     3336     1816   520   37.4
    nemotron_3_super                 yes     3456     1869   587   38.4
    nemotron_3_super_training        yes     3537     1931   606   38.5
    nemotron_3_ultra                 yes     3507     1938   569   38.4
    nemotron_3_ultra_training        yes     3577     2011   566   40.0
    phi3                             no      3539     2539     0    2.7
    phi3_5                           no      3486     2486     0    2.7
    phi3_5_training                  no      3407     2407     0    2.3
    phi3_training                    no      3462     2462     0    2.5
    qwen2_5                          yes     3572     2572     0   16.4
    qwen2_5_training                 yes     3515     2515     0   15.9
    qwen2_5_vl                       yes     3586     2586     0    2.0
    qwen2_5_vl_training              yes     3495     2495     0    2.1
    qwen3                            yes     3466     1957   509   33.1
    qwen3_5_nothink                  yes     3517     1984   533   56.7
    qwen3_5_nothink_training         yes     3425     2418     7   24.2
    qwen3_5_think                    yes     3481     1947   534   44.3
    qwen3_5_think_training           yes     3499     2491     8   30.5
    qwen3_6                          yes     3463     1983   480   44.5
    qwen3_6_training                 yes     3563     2557     6   31.3
    qwen3_8                          yes     3614     2614     0   31.2
    qwen3_8_training                 yes     3628     2628     0   33.3
    qwen3_instruct_2507              yes     3475     2475     0   14.5
    qwen3_instruct_2507_training     yes     3520     2520     0   16.4
    qwen3_training                   yes     3464     2453    11   35.0
    qwen3_vl                         yes     3509     2509     0   16.0
    qwen3_vl_training                yes     3508     2508     0   16.9
    smolvlm                          yes     3538     2538     0    3.8
    smolvlm_training                 yes     3397     2397     0    3.5
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from openreward_gym.errors import TokenHistoryError
from openreward_gym.export.formats.tokens import CannotSplit, TurnSplitter
from openreward_gym.export.template import ChatTemplate
from openreward_gym.integrations.extension import TemplateExtender
from openreward_gym.integrations.token_history import TokenHistory, encode

CONVERSATIONS = 1000
WORD = re.compile(r"w\d{5}w")
CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\|[a-z_\"]{1,20}>|<[a-z_]{1,20}\|>|<｜[^<>\s]{1,40}｜>|<(?:start|end)_of_(?:turn|image|utterance)>"
)
CONTROL_OR_TEXT = re.compile(rf"{CONTROL.pattern}|(?:(?!{CONTROL.pattern}).)+", re.DOTALL)
TAGS = re.compile(r"</?(?:think|tool_call|tool_response|tool_calls)>")
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Return the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
PIECES = ["rain", "naïve", "日本", "x < y", '"so"', "a\nb", "  two", "\t", "🌧️", "</think>", "<b>", "\\n", "{}", "100%"]
EDGES = ["", "", "", " ", "\n", "\n\n", "\t "]


def templates() -> dict[str, str]:
    """Return the texts of all templates of the installed TRL, by name. Without TRL there are none."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.submodule_search_locations is None:
        return {}
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def eos_of(name: str) -> str:
    """Return the token with which the models of a template end a turn."""
    ends = {
        "deepseek": "<｜end▁of▁sentence｜>",
        "llava": "</s>",
        "gemma4": "<turn|>",
        "diffusion_gemma": "<turn|>",
        "gemma": "<end_of_turn>",
        "cohere": "<|END_OF_TURN_TOKEN|>",
        "llama": "<|eot_id|>",
        "gptoss": "<|return|>",
        "glm4moe": "<|endoftext|>",
        "muse": "<|eot|>",
        "phi": "<|end|>",
        "idefics": "<end_of_utterance>",
        "smolvlm": "<end_of_utterance>",
    }
    return next((end for begin, end in ends.items() if name.startswith(begin)), "<|im_end|>")


@functools.cache
def merges() -> str:
    """Return a byte-level BPE with merges, as JSON."""
    chance = random.Random(0)
    texts = [
        " ".join(chance.choice([*PIECES, "weather", "city", "tool", "assistant", "days"]) for _ in range(40)) for _ in range(500)
    ]
    texts += [json.dumps({"name": "weather", "arguments": {"city": text[:20], "days": 3}}) for text in texts]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False))
    backend.decoder = decoders.ByteLevel()
    return str(backend.to_str())


def tokenizer_of(name: str, template: str, *, bpe: bool) -> Any:
    """Return a tokenizer with a template, its control tokens and its tags."""
    if bpe:
        backend = Tokenizer.from_str(merges())
    else:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
    names = {"bos_token": "<|begin_of_text|>", "eos_token": eos_of(name)}
    control = sorted({*CONTROL.findall(template), *names.values(), "<end_of_utterance>"})
    backend.add_special_tokens(control)
    if bpe:  # as in the vocabularies of Qwen's models
        backend.add_tokens([AddedToken(tag, special=False) for tag in sorted(set(TAGS.findall(template)))])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=control, **names)
    fast.chat_template = template
    return fast


@dataclass
class Counts:
    """What happened in the conversations of a template.

    Attributes:
        conversations: Number of conversations.
        turns: Sampled turns.
        extended: Prompts that begin with the last prompt and the sampled ids.
        split: Prompts with which a new segment begins.
        refused: Conversations that the template refuses.
        compared: Extensions whose text was compared with the template's own text.
        drift: Sum of the conversations' drifts.
        drifted: Conversations with a drift.
    """

    conversations: int = 0
    turns: int = 0
    extended: int = 0
    split: int = 0
    refused: int = 0
    compared: int = 0
    drift: int = 0
    drifted: int = 0


@dataclass
class Turn:
    """A turn of the model: its message, what was sampled, and what followed.

    Attributes:
        message: The turn as it was read.
        text: The sampled text without its end.
        end: The control token that ends it; empty if it was cut off.
        new: The messages after it.
    """

    message: dict[str, Any]
    text: str
    end: str
    new: list[dict[str, Any]] = field(default_factory=list)
    is_odd: bool = False
    """The sampled text is not the one that the template writes."""


class Generator:
    """Makes conversations for a template, turn by turn."""

    def __init__(self, template: ChatTemplate, tools: bool, chance: random.Random) -> None:
        self.template, self.tools, self.chance = template, tools, chance
        self.splitter = TurnSplitter(template)
        self.shows_thoughts = template.thought_marks is not None
        self.numbers = count(10000)

    def words(self, *, tags: bool = True) -> str:
        """Return a text with a word that no other text has."""
        chance = self.chance
        pieces = [chance.choice(PIECES if tags else PIECES[:9]) for _ in range(chance.randrange(6))]
        pieces.insert(chance.randrange(len(pieces) + 1), f"w{next(self.numbers):05d}w")
        return chance.choice(EDGES) + " ".join(pieces) + chance.choice(EDGES)

    def prompt(self) -> list[dict[str, Any]]:
        system = [{"role": "system", "content": self.words()}] if self.template.system and self.chance.random() < 0.5 else []
        return [*system, {"role": "user", "content": self.words()}]

    def turn(self, history: list[dict[str, Any]]) -> Turn:
        """Return the next turn, with the text that the template writes for it, or that of a model which strays from it."""
        chance = self.chance
        kind = chance.choices(["calls", "answer", "cut off", "empty", "noise"], [5 if self.tools else 0, 4, 1, 0.5, 0.5])[0]
        if kind == "empty":
            return Turn({"role": "assistant", "content": ""}, "", self.end(), [self.user()])
        if kind == "noise":
            text = "".join(chance.choice(PIECES) + chance.choice(EDGES) for _ in range(4)) + self.words()
            return Turn({"role": "assistant", "content": text}, text, self.end(), [self.user()], is_odd=True)
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        thinks = chance.random() < (0.4 if self.shows_thoughts else 0.1)
        if thinks:
            message["reasoning_content"] = self.words(tags=False)
        new: list[dict[str, Any]] = []
        malformed = False
        if kind == "calls":
            if chance.random() < 0.4:
                message["content"] = self.words(tags=False)
            calls = [self.call() for _ in range(chance.choice([1, 1, 1, 2, 3]))]
            message["tool_calls"] = calls
            new = [self.result(call) for call in calls]
            malformed = chance.random() < 0.15
            if chance.random() < 0.1:
                new.append(self.user())
        else:
            message["content"] = self.words(tags=False)
            new = [self.user()]
        text, end = self.written(history, message)
        if thinks and not self.shows_thoughts:
            text = f"<think>\n{message['reasoning_content']}\n</think>\n{text}"
        if malformed:
            message["tool_calls"][-1]["function"]["arguments"] = {}
            text = text.replace("}", "", 1)
        if kind == "cut off":
            # A message that was cut off is read as its text.
            text = text[: chance.randrange(1, len(text) + 1)] if text else "w"
            return Turn({"role": "assistant", "content": text}, text, "", [self.user()], is_odd=True)
        if chance.random() < 0.3:
            text, blank = text.replace('": ', '":   '), chance.choice(["", " ", "\n"])
            text, malformed = text + blank, malformed or bool(blank)
        return Turn(message, text, end if chance.random() < 0.9 else "", new, is_odd=malformed)

    def written(self, history: list[dict[str, Any]], message: dict[str, Any]) -> tuple[str, str]:
        """Return the text of a turn as the template writes it, and its end."""
        try:
            sampled = self.splitter.split([*history, message], [TOOL] if self.tools else None, len(history)).sampled
        except CannotSplit:
            calls = [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", ())]
            return "\n".join([message.get("reasoning_content", ""), message["content"], *calls]), self.end()
        end = next((token for token in self.template.special_tokens if sampled.endswith(token)), "")
        return sampled.removesuffix(end), end

    def end(self) -> str:
        return str(self.template.tokenizer.eos_token)

    def call(self) -> dict[str, Any]:
        arguments = {"city": self.words(tags=False), "days": self.chance.randrange(9)}
        name = f"call{next(self.numbers):05d}"
        return {"id": name, "type": "function", "function": {"name": "weather", "arguments": arguments}}

    def result(self, call: dict[str, Any]) -> dict[str, Any]:
        kind, word = self.chance.randrange(4), self.words()
        texts = [word, json.dumps({"city": word, "degrees": [7, 8]}), f"Error: {word}", ""]
        return {"role": "tool", "tool_call_id": call["id"], "name": "weather", "content": texts[kind]}

    def user(self) -> dict[str, Any]:
        word = self.words()
        return {"role": "user", "content": self.chance.choice([word, word, word, f"<tool_response>{word}</tool_response>"])}


def sampled_ids(tokenizer: Any, turn: Turn, chance: random.Random) -> list[int]:
    """Return ids of a turn, encoded in parts that are cut at random places: not the ids of the text as a whole."""
    ids: list[int] = []
    for part in CONTROL_OR_TEXT.findall(turn.text):
        position = 0
        while position < len(part):
            whole = chance.random() < 0.2 or CONTROL.fullmatch(part)
            end = len(part) if whole else position + chance.randrange(1, 12)
            ids += tokenizer(part[position:end], add_special_tokens=False)["input_ids"]
            position = end
    if turn.end:
        ids.append(tokenizer.convert_tokens_to_ids(turn.end))
    return ids or [tokenizer.eos_token_id]


def play(extender: TemplateExtender, generator: Generator, chance: random.Random, counts: Counts) -> None:
    """Play one conversation and check every prompt of it."""
    template, tools = extender.template, [TOOL] if generator.tools else None
    history = TokenHistory(extender, generator.prompt(), tools)
    every: list[tuple[list[int], list[float]]] = []
    counts.conversations += 1
    comparable = traceable = True  # the template has accepted every turn as it is; every part of them has a word
    shown = words_in(template.decode(history.prompt_ids))
    for number in range(turns := chance.randrange(1, 7)):
        turn = generator.turn(history.messages)
        ids = sampled_ids(template.tokenizer, turn, chance)
        logprobs = [-chance.random() for _ in ids]
        every.append((ids, logprobs))
        history.add_turn(ids, logprobs)
        counts.turns += 1
        if number == turns - 1:
            break
        before, segment, position = history.prompt_ids, history.segment, len(history.messages)
        assert before[-len(ids) :] == ids
        try:
            history.extend(turn.message, turn.new, raw_text=turn.text)
        except TokenHistoryError:
            counts.refused += 1
            break
        # Templates take what stands before this tag for reasoning.
        traceable = traceable and "</think>" not in turn.message["content"]
        traceable = traceable and all(map(words_in, parts_of([turn.message, *turn.new])))
        comparable = comparable and words_of(history.messages[position]) == words_of(turn.message)
        rendered = template.render(history.messages, tools, generation=True)
        shown += [*words_of(turn.message), *(word for message in turn.new for word in words_of(message))]
        if history.segment > segment:
            counts.split += 1
            assert history.prompt_ids == encode(template, rendered)
            kept = shown == words_in(rendered) and squeezed(turn.message["content"]) in squeezed(rendered)
            assert not (comparable and traceable and kept), f"a segment was split without a reason: {history.rewrites[-1]}"
            shown = words_in(rendered)
            continue
        counts.extended += 1
        assert history.prompt_ids[: len(before)] == before
        as_it_is = history.messages[position] == turn.message
        check_added(template.decode(history.prompt_ids[len(before) :]), rendered, turn, as_it_is)
        if comparable:
            counts.compared += 1
            assert shown == words_in(rendered), "the template rewrote the history, and no segment was split"
    check_segments(history, every)
    counts.drift += history.drift
    counts.drifted += history.drift > 0


def check_added(added: str, rendered: str, turn: Turn, as_it_is: bool) -> None:
    """Check that the added text is the template's own, from the end of the turn on."""
    assert rendered.endswith(added), "the template writes something else after the turn"
    assert words_in(added) == [word for message in turn.new for word in words_of(message)]
    before = squeezed(rendered[: len(rendered) - len(added)])
    assert turn.is_odd or not as_it_is or before.removesuffix(turn.end).endswith(squeezed(turn.text)[-12:]), (
        "the added text begins elsewhere"
    )


def check_segments(history: TokenHistory, every: Sequence[tuple[list[int], list[float]]]) -> None:
    """Check that the trained ids are those that were sampled, with their log-probabilities and no others."""
    trained: list[tuple[int, float]] = []
    for segment in history.segments:
        assert len(segment.response_ids) == len(segment.mask) == len(segment.logprobs or ())
        for token, sampled, logprob in zip(segment.response_ids, segment.mask, segment.logprobs or (), strict=True):
            if sampled:
                trained.append((token, logprob))
            else:
                assert logprob == 0.0
    assert trained == [pair for ids, logprobs in every for pair in zip(ids, logprobs, strict=True)]


def words_in(text: str) -> list[str]:
    """Return the words that each text has one of."""
    return WORD.findall(text)


def words_of(message: dict[str, Any]) -> list[str]:
    """Return the words of a message in the order in which templates write its parts."""
    return [word for part in parts_of([message]) for word in words_in(part)]


def parts_of(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the reasoning, the content and the arguments of messages."""
    for message in messages:
        calls = message.get("tool_calls", ())
        if "reasoning_content" in message:
            yield message["reasoning_content"]
        if message["content"] or not calls:
            yield message["content"]
        yield from (json.dumps(call["function"]["arguments"]) for call in calls)


def squeezed(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def run(name: str, conversations: int) -> Counts:
    """Play conversations with a template, alternately with each tokenizer."""
    text, counts = templates()[name], Counts()
    generators = []
    for bpe in (False, True):
        template = ChatTemplate(tokenizer_of(name, text, bpe=bpe))
        chance = random.Random(f"{name} {bpe}")
        generators.append((TemplateExtender(template), Generator(template, shows_results(template), chance), chance))
    for number in range(conversations):
        extender, generator, chance = generators[number % 2]
        play(extender, generator, chance, counts)
    return counts


def shows_results(template: ChatTemplate) -> bool:
    """Return whether a template shows the results of tools."""
    if template.has_tools:
        return True
    result = {"role": "tool", "name": "weather", "tool_call_id": "call00000", "content": "probe_result"}
    turn = {"role": "assistant", "content": "probe"}
    try:
        return "probe_result" in template.render([{"role": "user", "content": "hello"}, turn, result], [TOOL])
    except Exception:  # a template raises errors of any type
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="templates; none takes all")
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    options = parser.parse_args()
    columns = ("turns", "extended", "split", "refused", "compared", "drift", "seconds")
    print(f"{'template':32} tools {' '.join(f'{column:>8}' for column in columns)}", flush=True)
    for name in options.names or templates():
        begun = time.perf_counter()
        counts = run(name, options.conversations)
        tools = "yes" if shows_results(ChatTemplate(tokenizer_of(name, templates()[name], bpe=False))) else "no"
        means = f"{counts.drift / counts.conversations:8.1f} {time.perf_counter() - begun:8.1f}"
        numbers = (counts.turns, counts.extended, counts.split, counts.refused, counts.compared)
        print(f"{name:32} {tools:5} {' '.join(f'{number:8}' for number in numbers)} {means}", flush=True)


if __name__ == "__main__":
    main()
