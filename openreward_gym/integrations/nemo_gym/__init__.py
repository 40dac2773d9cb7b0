"""NeMo Gym collects rollouts on OpenReward environments, for evaluation and for training with NeMo RL.

`write_servers` writes an agent and a resources server where NeMo Gym looks for its servers, and `write_dataset` the rows:

    nemo_gym.write_servers(".", environment="weather", base_url="http://127.0.0.1:8080", output="runs/nemo")
    nemo_gym.write_dataset("data/train.jsonl", "weather", base_url="http://127.0.0.1:8080", split="train")

Then `gym env start` (`ng_run` before version 0.5) starts them beside a model's server, and `gym eval run` plays the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openreward_gym import jsonio
from openreward_gym.checks import integer, writable_file, writable_folder
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.importers.nemo_gym_rows import new_request
from openreward_gym.integrations.episode import Episodes
from openreward_gym.integrations.written_options import refuse_secrets
from openreward_gym.protocol import loop

__all__ = ["AGENT", "RESOURCES", "rows", "write_dataset", "write_servers"]

AGENT = "openreward_agent"
"""Name of the agent, in its configuration and in `agent_ref` of the rows."""
RESOURCES = "openreward_resources_server"
"""Name of the resources server in its configuration."""

_APP = """from openreward_gym.integrations.nemo_gym.servers import {name}

if __name__ == "__main__":
    {name}.run_webserver()
"""


def rows(
    environment: str, *, limit: int | None = None, tasks: Sequence[int] | None = None, agent: str = AGENT, **options: Any
) -> list[dict[str, Any]]:
    """Return a row per task: `responses_create_params` with the prompt and the tools, `agent_ref`, and the task.

    `openreward-gym collect --input` takes the same rows. A session is opened for each task, because the prompt is the session's.

    Args:
        environment: Name of the environment.
        limit: Largest number of tasks. None takes all.
        tasks: Indices of the tasks. None takes them from 0.
        agent: Name of the agent in NeMo Gym's configuration.
        **options: Options of `Episodes` for reaching the environment: `base_url`, `split`, ...

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.
        TransportError, ServerError, SessionLostError, ...: A session could not be opened.

    Example:
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url:
        ...     row = rows("weather", limit=1, base_url=base_url)[0]
        >>> row["agent_ref"]["name"], row["environment"], row["split"], row["task_index"]
        ('openreward_agent', 'weather', 'train', 0)
        >>> row["responses_create_params"]["tools"][0]["name"]
        'get_weather'
    """
    if "output" in options:
        raise ConfigurationError("output is an option of write_servers: the rows do not name a run")
    episodes = Episodes(environment, **options)

    def row(index: int, env: OpenRewardEnv[Any]) -> dict[str, Any]:
        return {
            "responses_create_params": new_request(env.messages, env.tools),
            "agent_ref": {"type": "responses_api_agents", "name": agent},
            "environment": episodes.name,
            "split": episodes.options.split,
            "task_index": index,
        }

    return loop.run(episodes.aread_tasks(row, limit, tasks=tasks))


def write_dataset(
    path: str | os.PathLike[str], *environments: str, limit: int | None = None, tasks: Sequence[int] | None = None, **options: Any
) -> int:
    """Write the JSONL file of rows that NeMo Gym plays, and return their number.

    Args:
        path: The file.
        environments: Names of the environments. Their rows follow each other.
        limit, tasks, **options: As for `rows`, for each of the environments.

    Raises:
        ConfigurationError: As `rows`; no environment.

    Example:
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url:
        ...     write_dataset("train.jsonl", "weather", base_url=base_url, split="train")
        5
    """
    if not environments:
        raise ConfigurationError("write_dataset needs the name of an environment")
    writable_file("the path", path)
    made = [row for name in environments for row in rows(name, limit=limit, tasks=tasks, **options)]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join(jsonio.dumps(row) + b"\n" for row in made))
    return len(made)


def write_servers(
    folder: str | os.PathLike[str],
    *,
    environment: str | None = None,
    base_url: str | None = None,
    output: str | os.PathLike[str] | None = None,
    max_steps: int | None = None,
    attempts: int = 3,
    model_server: str = "policy_model",
    requirement: str = "openreward-gym",
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the agent and the resources server into a folder, in the layout of NeMo Gym; return the path of the configuration.

    NeMo Gym looks for `resources_servers/openreward` and `responses_api_agents/openreward_agent` in the folder where it is
    started. The configuration is `resources_servers/openreward/configs/openreward.yaml`. NeMo Gym 0.7 and later reach an agent
    through an environment server: `openreward_environment.yaml` beside it has one, and names the other configuration.

    Args:
        folder: The folder.
        environment: Environment of rows that name none.
        base_url: URL of the environment's server. None takes `OPENREWARD_URL`, or the platform.
        output: Folder of the run in which the rollouts are recorded. None records nothing.
        max_steps: Largest number of the model's turns. None sets no limit beside the environment's.
        attempts: Largest number of attempts at a rollout that infrastructure spoils.
        model_server: Name of the model's server in NeMo Gym's configuration.
        requirement: The requirement of this package, for the environments of Python that NeMo Gym makes for its servers.
        options: Further options of `Episodes`. They must be JSON.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.

    Example:
        >>> print(write_servers("gym", environment="weather", base_url="http://127.0.0.1:8080").as_posix())
        gym/resources_servers/openreward/configs/openreward.yaml
    """
    writable_folder("folder", folder)
    further = dict(options or {})
    refuse_secrets({"base_url": base_url, **further}, "NeMo Gym's configuration is a file")
    Episodes(environment or "environment", base_url=base_url, **further)  # checks them
    try:
        jsonio.loads(jsonio.dumps(further, non_finite="error"))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the options of a configuration must be JSON: {error}") from error
    resources: dict[str, Any] = {
        "entrypoint": "app.py",
        "domain": "agent",
        "environment": environment,
        "base_url": base_url,
        "output": None if output is None else str(Path(output).absolute()),  # the server's own folder is another
        "options": further,
    }
    agent = {
        "entrypoint": "app.py",
        "resources_server": {"type": "resources_servers", "name": RESOURCES},
        "model_server": {"type": "responses_api_models", "name": model_server},
        "max_steps": max_steps,
        "attempts": integer(1)("attempts", attempts),
    }
    root = Path(folder)
    of_resources, of_agent = root / "resources_servers" / "openreward", root / "responses_api_agents" / AGENT
    for place, name in ((of_resources, "OpenRewardResourcesServer"), (of_agent, "OpenRewardAgent")):
        place.mkdir(parents=True, exist_ok=True)
        (place / "app.py").write_text(_APP.format(name=name), encoding="utf-8")
        (place / "requirements.txt").write_text(f"-e nemo-gym[dev] @ ../../\n{requirement}\n", encoding="utf-8")
    configuration = of_resources / "configs" / "openreward.yaml"
    configuration.parent.mkdir(exist_ok=True)
    _write_yaml(
        configuration,
        {RESOURCES: {"resources_servers": {"openreward": resources}}, AGENT: {"responses_api_agents": {AGENT: agent}}},
    )
    relay = {"entrypoint": "app.py", "agent_server": {"type": "responses_api_agents", "name": AGENT}}
    _write_yaml(
        configuration.with_name("openreward_environment.yaml"),
        {
            "config_paths": ["resources_servers/openreward/configs/openreward.yaml"],
            "openreward_environment_server": {"environment_servers": {"legacy_agent": relay}},
        },
    )
    return configuration


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    # JSON is YAML, and needs no further package.
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
