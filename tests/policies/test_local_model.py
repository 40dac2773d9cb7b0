"""Local models, tested with a tiny random model that is built here."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch import _wait_for as wait_for
from launch import free_port

from openreward_gym import collect
from openreward_gym.errors import ConfigurationError, ContextOverflowError, PolicyError
from openreward_gym.policies import resolve
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolResult,
    ToolSet,
    ToolSpec,
    UserMessage,
)

pytestmark = pytest.mark.train

TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments.city }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random two-layer model, a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = str(tmp_path_factory.mktemp("tiny"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(fast), max_position_embeddings=4096, **sizes)
    config.eos_token_id, config.pad_token_id, config.bos_token_id = fast.eos_token_id, fast.pad_token_id, None
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_it_plays(examples: str, tiny: str, tmp_path: Path) -> None:
    result = collect(
        "weather",
        f"transformers:{tiny}",
        base_url=examples,
        repeats=2,
        output=tmp_path / "run",
        policy_options={"max_new_tokens": 12, "batch_size": 4},
        progress=False,
    )
    assert result.coverage.successful == 10
    for rollout in result.store:
        for turn in rollout.turns:
            sampled = turn.sampled
            assert sampled is not None
            assert sampled.token_ids is not None
            assert sampled.logprobs is not None
            assert 0 < len(sampled.token_ids) == len(sampled.logprobs) <= 12
            assert all(logprob <= 0 for logprob in sampled.logprobs)
            assert sampled.prompt_token_ids
            assert turn.usage is not None
            assert turn.usage.output_tokens == len(sampled.token_ids)
        assert rollout.sampling is not None
        assert rollout.sampling["max_new_tokens"] == 12


def test_a_batch_gives_the_answers_of_single_prompts(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}", temperature=0.0, max_new_tokens=8)
    prompts = [policy.prompt((UserMessage("word " * n),), ToolSet()) for n in (1, 7, 40)]
    together = policy.generate(prompts)
    for prompt, answer in zip(prompts, together, strict=True):
        (alone,) = policy.generate([prompt])
        assert answer.token_ids == alone.token_ids
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_prompts_that_wait_are_one_batch(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}", max_new_tokens=2, batch_size=8)
    sizes: list[int] = []
    generate = policy.generate

    def counted(prompts: list[list[int]], generation: Any) -> Any:
        sizes.append(len(prompts))
        return generate(prompts, generation)

    policy.generate = counted

    async def ask() -> None:
        await asyncio.gather(*(policy((UserMessage(str(n)),), ToolSet()) for n in range(10)))

    asyncio.run(ask())
    assert sizes == [8, 2]


def test_the_template_sees_tools_calls_and_results(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}")
    called = AssistantMessage(tool_calls=[ToolCall("get_weather", {"city": "Bonn"}, "c")])
    result = UserMessage([ToolResult("cold", "c")])
    tools = ToolSet((ToolSpec("get_weather", "The weather."),))
    text = policy._tokenizer.decode(policy.prompt((UserMessage("Bonn?"), called, result), tools))
    assert "The weather." in text
    assert "<tool_call>get_weather Bonn</tool_call>" in text
    assert "<|im_start|>tool\ncold<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


NINE = (
    "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    "{% for key in c.function.arguments.items() %}{% endfor %}{% endfor %}{% endfor %}"
)


def test_templates_get_objects_and_the_ids_that_they_demand(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}")
    policy._tokenizer.chat_template = NINE + policy._tokenizer.chat_template
    torn = AssistantMessage(tool_calls=[ToolCall("get_weather", content='{"city": "Bo', call_id="call_0")])
    lone = AssistantMessage(tool_calls=[ToolCall("get_weather", {"city": "\ud83d"}, "call_0")])
    results = [UserMessage([ToolResult("wrong", "call_0")]), UserMessage([ToolResult("cold \udc00", "call_0")])]
    text = policy._tokenizer.decode(policy.prompt((UserMessage("Bonn?"), torn, results[0], lone, results[1]), ToolSet()))
    assert "<tool_call>get_weather </tool_call>" in text
    assert "<tool_call>get_weather \\ud83d</tool_call>" in text
    assert "cold \\udc00" in text
    policy._tokenizer.chat_template = "{{ raise_exception('no such luck') }}"
    with pytest.raises(Exception, match="no such luck"):
        policy.prompt((UserMessage("Bonn?"),), ToolSet())


def test_options_of_the_template_are_used_and_recorded(examples: str, tiny: str, tmp_path: Path) -> None:
    policy: Any = resolve(f"transformers:{tiny}", chat_template_kwargs={"mood": "kind"}, max_new_tokens=2)
    policy._tokenizer.chat_template += "{% if mood %}{{ mood }}{% endif %}"
    text = policy._tokenizer.decode(policy.prompt((UserMessage("Bonn?"),), ToolSet()))
    assert text.endswith("<|im_start|>assistant\nkind")
    result = collect("weather", policy, base_url=examples, tasks="0:1", output=tmp_path / "run", progress=False)
    (rollout,) = result.store
    assert rollout.sampling is not None
    assert rollout.sampling["chat_template_kwargs"] == {"mood": "kind"}
    with pytest.raises(ConfigurationError, match="tools is not an option"):
        resolve(f"transformers:{tiny}", chat_template_kwargs={"tools": []})


def test_the_template_gets_exact_texts_and_nothing_in_place_of_images(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}")
    said = AssistantMessage([TextBlock("2,7"), TextBlock("37 m")])
    text = policy._tokenizer.decode(policy.prompt((UserMessage([TextBlock("a"), TextBlock("b")]), said), ToolSet()))
    assert "user\na\nb<|im_end|>" in text
    assert "assistant\n2,737 m<|im_end|>" in text
    with pytest.raises(PolicyError, match="reads text only, but a message of the role user has a part of the type 'image_url'"):
        policy.prompt((UserMessage([TextBlock("See."), ImageBlock(data="iVBORw0KGgo=")]),), ToolSet())


def test_the_template_gets_a_developer_as_the_system(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}")
    developer = SystemMessage("Antworte nur auf Deutsch.", metadata={"role": "developer"})
    prompt = policy._tokenizer.decode(policy.prompt((developer, UserMessage("Hm?")), ToolSet()))
    assert prompt.startswith("<|im_start|>system\nAntworte nur auf Deutsch.<|im_end|>")


def test_a_full_window(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}", max_context=64, max_new_tokens=8)
    with pytest.raises(ContextOverflowError, match="64"):
        asyncio.run(policy((UserMessage("word " * 40),), ToolSet()))


def test_invalid_models(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        resolve(f"transformers:{tmp_path}")
    with pytest.raises(ConfigurationError, match="policy_url"):
        resolve("transformers:x", url="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def serving(tiny: str) -> Iterator[str]:
    """The address of `transformers serve` with the tiny model."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "transformers"), "serve", tiny, "--port", str(port), "--device", "cpu"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/health", process, 120.0, output)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def test_transformers_serve_is_a_models_server(examples: str, tiny: str, serving: str, tmp_path: Path) -> None:
    result = collect(
        "weather",
        f"openai:{tiny}",
        policy_url=f"{serving}/v1",
        policy_options={"max_tokens": 12, "temperature": 1.0, "timeout_s": 120.0},
        base_url=examples,
        tasks="0:3",
        concurrency=2,
        output=tmp_path / "run",
        progress=False,
    )
    assert result.coverage.successful == 3, list(result.store.failures())
    for rollout in result.store:
        assert rollout.model is not None
        assert rollout.model["name"] == tiny
        # A random model says something until the limit of tokens cuts it off; what it cost is not known.
        assert rollout.turns
        assert (rollout.reward, rollout.stop_reason) in ((0.0, "finished"), (0.0, "message"), (None, "length"))
        assert rollout.cost_usd is None


