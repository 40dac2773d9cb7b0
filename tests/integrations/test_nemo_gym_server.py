"""The integration of NeMo Gym: its agent and resources server, played with NeMo Gym's own classes of two of its versions."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_server import Fault, FaultServer, running
from installing import kept_packages
from launch import free_port
from nemo_environments import VERSIONS, nemo_gym_python
from providers import Providers, providing

from openreward_gym import RolloutStore, collect
from openreward_gym.errors import ConfigurationError, TransportError
from openreward_gym.importers import nemo_gym as importer
from openreward_gym.integrations import nemo_gym

ROOT = Path(__file__).parents[2]


RETRY_NOTHING: dict[str, Any] = {"retry_limits": {"attempts": 1}, "open_attempts": 1, "on_message": "nudge"}


class Pair:
    """A running pair: the URLs of its servers, and its run."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.agent, self.resources = (f"http://127.0.0.1:{free_port()}" for _ in range(2))

    def configuration(self, name: str, folder: Path, **settings: Any) -> dict[str, Any]:
        """Return what `write_servers` writes, with instances called `name`, and with the places of the servers."""
        path = nemo_gym.write_servers(folder, output=self.run, **settings)
        written = json.loads(path.read_text(encoding="utf-8"))
        (agent,) = written["openreward_agent"]["responses_api_agents"].values()
        (resources,) = written["openreward_resources_server"]["resources_servers"].values()
        agent["resources_server"]["name"] = f"{name}_resources"
        for fields, url in ((agent, self.agent), (resources, self.resources)):
            fields |= _place(url)
        kinds = {"responses_api_agents": {"openreward_agent": agent}}, {"resources_servers": {"openreward": resources}}
        return {f"{name}_agent": kinds[0], f"{name}_resources": kinds[1]}

    def play(self, rows: list[Mapping[str, Any]]) -> list[httpx.Response]:
        """Play rows at the same time, as NeMo Gym's collection does."""
        with ThreadPoolExecutor(len(rows)) as pool:
            return list(pool.map(lambda row: httpx.post(f"{self.agent}/run", json=row, timeout=60), rows))


def _place(url: str) -> dict[str, Any]:
    return {"host": httpx.URL(url).host, "port": httpx.URL(url).port}


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which NeMo Gym's interpreter finds this package."""
    peers = kept_packages("nemo-gym-peers", "gymnasium==1.2.3", "cloudpickle", "farama-notifications")
    metadata = tmp_path_factory.mktemp("metadata")
    (metadata / "openreward_gym-0.dist-info").mkdir()
    text = f"Metadata-Version: 2.1\nName: openreward-gym\nVersion: {version('openreward-gym')}\n"
    (metadata / "openreward_gym-0.dist-info" / "METADATA").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, peers, metadata)))}


@pytest.fixture(scope="module")
def model() -> Iterator[Providers]:
    with providing() as model:
        yield model


@pytest.fixture(scope="module")
def fault() -> Iterator[FaultServer]:
    with running() as server:
        server.texts_alone = True
        yield server


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.matrix) for name in VERSIONS])
def pairs(
    request: pytest.FixtureRequest,
    environ: dict[str, str],
    examples: str,
    fault: FaultServer,
    model: Providers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Pair]]:
    """Two pairs of servers in one process: one plays `weather`, and one the server with faults."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("weather", "fault")}
    pairs = {name: Pair(folder) for name, folder in folders.items()}
    configuration = {
        **pairs["weather"].configuration("weather", folders["weather"], environment="weather", base_url=examples),
        **pairs["fault"].configuration(
            "fault", folders["fault"], base_url=fault.url, options=RETRY_NOTHING, max_steps=2, attempts=2
        ),
        "policy_model": {"responses_api_models": {"stand_in": {"entrypoint": "app.py", **_place(model.url)}}},
        "head_server": {"host": "127.0.0.1", "port": 9},
    }
    path = folders["weather"] / "configuration.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    command = [str(nemo_gym_python(request.param)), str(Path(__file__).with_name("nemo_pair.py")), str(path)]
    with subprocess.Popen(
        command, env=environ, cwd=path.parent, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line.strip() != "ready":
            pass
        assert line, "the servers did not start"
        yield pairs
        process.stdin.close()
        process.wait(timeout=30)


def played(row: Mapping[str, Any], rollout: int = 0) -> dict[str, Any]:
    """Return a row as NeMo Gym's collection sends it."""
    params = {**row["responses_create_params"], "model": "good"}
    return {**row, "responses_create_params": params, "_ng_task_index": row["task_index"], "_ng_rollout_index": rollout}


@pytest.mark.timeout(400)
def test_rows_have_the_rewards_of_a_collection(pairs: dict[str, Pair], examples: str, model: Providers, tmp_path: Path) -> None:
    rows = nemo_gym.rows("weather", base_url=examples, split="train")
    answers = pairs["weather"].play([played(row, sample) for row in rows for sample in (0, 1)])
    assert [answer.status_code for answer in answers] == [200] * 10
    lines = [answer.json() for answer in answers]
    own = collect(
        "weather", base_url=examples, policy="openai:good", policy_url=f"{model.url}/v1", output=tmp_path / "own", split="train"
    )
    by_task = {rollout.task.index: rollout.reward for rollout in own.store}
    assert [line["reward"] for line in lines] == [by_task[line["task_index"]] for line in lines]
    assert {(line["terminated"], line["truncated"], line["info"]["stop_reason"]) for line in lines} == {(True, False, "finished")}
    # The agent has validated the rows by NeMo Gym's types. Read as rows of NeMo Gym, they are the rollouts that were recorded.
    recorded = {rollout.id: rollout for rollout in RolloutStore(pairs["weather"].run)}
    assert len(recorded) == 10
    for line in lines:
        rollout = recorded[line["info"]["rollout_id"]]
        assert (rollout.group, rollout.sample) == (str(line["task_index"]), line["_ng_rollout_index"])
        read = importer.rollout_of(line, "1")
        assert (read.reward, read.status) == (rollout.reward, rollout.status)
        said = [[message.text for message in some.messages if message.origin == "policy"] for some in (read, rollout)]
        assert said[0] == said[1]
        assert [message.text for message in read.messages[:2]] == [message.text for message in rollout.messages[:2]]
    # The usage is that of both turns.
    assert lines[0]["response"]["usage"]["total_tokens"] == 240


