"""TRL trains on environments through `openreward_gym.integrations.trl`, with the installed trainer."""

from __future__ import annotations

import importlib
import json
import math
import pickle
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fault_server import Fault, running
from launch import HERE, served
from odd_tools import DESCRIPTION, NAMES, SCHEMA

from openreward_gym import RolloutStore
from openreward_gym.errors import ConfigurationError
from openreward_gym.integrations import trl
from openreward_gym.integrations.trl.dataset import ToolGroup
from openreward_gym.integrations.trl.dataset import examples as examples_of
from openreward_gym.integrations.trl.play import PlaySource

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are using 'environment_factory'"),
    pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'"),
]

CITIES = ("Seattle", "Boston", "Chicago", "New York", "San Francisco")
Says = Callable[[int, str], str]


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    with warnings.catch_warnings():
        # What TRL, transformers and torch say to each other is not ours.
        warnings.simplefilter("ignore")
        import train_grpo

        yield train_grpo


def weather(number: int, text: str) -> str:
    """Return the answers of a model that looks up the weather in every second rollout, and passes it on."""
    city = next((city for city in CITIES if city in text.rpartition("<|im_start|>user")[2]), "")
    if "<tool_response>" in text:
        return text.rpartition("<tool_response>")[2].partition("</tool_response>")[0].strip()
    if city and number % 2 == 0:
        return f'I look.\n<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
    return "I do not know."


