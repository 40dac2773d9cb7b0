"""Train a model with GRPO on OpenReward environments: TRL generates, the tools run on the environments' servers.

    openreward-gym serve weather ctf --port 8080 &
    python examples/train_grpo.py weather ctf --base-url http://127.0.0.1:8080 --model Qwen/Qwen3-0.6B --steps 200

It needs the extras `server` and `train`. TRL's `environment_factory` expects a class whose methods are tools.
`environment_class` makes such a class from the tools of an environment. A rollout is an episode in a separate session, which
stays alive while the model generates, and each rollout is recorded in the folder of the run. Several environments can train
together: each example names its environment. Images of tools reach vision models. An episode that the infrastructure broke has
no reward, never a reward of 0, and TRL leaves it out.
"""

from __future__ import annotations

import argparse
import base64
import inspect
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from tiny_model import model_and_tokenizer, trains_on_cpu
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_chat_template

from openreward_gym import OpenRewardEnv
from openreward_gym.chat import to_openai
from openreward_gym.envs.episode import Episode
from openreward_gym.types import ImageBlock, ToolSpec, text_of
from openreward_gym.wrappers import RecordRollouts

TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}


class Episodes:
    """An environment for TRL: `reset` begins an episode, and the methods of a subclass are the tools."""

    name = ""
    base_url: str | None = None
    output = ""

    def __init__(self) -> None:
        self._recorder = RecordRollouts(OpenRewardEnv(self.name, base_url=self.base_url), self.output)

    def reset(self, task_index: int, **row: Any) -> None:
        """Begin an episode of a task. TRL's example has the prompt already."""
        self._recorder.reset(options={"task_index": task_index})

    @property
    def _episode(self) -> Episode:
        episode = self._recorder.unwrapped.episode
        assert episode is not None
        return episode

    def _call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """Return the result of a call: text, or parts with images."""
        episode = self._episode
        if episode.done:
            return "The episode is over."
        self._recorder.step({"name": tool, "arguments": arguments})
        blocks = [block for result in episode.steps[-1].results for block in result.output.blocks]
        if not any(isinstance(block, ImageBlock) for block in blocks):
            return text_of(blocks)
        return [
            _image(block) if isinstance(block, ImageBlock) else {"type": "text", "text": text_of([block])} for block in blocks
        ]

    def _finish(self, text: str) -> float | None:
        """Send the model's last message and return the episode's return; None if the infrastructure broke the episode.

        An environment with a terminal tool judges the message and ends the episode. For other environments it is only recorded.
        """
        episode = self._episode
        if not episode.done:
            self._recorder.step(text)
        rewards = [result.output.reward for step in episode.steps for result in step.results if result.output.reward is not None]
        broken = any(step.error for step in episode.steps)
        return None if broken else sum(rewards, 0.0)


def environment_class(name: str, base_url: str | None, output: str) -> type[Episodes]:
    """Return a class whose methods are the environment's tools, with the names, types and descriptions for a chat template."""
    env = OpenRewardEnv(name, base_url=base_url)
    env.reset(options={"task_index": 0})
    assert env.episode is not None
    tools = {tool.name: _method(tool) for tool in env.episode.tools}
    env.close()
    return type(name.rpartition("/")[2], (Episodes,), {**tools, "name": name, "base_url": base_url, "output": output})


def _method(tool: ToolSpec) -> Any:
    def method(self: Episodes, **arguments: Any) -> Any:
        return self._call(tool.name, arguments)

    schema = tool.input_schema or {}
    properties, required = schema.get("properties", {}), schema.get("required", [])
    kinds = {argument: TYPES.get(str(about.get("type")), str) for argument, about in properties.items()}
    # Python wants optional parameters last.
    order = sorted(properties, key=lambda argument: argument not in required)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for argument in order:
        default = inspect.Parameter.empty if argument in required else None
        parameters.append(
            inspect.Parameter(argument, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kinds[argument])
        )
    descriptions = "\n".join(f"    {argument}: {properties[argument].get('description') or argument}" for argument in order)
    method.__name__ = method.__qualname__ = tool.name
    method.__doc__ = f"{tool.description or tool.name}\n\nArgs:\n{descriptions}\n" if order else tool.description or tool.name
    method.__annotations__ = kinds
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return method


def _image(block: ImageBlock) -> dict[str, Any]:
    from PIL import Image

    return {"type": "image", "image": Image.open(io.BytesIO(base64.b64decode(block.data)))}


def examples(name: str, base_url: str | None, tasks: int) -> list[dict[str, Any]]:
    """Return the first tasks of an environment as TRL's examples: its name, the prompt as chat messages, and the task."""
    env = OpenRewardEnv(name, base_url=base_url)
    rows = []
    for index in range(tasks):
        env.reset(options={"task_index": index})
        assert env.episode is not None
        rows.append({"environment": name, "prompt": to_openai(env.episode.prompt), "task_index": index})
    env.close()
    return rows


def returns(completions: Sequence[Sequence[Mapping[str, Any]]], environments: Sequence[Episodes], **_: Any) -> list[float | None]:
    """Return the return of each episode, after sending the model's last message to its environment."""
    rewards = []
    for completion, environment in zip(completions, environments, strict=True):
        last = completion[-1] if completion else {}
        text = last.get("content") if last.get("role") == "assistant" else ""
        rewards.append(environment._finish(text if isinstance(text, str) else ""))
    return rewards


def trainer_of(
    environments: Sequence[str],
    base_url: str | None = None,
    model: str = "tiny",
    tasks: int = 2,
    steps: int = 2,
    generations: int = 2,
    output: str = "out/grpo",
) -> Any:
    """Return a trainer that is ready to `train()`."""
    network, tokenizer = model_and_tokenizer(model)
    if model == "tiny":
        # TRL parses calls in the format of templates that it knows.
        tokenizer.chat_template = qwen3_chat_template
        tokenizer.padding_side = "left"
    rows = [row for name in environments for row in examples(name, base_url, tasks)]
    config = GRPOConfig(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=generations,
        num_generations=generations,
        max_completion_length=48 if model == "tiny" else 1024,
        max_tool_calling_iterations=8,
        learning_rate=1e-3 if model == "tiny" else 1e-6,
        use_cpu=trains_on_cpu(model),
        bf16=not trains_on_cpu(model),
        logging_steps=1,
        save_strategy="no",
        report_to=[],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using 'environment_factory'", UserWarning)
        return GRPOTrainer(
            model=network,
            args=config,
            reward_funcs=returns,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            environment_factory={name: environment_class(name, base_url, f"{output}/rollouts") for name in environments},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="+", help="names: weather, owner/name")
    parser.add_argument("--base-url", help="their server [default: the hosted platform]")
    parser.add_argument("--model", default="tiny", help="name or folder of a model; tiny makes a random one")
    parser.add_argument("--tasks", type=int, default=2, help="tasks per environment")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--generations", type=int, default=2, help="rollouts per task that are compared")
    parser.add_argument("--output", default="out/grpo")
    options = parser.parse_args()
    trainer = trainer_of(**vars(options))
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    print("reward by step:", " ".join(f"{reward:.3f}" for reward in rewards))
    print(f"the rollouts: openreward-gym report {options.output}/rollouts")


if __name__ == "__main__":
    main()
