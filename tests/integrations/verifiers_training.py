"""Rollouts as prime-rl plays them: tasks sent to an env server, and a model that verifiers samples by token ids.

`test_verifiers_environment.py` runs these tests under the interpreter that has verifiers.
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import verifiers.v1 as vf
from chat_model import AnyServer
from tiny_tokenizer import tiny_tokenizer
from verifiers.v1.serve import EnvClient, EnvServer

from openreward_gym.integrations.verifiers import load_environment
from openreward_gym.store import RolloutStore

SPECIAL = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"),
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
]


def generated(tokenizer: Any, text: str) -> tuple[int, Any, dict[str, str]]:
    """Return what vLLM's endpoint for token ids answers with a text."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    content = [{"token": f"token_id:{token}", "logprob": -0.25} for token in ids]
    choice = {"index": 0, "token_ids": ids, "logprobs": {"content": content}, "finish_reason": "stop"}
    return 200, {"request_id": "r", "choices": [choice]}, {}


async def as_prime_rl(env: Any, client: Any) -> Any:
    """Return the episode of the first task: an orchestrator reads the tasks, and sends one to an env server."""
    server = EnvServer(env.config, address="tcp://127.0.0.1:0")
    serving = asyncio.create_task(server.run())
    orchestrator = EnvClient(server.address)
    taskset = vf.load_taskset(env.config.taskset)
    sampling = vf.SamplingConfig(temperature=1.0, extra_body={"cache_salt": "7"})
    (task,) = await asyncio.to_thread(lambda: list(taskset.take(1)))
    try:
        task_data = task.data.model_dump(mode="json")
        return await orchestrator.run(client=client, model="m", sampling=sampling, task_data=task_data)
    finally:
        await orchestrator.close()
        serving.cancel()
        await asyncio.wait([serving])


def test_an_env_server_plays_a_task_and_the_record_has_the_sampled_tokens(server_url: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(special=SPECIAL)
    tokenizer.save_pretrained(tmp_path / "model")
    call = json.dumps({"name": "echo", "arguments": {"text": "hé"}})
    end = json.dumps({"name": "finish", "arguments": {"text": "right"}})
    answers = [f"<tool_call>\n{one}\n</tool_call><|im_end|>" for one in (call, end)]
    with AnyServer(*(generated(tokenizer, answer) for answer in answers)) as engine:
        client = vf.TrainClientConfig(
            base_url=f"{engine.url}/v1", renderer={"name": "qwen3"}, renderer_model_name=str(tmp_path / "model")
        )
        env = load_environment("echo", base_url=server_url, output=tmp_path / "run")
        episode = asyncio.run(as_prime_rl(env, client))
    (trace,) = episode.traces
    assert (trace.ok, trace.errors, trace.reward, trace.num_turns) == (True, [], 1.5, 2)
    (branch,) = trace.branches  # each prompt extends what was sampled before
    (rollout,) = RolloutStore(tmp_path / "run")
    sampled = [message.sampled for message in rollout.messages if message.origin == "policy" and message.sampled is not None]
    prompts, answered = ([*(one.prompt_token_ids or ())] for one in sampled), ([*(one.token_ids or ())] for one in sampled)
    (first_prompt, second_prompt), (first, second) = prompts, answered
    assert [tokenizer.decode(ids) for ids in (first, second)] == answers
    assert second_prompt[: len(first_prompt) + len(first)] == [*first_prompt, *first]
    assert branch.token_ids == [*second_prompt, *second]
    assert sum(branch.sampled_mask) == len(first) + len(second)
    assert [one.logprobs for one in sampled] == [(-0.25,) * len(first), (-0.25,) * len(second)]
    assert [message.text for message in rollout.messages if message.role == "tool"] == ["hé", "over"]
    assert (rollout.reward, rollout.sampling) == (1.5, {"temperature": 1.0})
    assert (rollout.step, rollout.group, rollout.sample) == (7, "echo/train/0@7", 0)


def test_the_config_of_the_page_names_environments_that_verifiers_takes() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "train-with-verifiers.md"
    shown = re.search(r"^```toml.*?\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    assert shown is not None
    orchestrator = tomllib.loads(shown[1])["orchestrator"]
    train, evaluation = (vf.resolve_env_config(orchestrator[part]["source"][0]["env"]) for part in ("train", "eval"))
    assert (train.taskset.environment, train.agent.max_turns, train.agent.retries.max_retries) == ("weather", 8, 2)
    assert train.agent.runtime.type == evaluation.agent.runtime.type == "subprocess"
    assert evaluation.taskset.split == "test"
    assert type(vf.load_environment(train)).__name__ == "OneAgentEnv"
