"""Clients that envs share: one for a vector, one request per question, nothing across a restart of the server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections import Counter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from fault_server import Fault, FaultServer, running
from launch import free_port

from openreward_gym import serve
from openreward_gym.envs import OpenRewardEnv, OpenRewardVectorEnv, SharedClient
from openreward_gym.errors import ConfigurationError, ResetNeededError, ServerError
from openreward_gym.options import EnvOptions

STEP = {"name": "step", "arguments": {}}

SOURCE = """
from openreward.environments import Environment, TextBlock, ToolOutput, tool

class Library(Environment):
    @classmethod
    def list_splits(cls):
        return ["train"]
    @classmethod
    def list_tasks(cls, split):
        return [{"shelf": i} for i in range(SHELVES)]
    def get_prompt(self):
        return [TextBlock(text=f"shelf {self.task_spec['shelf']}")]
    @tool
    async def VERB(self) -> ToolOutput:
        '''Do it.'''
        return ToolOutput(blocks=[TextBlock(text="done")], reward=1.0, finished=True)
"""


def asked(server: FaultServer) -> Counter[str]:
    return Counter(request.path.rpartition("/")[2] for request in server.requests)


def test_a_large_vector_asks_once() -> None:
    with running() as server, OpenRewardVectorEnv(200, environment="fault", base_url=server.url) as envs:
        assert envs.action_space is not None
        _, infos = envs.reset(seed=0)
        assert infos["task_index"].tolist() == [i % 3 for i in range(200)]
        counts = asked(server)
        assert (counts["tools"], counts["num_tasks"]) == (1, 1)
        assert counts["list_environments"] <= 2


def test_an_env_asks_once_per_client() -> None:
    with running() as server:
        env = OpenRewardEnv("fault", base_url=server.url)
        for seed in range(4):
            env.reset(seed=seed)
        assert asked(server)["num_tasks"] == 1
        env.close()
        env.reset(seed=0)
        assert asked(server)["num_tasks"] == 2
        env.close()


def test_a_new_env_sees_the_tools_and_tasks_of_a_restarted_server(tmp_path: Path) -> None:
    port = free_port()
    for shelves, verb in ((3, "lend"), (4, "shelve"), (1, "lend")):
        file = tmp_path / f"library_{shelves}.py"
        file.write_text(SOURCE.replace("SHELVES", str(shelves)).replace("VERB", verb))
        with serve.local([f"{file}:Library"], port=port) as base_url:
            env = gym.make("OpenReward-v0", environment="library", base_url=base_url)
            assert [tool.name for tool in env.unwrapped.action_space.tools] == [verb]  # type: ignore[attr-defined]
            assert {env.reset(seed=seed)[1]["task_index"] for seed in range(6)} == set(range(shelves))
            env.close()
            with OpenRewardVectorEnv(2, environment="library", base_url=base_url, share_tasks=True) as envs:
                seen = [index for _ in range(3) for index in envs.reset()[1]["task_index"].tolist()]
            assert set(seen) == set(range(shelves))


def test_a_failed_question_is_asked_again() -> None:
    with running() as server:
        server.inject("/num_tasks", Fault("status", status=500))
        env = OpenRewardEnv("fault", base_url=server.url)
        with pytest.raises(ServerError):
            env.reset(seed=0)
        assert env.reset(seed=1)[1]["task_index"] == 1
        env.close()


def test_envs_share_a_client_by_an_owner() -> None:
    async def play(url: str) -> tuple[int, bool]:
        options = EnvOptions.from_keywords({"environment": "fault", "base_url": url})
        client = SharedClient(options)
        envs = [OpenRewardEnv.from_options(options, client) for _ in range(5)]
        await asyncio.gather(*(env.areset(seed=seed) for seed, env in enumerate(envs)))
        assert len({id(client.acquire(env)) for env in envs}) == 1
        for env in envs:
            await env.aclose()
        for env in envs:
            await client.release(env)
        return len(server.sessions), client.is_open

    with running() as server:
        assert asyncio.run(play(server.url)) == (0, False)
        assert asked(server)["num_tasks"] == 1


def test_the_hosts_of_a_secret_arrive_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBRARY_JUDGE", "jk-55")
    with running() as server:
        env = gym.make(
            "OpenReward-v0",
            environment="fault",
            base_url=server.url,
            secrets_env={"judge": "LIBRARY_JUDGE"},
            secret_domains={"judge": ["one.example.org", "two.example.org"]},
        )
        env.reset(seed=0)
        env.close()
        sent = [request.headers["x-secrets"] for request in server.requests if "x-secrets" in request.headers]
    assert sent
    headers = json.loads(base64.b64decode(sent[0]))
    assert set(headers["judge"]["allowed_domains"]) >= {"one.example.org", "two.example.org"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_is_told_to_make_its_own() -> None:
    with running() as server:
        env = OpenRewardEnv("fault", base_url=server.url)
        env.reset(seed=0)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            message = b"nothing"
            try:
                env.close()  # nothing of the child's own is open
                env.step(STEP)
            except ConfigurationError as error:
                message = str(error).encode()
            finally:
                os.write(writer, message)
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            assert b"make another env in the child" in pipe.read()
        assert env.step(STEP)[1] == 1.0
        env.close()


def test_a_closed_env_says_so() -> None:
    with running() as server:
        env = OpenRewardEnv("fault", base_url=server.url)
        env.close()
        with pytest.raises(ResetNeededError, match="close"):
            env.step(STEP)
        env.reset(seed=0)
        env.step(STEP)
        env.close()
        with pytest.raises(ResetNeededError, match=r"closed.*reset"):
            env.step(STEP)
        env.reset(seed=0)
        assert env.step(STEP)[1] == 1.0
        env.close()


@pytest.mark.parametrize("empty", [[], (), "", {"role": "assistant", "content": None}, {"role": "assistant", "tool_calls": []}])
def test_a_message_without_content_is_no_answer(empty: object) -> None:
    with running() as server:
        env = OpenRewardEnv("fault", base_url=server.url)
        env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step(empty)
        assert "empty" in observation
        assert (reward, terminated, truncated, info["n_calls"]) == (0.0, False, False, 0)
        assert [(message.role, message.origin) for message in env.messages[1:]] == [("assistant", "policy"), ("user", "client")]
        assert env.step(STEP)[1] == 1.0
        env.close()


def test_who_said_what() -> None:
    with running() as server:
        env = OpenRewardEnv("fault", base_url=server.url, on_message="nudge")
        env.reset(seed=0)
        env.step([STEP, {"name": "step", "arguments": "{broken"}])
        env.step("I think so.")
        env.close()
    assert [(message.role, message.origin) for message in env.messages] == [
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("tool", "client"),
        ("assistant", "policy"),
        ("user", "client"),
    ]
    assert env.messages[2].reward == 1.0
    assert env.messages[3].is_error


# A server that goes away and comes back -----------------------------------------------------------------------------------


def unreachable() -> str:
    return f"http://127.0.0.1:{free_port()}"


def quick(url: str) -> dict[str, object]:
    return {"environment": "fault", "base_url": url, "retry_limits": {"attempts": 1}}


@pytest.mark.parametrize("mode", [gym.vector.AutoresetMode.NEXT_STEP, gym.vector.AutoresetMode.SAME_STEP])
def test_an_autoreset_that_fails_is_a_truncated_row(mode: gym.vector.AutoresetMode) -> None:
    with running() as server:
        envs = gym.vector.SyncVectorEnv([lambda: OpenRewardEnv(**quick(server.url), max_steps=1)] * 2, autoreset_mode=mode)  # type: ignore[arg-type]
        envs.reset(seed=0)
        if mode is gym.vector.AutoresetMode.NEXT_STEP:
            assert envs.step((STEP, STEP))[3].all()
        server.inject("/create_session", Fault("status", status=503), times=2)
        observations, _, terminated, _, infos = envs.step((STEP, STEP))
        assert observations == ("", "")
        assert not terminated.any()
        assert all(infos["error"])
        _, rewards, _, truncated, infos = envs.step((STEP, STEP))
        assert truncated.all()
        assert not rewards.any()
        if mode is gym.vector.AutoresetMode.NEXT_STEP:
            assert set(infos["stop_reason"]) == {"session_lost"}
            envs.step((STEP, STEP))
            assert envs.step((STEP, STEP))[1].tolist() == [1.0, 1.0]
        envs.close()


def test_gymnasiums_autoreset_wrapper_counts_as_one() -> None:
    with running() as server:
        env = gym.wrappers.Autoreset(gym.wrappers.OrderEnforcing(OpenRewardEnv(**quick(server.url), max_steps=1)))  # type: ignore[arg-type]
        env.reset(seed=0)
        assert env.step(STEP)[3]
        server.inject("/create_session", Fault("status", status=503))
        assert env.step(STEP)[4]["error"]
        assert env.step(STEP)[3]
        env.close()


@pytest.mark.parametrize("make", [lambda env: env, gym.wrappers.OrderEnforcing, gym.wrappers.RecordEpisodeStatistics])
def test_a_reset_of_the_users_raises(make: object) -> None:
    env = make(OpenRewardEnv(**quick(unreachable())))  # type: ignore[operator, arg-type]
    for _ in range(2):
        with pytest.raises(ConnectionError):
            env.reset()
    env.close()


def test_a_reset_of_the_users_does_not_raise_where_it_is_asked_not_to() -> None:
    env = OpenRewardEnv(**quick(unreachable()), on_reset_failure="truncate")  # type: ignore[arg-type]
    observation, info = env.reset()
    assert (observation, info["stop_reason"], info["tools"]) == ("", "session_lost", ())
    assert env.episode is None
    assert env.step(STEP)[1:4] == (0.0, False, True)
    with pytest.raises(ResetNeededError):
        env.step(STEP)
    env.close()


def test_an_autoreset_may_raise_where_it_is_asked_to() -> None:
    with running() as server:
        options = {**quick(server.url), "max_steps": 1, "on_reset_failure": "raise"}
        envs = gym.vector.SyncVectorEnv([lambda: OpenRewardEnv(**options)])  # type: ignore[arg-type]
        envs.reset(seed=0)
        envs.step((STEP,))
        server.inject("/create_session", Fault("status", status=503))
        with pytest.raises(ServerError):
            envs.step((STEP,))
        envs.close()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_an_async_batch_outlives_its_servers_absence() -> None:
    with running() as server:
        options = {**quick(server.url), "max_steps": 1}
        envs = gym.vector.AsyncVectorEnv([lambda: OpenRewardEnv(**options)] * 2, context="spawn")  # type: ignore[arg-type]
        try:
            envs.reset(seed=0)
            assert envs.step((STEP, STEP))[3].all()
            server.inject("/create_session", Fault("status", status=503), times=2)
            envs.step((STEP, STEP))
            _, _, _, truncated, infos = envs.step((STEP, STEP))
            assert truncated.all()
            assert set(infos["stop_reason"]) == {"session_lost"}
            envs.reset(seed=1)
            assert np.array_equal(envs.step((STEP, STEP))[1], [1.0, 1.0])
        finally:
            envs.close(terminate=True)