def _written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.timeout(400)
def test_failures_are_no_rewards(pairs: dict[str, Pair], fault: FaultServer) -> None:
    servers = pairs["fault"]
    (row,) = nemo_gym.rows("fault", limit=1, base_url=fault.url)
    # The turns are used up: an end, and no failure.
    (answer,) = servers.play([played(row)])
    assert (answer.status_code, answer.json()["info"]["stop_reason"]) == (200, "max_steps")
    assert (answer.json()["terminated"], answer.json()["truncated"], answer.json()["reward"]) == (False, True, 1.0)
    # The session dies once: the row is played again.
    fault.inject("/call", Fault("status", status=404))
    (answer,) = servers.play([played(row, 4)])
    assert (answer.status_code, answer.json()["reward"]) == (200, 1.0)
    # The session cannot be opened.
    fault.inject("/create", Fault("status", status=502), times=2)
    (answer,) = servers.play([played(row, 1)])
    assert (answer.status_code, "reward" in answer.text) == (503, False)
    assert "502" in answer.text
    # The session dies in a step.
    with httpx.Client(base_url=servers.resources, timeout=60) as client:
        assert client.post("/seed_session", json=played(row, 2)).status_code == 200
        assert client.post("/step", json={"response": _response("step")}).json()["reward"] == 1.0
        fault.inject("/call", Fault("status", status=404))
        assert client.post("/step", json={"response": _response("step")}).status_code == 503
        unplayed = {**played(row, 2), "response": _response("step")}
        assert client.post("/verify", json=unplayed).status_code == 503
        assert client.post("/verify", json=unplayed).status_code == 409
    # The model's server fails: not a rollout, and no session is left.
    (answer,) = servers.play([{**played(row, 3), "responses_create_params": {"input": [], "model": "broken"}}])
    assert answer.status_code == 500
    (answer,) = servers.play([{**played(row), "task_index": None}])
    assert (answer.status_code, "task_index" in answer.text) == (500, True)
    assert not fault.sessions
    records = {(rollout.sample, rollout.status): rollout.reward for rollout in RolloutStore(servers.run)}
    assert records == {
        (0, "truncated"): 1.0,
        (4, "error"): None,
        (4, "truncated"): 1.0,
        (2, "error"): 1.0,
    }


def _response(tool: str) -> dict[str, Any]:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": tool, "arguments": "{}", "status": "completed"}
    settings = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [call], **settings}


def test_rows_are_those_that_collect_plays(examples: str, model: Providers, tmp_path: Path) -> None:
    count = nemo_gym.write_dataset(tmp_path / "of" / "train.jsonl", "weather", "ctf", limit=2, base_url=examples)
    lines = [json.loads(line) for line in (tmp_path / "of" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["environment"], line["task_index"]) for line in lines] == [
        ("weather", 0),
        ("weather", 1),
        ("ctf", 0),
        ("ctf", 1),
    ]
    assert count == 4
    path = _written(tmp_path / "weather.jsonl", lines[:2])
    policy = {"policy": "openai:good", "policy_url": f"{model.url}/v1"}
    result = collect("weather", base_url=examples, input=path, output=tmp_path / "run", **policy)  # type: ignore[arg-type]
    assert sorted(rollout.task.index for rollout in result.store if rollout.task.index is not None) == [0, 1]


def test_written_configuration(tmp_path: Path) -> None:
    path = nemo_gym.write_servers(tmp_path, environment="weather", base_url="http://127.0.0.1:1", output="runs/x", max_steps=9)
    configuration = json.loads(path.read_text(encoding="utf-8"))
    agent = configuration["openreward_agent"]["responses_api_agents"]["openreward_agent"]
    assert (agent["max_steps"], agent["model_server"]["name"]) == (9, "policy_model")
    resources = configuration["openreward_resources_server"]["resources_servers"]["openreward"]
    assert Path(resources["output"]) == Path("runs/x").absolute()
    relay = json.loads(path.with_name("openreward_environment.yaml").read_text(encoding="utf-8"))
    assert (tmp_path / relay["config_paths"][0]) == path
    for place in ("resources_servers/openreward", "responses_api_agents/openreward_agent"):
        compile((tmp_path / place / "app.py").read_text(encoding="utf-8"), "app.py", "exec")
        assert "openreward-gym" in (tmp_path / place / "requirements.txt").read_text(encoding="utf-8")


def test_mistakes_of_the_caller(examples: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name of an environment"):
        nemo_gym.write_dataset(tmp_path / "train.jsonl")
    with pytest.raises(ConfigurationError, match="max_step"):
        nemo_gym.rows("weather", base_url=examples, max_step=3)
    with pytest.raises(ConfigurationError, match="max_step"):
        nemo_gym.write_servers(tmp_path, environment="weather", options={"max_step": 3})
    with pytest.raises(ConfigurationError, match="JSON"):
        nemo_gym.write_servers(tmp_path, environment="weather", options={"model": {"name": object()}})
    with running() as server:
        url = server.url
    with pytest.raises(TransportError):
        nemo_gym.rows("fault", limit=2, base_url=url, retry_limits={"attempts": 1})
