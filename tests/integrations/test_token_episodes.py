"""Episodes as token ids, on real servers: exact prompts, segments, what is recorded, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPImageProcessorPil, LlavaProcessor

from openreward_gym import RolloutStore, serve
from openreward_gym.errors import ConfigurationError, ResetNeededError, TokenHistoryError, TransportError
from openreward_gym.integrations import Episodes
from openreward_gym.integrations.tokens import TokenEpisode
from openreward_gym.reports import make_report

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

from tiny_tokenizer import CHATML, VISION, tiny_tokenizer

pytestmark = pytest.mark.anyio

END = "<|im_end|>"
THINK = CHATML.replace(
    "{%- if message.reasoning_content %}",
    "{%- set last = namespace(user=-1) %}{%- for one in messages %}{%- if one.role == 'user' %}"
    "{%- set last.user = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- if message.reasoning_content and loop.index0 > last.user %}",
)
"""Like Qwen3's: it leaves out the reasoning of turns before the last message of the user."""


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def called(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>{END}"


def opened(url: str, environment: str = "echo", template: str = CHATML, **options: Any) -> TokenEpisode:
    return TokenEpisode(environment, tokenizer=tiny_tokenizer(template, eos_token=END), base_url=url, **options)


async def test_the_next_prompt_extends_what_was_sampled(server_url: str, tmp_path: Path) -> None:
    episode = opened(server_url, output=tmp_path / "run")
    await episode.begin(0, step=3, group="g", sample=1)
    tokenizer, first = episode.tokenizer, episode.prompt_ids
    assert tokenizer.decode(first).endswith("asked 1 times<|im_end|>\n<|im_start|>assistant\n")
    # The model writes its call with other white space than the template.
    sampled = ids_of(tokenizer, f'<tool_call>{{"name":   "echo",\n"arguments": {{"text": "hi"}}}}</tool_call>{END}')
    logprobs = [-0.25] * len(sampled)
    answer = await episode.act_tokens(sampled, logprobs)
    assert (answer.text, answer.reward, answer.done) == ("hi", 0.5, False)
    second = episode.prompt_ids
    assert second[: len(first) + len(sampled)] == [*first, *sampled]
    assert tokenizer.decode(second[len(first) + len(sampled) :]) == "\n<|im_start|>tool\nhi<|im_end|>\n<|im_start|>assistant\n"
    # Bytes that the template would write otherwise: a line break before, blanks, quotes, names of fields.
    assert episode.drift > 20
    last = ids_of(tokenizer, called("finish", text="right"))
    answer = await episode.act_tokens(last, [-0.5] * len(last))
    assert (answer.done, episode.reward) == (True, 1.5)
    (segment,) = episode.segments
    assert (segment.prompt_ids, segment.sampled_ids) == (first, [*sampled, *last])
    assert segment.ids == [*second, *last]
    between = len(second) - len(first) - len(sampled)
    assert segment.mask == [1] * len(sampled) + [0] * between + [1] * len(last)
    assert segment.logprobs == logprobs + [0.0] * between + [-0.5] * len(last)
    await episode.aclose()
    (rollout,) = RolloutStore(tmp_path / "run")
    one, two = (turn.sampled for turn in rollout.turns)
    assert one is not None
    assert two is not None
    assert (one.prompt_token_ids, one.token_ids) == (tuple(first), tuple(sampled))
    assert (two.prompt_token_ids, two.token_ids) == (tuple(second), tuple(last))
    assert (one.metadata, two.metadata) == ({"segment": 0, "drift": 0}, {"segment": 0, "drift": episode.drift})
    assert (rollout.step, rollout.group, rollout.sample) == (3, "g", 1)
    report = make_report([tmp_path / "run"])
    assert report.to_dict()["mean_drift"] == episode.drift > 0
    assert f"drift: {episode.drift}.0 prompt tokens per rollout" in report.to_text()


async def test_a_turn_without_its_end_is_cut_off_and_gets_the_end(server_url: str) -> None:
    episode = opened(server_url)
    await episode.begin(0)
    sampled = ids_of(episode.tokenizer, '<tool_call>\n{"name": "echo", "argu')
    before = [*episode.prompt_ids, *sampled]
    answer = await episode.act_tokens(sampled)
    assert "cut off" in answer.text
    added = episode.tokenizer.decode(episode.prompt_ids[len(before) :])
    assert episode.prompt_ids[: len(before)] == before
    assert added.startswith(f"{END}\n<|im_start|>")
    assert episode.segments[0].logprobs is None
    # A sampler that stops at a text tells so.
    answer = await episode.act_tokens(ids_of(episode.tokenizer, called("echo", text="hi").removesuffix(END)), ended="stop")
    assert answer.text == "hi"
    await episode.aclose()


async def test_a_segment_begins_where_the_template_rewrites_the_history(server_url: str, tmp_path: Path) -> None:
    episode = opened(server_url, template=THINK, on_message="nudge", output=tmp_path / "run")
    await episode.begin(0)
    tokenizer = episode.tokenizer
    turns = [
        f"<think>\nI try it.\n</think>\n\n{called('echo', text='hi')}",
        f"<think>\nNow I talk.\n</think>\n\nHello.{END}",
        called("finish", text="right"),
    ]
    prompts = []
    for text in turns:
        prompts.append(episode.prompt_ids)
        sampled = ids_of(tokenizer, text)
        await episode.act_tokens(sampled, [-1.0] * len(sampled))
    first, second = episode.segments
    assert first.sampled_ids == ids_of(tokenizer, turns[0] + turns[1])
    assert second.prompt_ids == prompts[2]
    assert "I try it." not in tokenizer.decode(second.prompt_ids)
    assert second.sampled_ids == second.response_ids == ids_of(tokenizer, turns[2])
    assert episode.drift == first.drift > 0 == second.drift
    (rollout,) = RolloutStore(tmp_path / "run")
    assert [turn.sampled.metadata["segment"] for turn in rollout.turns if turn.sampled and turn.sampled.metadata] == [0, 0, 1]
    assert make_report([tmp_path / "run"]).summary.mean_drift == episode.drift
    await episode.aclose()


async def test_rewritten_history_is_extended_or_refused_on_request(server_url: str, tmp_path: Path) -> None:
    text = f"<think>\nNow I talk.\n</think>\n\nHello.{END}"
    for on_rewrite in ("extend", "error"):
        episode = opened(server_url, template=THINK, on_message="nudge", on_rewrite=on_rewrite, output=tmp_path / on_rewrite)
        await episode.begin(0)
        before = [*episode.prompt_ids, *ids_of(episode.tokenizer, text)]
        if on_rewrite == "extend":
            await episode.act_tokens(ids_of(episode.tokenizer, text))
            assert episode.prompt_ids[: len(before)] == before
            assert len(episode.segments) == 1
            assert episode.drift > 0
        else:
            with pytest.raises(TokenHistoryError, match="leaves out the turn's reasoning") as caught:
                await episode.act_tokens(ids_of(episode.tokenizer, text))
            assert caught.value.reason == "it leaves out the turn's reasoning"
            assert (episode.done, episode.stop_reason) == (True, "template_failed")
            (rollout,) = RolloutStore(tmp_path / on_rewrite)
            assert rollout.status == "truncated"
        await episode.aclose()


async def test_wrong_ids_are_refused_and_change_nothing(server_url: str) -> None:
    episode = opened(server_url)
    with pytest.raises(ResetNeededError, match=r"before begin\(\)"):
        await episode.act_tokens([1])
    assert (episode.prompt_ids, episode.segments, episode.drift, episode.images) == ([], (), 0, ())
    await episode.begin(0)
    prompt, size = episode.prompt_ids, len(episode.tokenizer)
    for ids, logprobs, words in (
        ([], None, "token_ids is empty"),
        ([1, size], None, f"{size} is not in the vocabulary of {size} ids"),
        ([-1], None, "-1 is not in the vocabulary"),
        (["a"], None, "must be a list of integers"),
        (None, None, "must be a list of integers"),
        ([1, 2], [-0.5], "logprobs has 1 numbers for 2 token ids"),
        ([1], ["x"], "must be a list of numbers"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            await episode.act_tokens(ids, logprobs)  # type: ignore[arg-type]
    assert (episode.prompt_ids, episode.turns, episode.segments) == (prompt, 0, ())
    await episode.act_tokens(ids_of(episode.tokenizer, called("finish", text="right")))
    with pytest.raises(ResetNeededError, match="the episode ended"):
        await episode.act_tokens([1])
    await episode.aclose()
    padded = opened(server_url, vocab_size=size + 8)
    await padded.begin(0)
    await padded.act_tokens([size + 3, padded.tokenizer.eos_token_id])
    assert padded.segments[0].sampled_ids == [size + 3, padded.tokenizer.eos_token_id]
    await padded.aclose()


async def test_wrong_arguments_are_named(server_url: str, tmp_path: Path) -> None:
    plain = tiny_tokenizer(CHATML)
    plain.chat_template = None
    for options, words in (
        ({"tokenizer": plain}, "has no chat template"),
        ({"tokenizer": str(tmp_path)}, "cannot be loaded"),
        ({"on_rewrite": "keep"}, "on_rewrite must be one of segment, extend, error"),
        ({"chat_template_kwargs": {"tools": []}}, "tools is not an option of a template"),
        ({"chat_template_kwargs": [1]}, "must be"),
        ({"processor": str(tmp_path)}, f"the processor '{tmp_path}' cannot be loaded"),
        ({"end_token_ids": ["x"]}, "end_token_ids must be a list of integers"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            TokenEpisode("echo", **{"tokenizer": tiny_tokenizer(), **options}, base_url=server_url)


async def test_a_template_that_raises_ends_the_episode(server_url: str, tmp_path: Path) -> None:
    for template, reason in (
        ("{{ raise_exception('no prompt') }}", "no prompt"),
        ("{%- if messages | length > 1 %}{{ raise_exception('one message') }}{%- endif %}" + CHATML, "one message"),
    ):
        episode = opened(server_url, template=template, output=tmp_path / reason)

        async def play(episode: TokenEpisode = episode) -> None:
            await episode.begin(0)
            await episode.act_tokens(ids_of(episode.tokenizer, called("echo", text="hi")))

        with pytest.raises(TokenHistoryError, match=reason):
            await play()
        assert (episode.done, episode.stop_reason) == (True, "template_failed")
        assert [rollout.stop_reason for rollout in RolloutStore(tmp_path / reason)] == ["template_failed"]
        await episode.aclose()


async def test_a_dead_server_keeps_what_was_sampled_and_has_no_reward(tmp_path: Path) -> None:
    options: dict[str, Any] = {"retry_limits": {"attempts": 1}, "open_attempts": 1, "output": tmp_path / "run"}
    with serve.local(["weather"]) as url:
        episode = opened(url, "weather", **options)
        await episode.begin(0)
    sampled = ids_of(episode.tokenizer, called("get_weather", city="Lima"))
    answer = await episode.act_tokens(sampled)
    assert (answer.done, answer.messages, episode.reward) == (True, (), None)
    assert answer.error
    assert episode.segments[0].sampled_ids == sampled
    with pytest.raises(TransportError):
        await episode.begin(0)
    assert (episode.done, episode.reward, episode.segments, episode.prompt_ids) == (True, None, (), [])
    await episode.aclose()
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.status, rollout.reward) == ("error", None)


async def test_an_episode_can_be_pickled_and_shares_its_source(server_url: str) -> None:
    episodes = Episodes("echo", base_url=server_url)
    tokenizer = tiny_tokenizer(THINK, eos_token=END)
    episode = TokenEpisode(episodes, tokenizer=tokenizer, on_rewrite="extend", end_token_ids=[5])
    await episode.begin(0)
    copy = pickle.loads(pickle.dumps(episode))
    assert (copy.on_rewrite, copy.end_token_ids, copy.prompt_ids) == ("extend", episode.end_token_ids, [])
    await copy.begin(0)
    assert copy.tokenizer.decode(copy.prompt_ids) == episode.tokenizer.decode(episode.prompt_ids)
    await copy.aclose()
    await episode.aclose()


async def test_options_of_the_template_are_used_and_recorded(server_url: str, tmp_path: Path) -> None:
    template = CHATML.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n' + (start or '') }}")
    options: dict[str, Any] = {"chat_template_kwargs": {"start": "<think></think>"}, "sampling": {"temperature": 1.0}}
    episode = opened(server_url, template=template, output=tmp_path / "run", **options)
    await episode.begin(0)
    assert episode.tokenizer.decode(episode.prompt_ids).endswith("assistant\n<think></think>")
    await episode.act_tokens(ids_of(episode.tokenizer, called("echo", text="hi")))
    assert episode.tokenizer.decode(episode.prompt_ids).endswith("assistant\n<think></think>")
    assert len(episode.segments) == 1
    await episode.end("max_turns")
    await episode.aclose()
    (rollout,) = RolloutStore(tmp_path / "run")
    assert rollout.sampling == {"temperature": 1.0, "chat_template_kwargs": {"start": "<think></think>"}}


async def test_answers_are_read_by_the_tokenizers_own_template(server_url: str) -> None:
    episode = opened(server_url)
    episode.tokenizer.response_template = {
        "defaults": {"role": "assistant"},
        "fields": {"content": {"close": "<|im_end|>"}},
    }
    calls = []

    def parse(ids: list[int], prefix: list[int], tools: Any) -> dict[str, Any]:
        calls.append((prefix, tools))
        if len(calls) > 1:
            raise ValueError("malformed")
        return {
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "echo", "arguments": {"text": "read"}}}],
        }

    episode.tokenizer.parse_response = parse
    await episode.begin(0)
    prompt = episode.prompt_ids
    answer = await episode.act_tokens(ids_of(episode.tokenizer, f"call:echo{{read}}{END}"))
    assert answer.text == "read"
    assert calls == [(prompt, episode.tools)]
    answer = await episode.act_tokens(ids_of(episode.tokenizer, called("echo", text="as text")))
    assert answer.text == "as text"
    await episode.aclose()


def vision_processor() -> Any:
    template = VISION.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tiny_tokenizer(template, ("<image>",), eos_token=END),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


async def test_images_get_their_placeholders(server_url: str) -> None:
    processor = vision_processor()
    episode = TokenEpisode("echo", tokenizer=processor, base_url=server_url)
    await episode.begin(0)
    place = processor.tokenizer.convert_tokens_to_ids("<image>")
    for count in (1, 2):
        before = [*episode.prompt_ids, *ids_of(episode.tokenizer, called("image"))]
        await episode.act_tokens(ids_of(episode.tokenizer, called("image")))
        assert episode.prompt_ids[: len(before)] == before
        assert episode.prompt_ids.count(place) == 4 * count  # two by two patches
        assert [image.mode for image in episode.images] == ["RGB"] * count
    output = processor(
        text=[episode.tokenizer.decode(episode.prompt_ids).replace("<image>" * 4, "<image>")], images=list(episode.images)
    )
    assert output["input_ids"][0].count(place) == episode.prompt_ids.count(place)
    last = ids_of(episode.tokenizer, called("finish", text="right"))
    await episode.act_tokens(last)
    (segment,) = episode.segments
    assert segment.ids.count(place) == 4 * len(segment.images) == 8
    assert segment.mask.count(1) == len(segment.sampled_ids)
    await episode.aclose()


async def test_a_placeholder_in_a_text_is_no_image(server_url: str) -> None:
    processor = vision_processor()
    place = processor.tokenizer.convert_tokens_to_ids("<image>")
    episode = TokenEpisode("echo", tokenizer=processor, base_url=server_url)
    await episode.begin({"number": 0, "note": "<image>"})
    assert place not in episode.prompt_ids
    for text, images in ((called("echo", text="a <image>"), 0), (called("image"), 1), (called("echo", text="<image>"), 1)):
        # The model's own text is sampled here as letters: what it samples stays as it is, in any case.
        sampled = [token for letter in text.removesuffix(END) for token in ids_of(episode.tokenizer, letter)]
        answer = await episode.act_tokens([*sampled, *ids_of(episode.tokenizer, END)])
        assert not answer.done
        assert episode.prompt_ids.count(place) == 4 * images == 4 * len(episode.images)
    assert answer.text == "<image>"
    assert "< image>" in episode.tokenizer.decode(episode.prompt_ids)
    await episode.aclose()


async def test_an_image_needs_a_processor(server_url: str, tmp_path: Path) -> None:
    episode = opened(server_url, template=VISION, output=tmp_path / "run")
    await episode.begin(0)
    with pytest.raises(ConfigurationError, match="pass processor="):
        await episode.act_tokens(ids_of(episode.tokenizer, called("image")))
    assert (episode.done, episode.stop_reason) == (True, "template_failed")
    await episode.aclose()
    assert [rollout.status for rollout in RolloutStore(tmp_path / "run")] == ["truncated"]


def test_a_template_is_read_once_for_the_episodes_of_a_source(tmp_path: Path) -> None:
    episodes, tokenizer = Episodes("echo", base_url="http://127.0.0.1:9"), tiny_tokenizer(CHATML, eos_token=END)
    first, second = (TokenEpisode(episodes, tokenizer=tokenizer) for _ in range(2))
    assert first.extender is second.extender
    assert TokenEpisode(episodes, tokenizer=tokenizer, chat_template_kwargs={"a": 1}).extender is not first.extender
    # A template that was changed is read again.
    tokenizer.chat_template = CHATML.replace("assistant\\n", "model\\n")
    assert TokenEpisode(episodes, tokenizer=tokenizer).extender is not first.extender
    # A tokenizer that is named is loaded once: its files are not needed again.
    tokenizer.save_pretrained(tmp_path / "model")
    named = TokenEpisode(episodes, tokenizer=tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    assert TokenEpisode(episodes, tokenizer=tmp_path / "model").extender is named.extender
