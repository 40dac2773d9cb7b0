"""The arguments of `collect`: one declaration, a flat signature, and a suggestion for a wrong name."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import openreward_gym
from openreward_gym.collect import CollectOptions, acollect, collect, estimate
from openreward_gym.envs import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import EnvOptions, RunOptions


def test_the_signature_lists_every_option_with_its_default() -> None:
    for function in (collect, acollect, estimate):
        parameters = dict(inspect.signature(function).parameters)
        parameters.pop("stop", None)
        assert set(parameters) == set(RunOptions.names())
        assert parameters["repeats"].default == 1
        assert parameters["max_steps"].annotation == "int | None"


def test_type_checkers_know_the_same_options() -> None:
    assert {*CollectOptions.__annotations__, "environment", "policy"} == set(RunOptions.names())


def test_a_collection_takes_every_option_of_an_env() -> None:
    env = set(inspect.signature(OpenRewardEnv.__init__).parameters) - {"self", "unknown"}
    assert env == set(EnvOptions.names())
    assert env <= set(RunOptions.names())


@pytest.mark.parametrize("options", [{"task_index": 3}, {"task_index": 0}, {"task_order": "shuffle"}])
@pytest.mark.parametrize("function", [collect, estimate])
def test_options_that_would_choose_other_tasks_are_refused(function: Any, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"task_index.*tasks='3'"):
        function("weather", "random", base_url="http://127.0.0.1:9", output=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_wrong_name_suggests_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match=r"collect\(\) has no option 'repeat'\. Did you mean 'repeats'\?"):
        collect("weather", "random", repeat=2)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="repeats"):
        asyncio.run(acollect("weather", "random", repeat=2))  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="repeats"):
        estimate("weather", "random", repeat=2)  # type: ignore[call-arg]


def test_collect_is_the_function_whatever_is_imported_first() -> None:
    for first in ("import openreward_gym.collect.engine", "from openreward_gym.collect import CollectionResult", "import sys"):
        code = f"{first}; import openreward_gym as o; import openreward_gym.collect.plan; assert callable(o.collect)"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert openreward_gym.collect is collect


def test_the_import_of_the_function_loads_no_engine() -> None:
    heavy = ["pydantic", "httpx", "openreward_gym.collect.engine", "openreward_gym.policies.policy", "openreward_gym.protocol"]
    code = f"import sys; from openreward_gym import collect; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_options_of_the_connection_reach_the_client(server_url: str, tmp_path: Path) -> None:
    result = collect(
        "echo",
        "random",
        base_url=server_url,
        output=tmp_path / "run",
        tasks="0",
        max_steps=1,
        transport="httpx",
        request_timeout_s=20.0,
        ping_interval_s=5.0,
        on_message="truncate",
        progress=False,
    )
    assert result.coverage.complete