def scripted(trainer: Any, says: Says) -> Any:
    """Put a script in the place of the random model's answers. The losses stay."""
    tokenizer = trainer.processing_class

    def turn(prompt_ids: Sequence[Sequence[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        texts = [says(number, tokenizer.decode(ids)) for number, ids in enumerate(prompt_ids)]
        return [tokenizer.encode(text if text.endswith("<cut>") else text + "<|im_end|>") for text in texts], None

    trainer._generate_single_turn = turn
    return trainer


def trainer_of(keywords: dict[str, Any], output: Path, **settings: Any) -> Any:
    from tiny_model import model_and_tokenizer
    from trl import GRPOConfig, GRPOTrainer
    from trl.chat_template_utils import qwen3_chat_template

    network, tokenizer = model_and_tokenizer("tiny")
    tokenizer.chat_template = qwen3_chat_template
    own = {
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 512,
        "max_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    config = GRPOConfig(str(output), use_cpu=True, bf16=False, report_to=[], **{**own, **settings})
    return GRPOTrainer(network, args=config, processing_class=tokenizer, **keywords)


def test_two_environments_train_together(example: Any, examples: str, tmp_path: Path) -> None:
    settings = {"max_steps": 3, "num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 512}
    trainer = example.trainer_of(["weather", "ctf"], examples, "tiny", str(tmp_path), logging_steps=1, **settings)
    scripted(trainer, weather).train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logs) == 3
    assert all(math.isfinite(entry["loss"]) and entry["episodes/spoiled"] == 0.0 for entry in logs)
    played = list(RolloutStore(tmp_path / "rollouts"))
    assert sorted((rollout.step, rollout.sample) for rollout in played) == [
        (step, sample) for step in range(3) for sample in (0, 1)
    ]
    assert len({rollout.group for rollout in played}) == 3
    assert {rollout.environment.name for rollout in played} == {"weather", "ctf"}
    assert all(rollout.model == {"name": "Qwen2ForCausalLM", "algorithm": "grpo"} for rollout in played)
    # Of each group of the weather one looked and told, the other did not: an advantage, and a gradient.
    looked, guessed = sorted((one for one in played if one.environment.name == "weather"), key=lambda one: one.sample or 0)[:2]
    assert (looked.reward, guessed.reward) == (1.0, 0.0)
    assert any(entry["grad_norm"] > 0 for entry in logs)
    tokenizer = trainer.processing_class
    turns = [tokenizer.decode(message.token_ids) for message in looked.messages if message.origin == "policy"]
    assert turns[0].startswith("I look.\n<tool_call>")
    assert all(turn.endswith("<|im_end|>") for turn in turns)


def test_the_model_reads_the_environments_schemas(tmp_path: Path) -> None:
    seen: list[str] = []

    def look(number: int, text: str) -> str:
        seen.append(text)
        return (
            '<tool_call>\n{"name": "reset", "arguments": {"class": "a", "from-to": [1]}}\n</tool_call>'
            if len(seen) < 3
            else "Ok."
        )

    with served(HERE / "odd_tools.py") as url:
        keywords = trl.grpo("oddtools", base_url=url, output=tmp_path / "run", limit=1)
        trainer = scripted(trainer_of(keywords, tmp_path, max_steps=1), look)
        trainer.train()
    shown = [json.loads(line) for line in seen[0].splitlines() if line.startswith('{"type": "function"')]
    functions = {tool["function"]["name"]: tool["function"] for tool in shown}
    assert set(functions) == {"plain", *NAMES}
    assert all(functions[name] == {"name": name, "description": DESCRIPTION, "parameters": SCHEMA} for name in NAMES)
    rewards = [rollout.reward for rollout in RolloutStore(tmp_path / "run")]
    assert rewards == [0.25, 0.25]


def test_spoiled_groups_do_not_stop_the_training(tmp_path: Path) -> None:
    """Each rollout of the first step is spoiled, one of the second, none of the third."""

    def call(number: int, text: str) -> str:
        return "Done." if "<tool_response>" in text else '<tool_call>\n{"name": "big", "arguments": {"size": 5}}\n</tool_call>'

    def length(completions: Any, **columns: Any) -> list[float]:
        return [float(len(completion)) for completion in completions]

    with running() as server:
        options: dict[str, Any] = {"retry_limits": {"attempts": 1}, "open_attempts": 1}
        keywords = trl.grpo("fault", base_url=server.url, output=tmp_path / "run", limit=1, reward_funcs=[length], **options)
        trainer = scripted(trainer_of(keywords, tmp_path, max_steps=3, reward_weights=[1.0, 0.1]), call)
        server.inject("/call", Fault("status", status=500), times=2)
        trainer.add_callback(_Inject(server))
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert [entry["episodes/spoiled"] for entry in logs] == [1.0, 0.5, 0.0]
    assert logs[0]["reward"] is None
    assert all(math.isfinite(entry["loss"]) for entry in logs)
    assert logs[0]["loss"] == 0.0
    assert logs[1]["rewards/length/mean"] == logs[2]["rewards/length/mean"] == 3.0
    played = list(RolloutStore(tmp_path / "run"))
    assert [rollout.reward for rollout in played if rollout.status == "error"] == [None] * 3


def _Inject(server: Any) -> Any:
    from transformers import TrainerCallback

    class Inject(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if state.global_step == 1:
                server.inject("/call", Fault("status", status=500), times=1)

    return Inject()


def test_cut_off_completions_and_calls_beyond_the_limit(examples: str, tmp_path: Path) -> None:
    def always(number: int, text: str) -> str:
        if number == 1:
            return "It is cold in Seattle, and<cut>"
        return '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Seattle"}}\n</tool_call>'

    keywords = trl.grpo("weather", base_url=examples, output=tmp_path / "run", tasks=[0])
    trainer = scripted(
        trainer_of(keywords, tmp_path, max_steps=1, max_tool_calling_iterations=2, max_completion_length=2048), always
    )
    trainer.train()
    reasons = {
        rollout.sample: (rollout.status, rollout.stop_reason, rollout.reward) for rollout in RolloutStore(tmp_path / "run")
    }
    assert reasons == {0: ("truncated", "max_turns", None), 1: ("truncated", "length", None)}


def vision_model() -> tuple[Any, Any]:
    """Return a random vision model of Qwen2.5-VL's kind and its processor, without what takes videos."""
    from tiny_model import model_and_tokenizer
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil
    from trl.chat_template_utils import qwen3_vl_chat_template

    class ImagesOnly(Qwen2_5_VLProcessor):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return type(argument)

    _, tokenizer = model_and_tokenizer("tiny")
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = qwen3_vl_chat_template
    images = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 56)
    processor = ImagesOnly(images, tokenizer, None, chat_template=qwen3_vl_chat_template)
    size = {"hidden_size": 32, "intermediate_size": 64}
    names = ("vision_start", "vision_end", "image", "video")
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark) for name, mark in zip(names, marks[1:], strict=True)}
    config = Qwen2_5_VLConfig(
        text_config={
            **size,
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        },
        vision_config={**size, "depth": 1, "num_heads": 2, "out_hidden_size": 32, "fullatt_block_indexes": [0]},
        **ids,
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def test_vision_models_see_the_images_of_tools(server_url: str, tmp_path: Path) -> None:
    from trl import GRPOConfig, GRPOTrainer

    model, processor = vision_model()
    tokenizer = processor.tokenizer
    seen: list[tuple[str, Any]] = []

    def turn(prompt_ids: Sequence[Sequence[int]], images: Any, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        texts = [tokenizer.decode(ids) for ids in prompt_ids]
        seen.append((texts[0], images))
        call = '<tool_call>\n{"name": "image", "arguments": {}}\n</tool_call>'
        answers = ["A pixel." if "<tool_response>" in text else call for text in texts]
        return [tokenizer.encode(answer + "<|im_end|>") for answer in answers], None

    own = {
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 512,
        "max_steps": 1,
        "logging_steps": 1,
    }
    config = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to=[], save_strategy="no", **own)
    keywords = trl.grpo("echo", base_url=server_url, output=tmp_path / "run", tasks=[0])
    trainer = GRPOTrainer(model, args=config, processing_class=processor, **keywords)
    trainer._generate_single_turn = turn
    trainer.train()
    text, images = seen[1]
    assert "<tool_response>\nlook<|vision_start|><|image_pad|>" in text
    assert [[image.size for image in rollout] for rollout in images] == [[(1, 1)], [(1, 1)]]
    assert math.isfinite(trainer.state.log_history[0]["loss"])
    for rollout in RolloutStore(tmp_path / "run"):
        assert [type(block).__name__ for block in rollout.messages[2].blocks] == ["TextBlock", "ImageBlock"]
        assert tokenizer.decode(rollout.messages[3].token_ids) == "A pixel.<|im_end|>"


def test_vision_models_see_the_images_of_prompts() -> None:
    from datasets import Dataset
    from trl.data_utils import prepare_multimodal_messages

    url = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    parts = [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": url}}]
    rows = [
        {"prompt": [{"role": "system", "content": "Be short."}, {"role": "user", "content": content}]}
        for content in (parts, "No.")
    ]
    group = ToolGroup("a", PlaySource("a", base_url="http://127.0.0.1:9"), [], rows)
    processor = vision_model()[1]
    seen = []
    for row in Dataset.from_list(examples_of([group])):
        messages = prepare_multimodal_messages(row["prompt"], images=row["images"])
        rendered = processor.apply_chat_template([messages], tokenize=True, return_dict=True, add_generation_prompt=True)
        seen.append((processor.tokenizer.decode(rendered["input_ids"][0]), "pixel_values" in rendered))
    assert [has_pixels for _, has_pixels in seen] == [True, False]
    assert "Look.<|vision_start|><|image_pad|>" in seen[0][0]
    assert "user\nNo.<|im_end|>" in seen[1][0]


def test_async_worker_plays_and_scores(examples: str, tmp_path: Path) -> None:
    """The loop of `AsyncGRPOTrainer`'s worker, on a pickled copy of the keywords as in its own process."""
    from tiny_model import model_and_tokenizer
    from trl.chat_template_utils import qwen3_chat_template
    from trl.experimental.async_grpo.async_rollout_worker import _AsyncRolloutLoop

    importlib.import_module("accelerate.state").PartialState()
    network, tokenizer = model_and_tokenizer("tiny")
    tokenizer.chat_template = qwen3_chat_template
    keywords = trl.grpo("weather", base_url=examples, output=tmp_path, tasks=[0], reward_funcs=[brevity])
    (callback,) = keywords["callbacks"]
    state = SimpleNamespace(global_step=5)
    callback.on_init_end(
        SimpleNamespace(num_generations=2, temperature=0.7), state, None, model=network, processing_class=tokenizer
    )
    callback.on_train_begin(None, state, None)
    turns = iter(range(1000))

    class Loop(_AsyncRolloutLoop):  # type: ignore[misc]
        async def _generate_one_turn(self, prompt_ids: list[int]) -> tuple[list[int], list[float]]:
            text = self.tokenizer.decode(prompt_ids)
            number = 0 if "<tool_response>" in text else next(turns)
            ids = self.tokenizer.encode(weather(number, text) + "<|im_end|>")
            return ids, [-1.0] * len(ids)

    samples: Any = queue.Queue()
    sent = pickle.loads(
        pickle.dumps({name: value for name, value in keywords.items() if name not in ("callbacks", "train_dataset")})
    )
    worker = Loop(
        model_name="tiny",
        **sent,
        dataset=keywords["train_dataset"],
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        rollout_buffer=samples,
        model_version_value=SimpleNamespace(value=0),
        heartbeat_value=SimpleNamespace(value=0.0),
        failed_event=threading.Event(),
        exception_info_queue=queue.Queue(),
        metrics_queue=queue.Queue(),
        num_generations=2,
        max_inflight_tasks=4,
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    scored = [samples.get(timeout=60) for _ in range(6)]
    worker._loop.call_soon_threadsafe(worker._stop_event.set)
    thread.join()
    callback.on_train_end(None, state, None)
    # The worker stopped in the middle of rollouts.
    sent["environment_factory"]["weather"]._source.close()
    assert {sample.metrics["rewards/episode_return"] for sample in scored} == {0.0, 1.0}
    assert all(sample.advantage * (sample.metrics["rewards/episode_return"] - 0.5) > 0 for sample in scored)
    assert pickle.loads(pickle.dumps(scored[0].prompt)) == keywords["train_dataset"][0]["prompt"]
    played = [rollout for rollout in RolloutStore(tmp_path) if rollout.status == "completed"]
    assert {rollout.step for rollout in played} == {5}
    assert {rollout.sampling["temperature"] for rollout in played if rollout.sampling} == {0.7}
    groups = [(rollout.group, rollout.sample) for rollout in played]
    assert len(set(groups)) == len(groups) >= 6
    answer = next(rollout for rollout in played if rollout.reward == 1.0).messages[-2]
    assert tokenizer.decode(answer.token_ids) == answer.text + "<|im_end|>"


def brevity(completions: Any, **columns: Any) -> list[float]:
    return [1.0 / (10 + len(completion)) for completion in completions]


def test_another_split_evaluates(server_url: str, tmp_path: Path) -> None:
    keywords = trl.grpo("echo", base_url=server_url, output=tmp_path / "run", tasks=[0])
    held_out = trl.grpo("echo", base_url=server_url, split="test", tasks=[1])["train_dataset"]
    trainer = trainer_of({**keywords, "eval_dataset": held_out}, tmp_path, per_device_eval_batch_size=2)
    metrics = scripted(trainer, lambda number, text: "Done.").evaluate()
    assert metrics["eval_reward"] == 0.0
    played = list(RolloutStore(tmp_path / "run"))
    assert {(rollout.environment.split, rollout.task.index, group_of(rollout)) for rollout in played} == {
        ("test", 1, "eval/echo:test/1/0")
    }


def group_of(rollout: Any) -> str:
    """Return the group of a rollout without the mark of its training."""
    return str(rollout.group).rpartition("@")[0]


def test_evaluation_and_a_resumed_training_have_groups_of_their_own(server_url: str, tmp_path: Path) -> None:
    """Tasks are the same in training and in evaluation, and the second training plays a step of the first again."""
    settings: dict[str, Any] = {
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "num_generations_eval": 3,
        "per_device_eval_batch_size": 3,
    }
    for checkpoint in (None, str(tmp_path / "checkpoint-1")):
        keywords = trl.grpo("echo", base_url=server_url, output=tmp_path / "run", tasks=[0])
        trainer = trainer_of({**keywords, "eval_dataset": keywords["train_dataset"]}, tmp_path, **settings)
        scripted(trainer, lambda number, text: "Done.").train(resume_from_checkpoint=checkpoint)
    members: dict[str, list[Any]] = {}
    for rollout in RolloutStore(tmp_path / "run"):
        assert (rollout.metadata or {})["phase"] == ("eval" if str(rollout.group).startswith("eval/") else "train")
        members.setdefault(str(rollout.group), []).append(rollout)
    samples = {(group, one.step): sorted(each.sample for each in of) for group, of in members.items() for one in of}
    assert sorted((group.rpartition("@")[0], step, *of) for (group, step), of in samples.items()) == [
        ("echo/0/0", 0, 0, 1),
        *[("echo/0/1", 1, 0, 1)] * 2,
        ("eval/echo/0/1", 1, 0, 1, 2),
        *[("eval/echo/0/2", 2, 0, 1, 2)] * 2,
    ]


def test_sessions_of_an_interrupted_training_are_closed_when_the_next_begins(tmp_path: Path) -> None:
    def interrupt(number: int, text: str) -> str:
        raise KeyboardInterrupt

    with running() as server:
        keywords = trl.grpo("fault", base_url=server.url, output=tmp_path / "run", limit=1)
        trainer = scripted(trainer_of(keywords, tmp_path, max_steps=1), interrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        scripted(trainer, lambda number, text: "Done.").train()
        assert server.sessions == set()
    assert len(list(RolloutStore(tmp_path / "run"))) == 2


def test_keywords_can_be_pickled(examples: str, tmp_path: Path) -> None:
    keywords = trl.grpo(["weather", "ctf"], base_url=examples, output=tmp_path, limit=1)
    copy = pickle.loads(pickle.dumps({name: value for name, value in keywords.items() if name != "callbacks"}))
    assert list(copy["environment_factory"]) == ["weather", "ctf"]
    assert copy["train_dataset"][0]["environment"] == "weather"
    assert copy["reward_funcs"][0].__name__ == "episode_return"


def test_mistakes_are_named(examples: str) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'weather'"):
        trl.grpo("wether", base_url=examples)
    with pytest.raises(ConfigurationError, match="more than once"):
        trl.grpo(["weather", "weather"], base_url=examples)
    with pytest.raises(ConfigurationError, match="nudge"):
        trl.grpo("weather", base_url=examples, on_message="nudge")
    with pytest.raises(ConfigurationError, match="on_length"):
        trl.grpo("weather", base_url=examples, on_length="tell")
    with pytest.raises(ConfigurationError, match="no tasks"):
        trl.grpo("weather", base_url=examples, tasks=[])
    with pytest.raises(ConfigurationError, match="limit"):
        trl.grpo("weather", base_url=examples, limit=0)
    with pytest.raises(ConfigurationError, match="name of an environment"):
        trl.grpo([], base_url=examples)
    with pytest.raises(ConfigurationError, match=r"splitt.*split"):
        trl.grpo("weather", base_url=examples, splitt="test")  # type: ignore[call-arg]