def test_parameters_of_a_request(tiny: str) -> None:
    policy: Any = resolve(f"transformers:{tiny}", max_new_tokens=3)
    other = policy.with_parameters({"temperature": 0, "top_p": 0.5, "metadata": {"chat_template_kwargs": '{"a": 1}'}})
    assert other.settings["sampling"] == {"max_new_tokens": 3, "temperature": 0, "seed": 0, "chat_template_kwargs": {"a": 1}}
    limited = resolve(f"transformers:{tiny}").with_parameters({"max_output_tokens": 2, "temperature": 0.5})  # type: ignore[union-attr]
    assert limited.settings["sampling"] == {"max_new_tokens": 2, "temperature": 0.5, "seed": 0}
    for wrong in ({"tool_choice": "required"}, {"metadata": {"user": "u"}}, {"min_p": 0.1}):
        with pytest.raises(ConfigurationError, match="cannot follow"):
            policy.with_parameters(wrong)

    async def ask() -> list[AssistantMessage]:
        # Answers with different settings are different batches of one model.
        asked = (UserMessage("Hi"),)
        return list(await asyncio.gather(*(one(asked, ToolSet()) for one in (policy, other, policy, other))))

    answers = asyncio.run(ask())
    assert [len(answer.token_ids or ()) <= 3 for answer in answers] == [True] * 4
    assert answers[1].token_ids == answers[3].token_ids  # the most likely tokens
