"""OpenReward environments as OpenEnv environments, and OpenEnv environments as OpenReward environments.

    app = openenv.app("weather", base_url="http://127.0.0.1:8080", output="runs/openenv")      # uvicorn my_file:app

serves an OpenReward environment to OpenEnv's clients and to the trainers that use them. A session of OpenEnv is an episode; with
`output` it is recorded as by `collect`. In the other direction,

    env = gym.make("OpenReward-v0", environment=openenv.environment("http://127.0.0.1:8000"))

plays the environment of an OpenEnv server, with `collect`, recording and exports as any other.

A failure of infrastructure is an error in both protocols, and never an observation with a reward of 0.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from openreward_gym.errors import MissingExtraError
from openreward_gym.integrations.episode import EpisodeOptions
from openreward_gym.suggestions import suggests_options

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["app", "environment"]

MAX_SESSIONS = 256
"""Number of sessions that may be open at the same time by default."""


def app(environment: str | type[Any], *, max_sessions: int = MAX_SESSIONS, **options: Unpack[EpisodeOptions]) -> FastAPI:
    """Return the application of an OpenEnv server for an OpenReward environment. Any ASGI server runs it.

    Actions of a step are `{"type": "call_tool", "tool_name": ..., "arguments": {...}}`, `{"type": "list_tools"}`, and
    `{"type": "message", "message": ...}` with a whole message of the model: text, in which tool calls are found, or a message in
    OpenAI's format. `reset` takes a `seed`, an `index` or `task_index` with a `split`, or a `task_spec`; and `step`, `group` and
    `sample` for the record.

    Args:
        environment: Name of the environment, or a class to play in this process.
        max_sessions: Number of sessions that may be open at the same time.
        **options: The options of `Episodes`: `base_url`, `split`, `output`, `max_steps`, ...

    Raises:
        ConfigurationError: An option is wrong.
        MissingExtraError: OpenEnv is not installed.

    Example:
        app = openenv.app("weather", base_url="http://127.0.0.1:8080", max_steps=8)
        uvicorn.run(app, port=8000)
    """
    made: FastAPI = _module("server").make_app(environment, max_sessions=max_sessions, **options)
    return made


@suggests_options
def environment(
    base_url: str,
    *,
    name: str | None = None,
    seeds: Mapping[str, int] | None = None,
    prompt: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> type[Any]:
    """Return an OpenReward environment class that plays the environment of an OpenEnv server.

    It is played in this process (`gym.make("OpenReward-v0", environment=...)`), or served (`serve.local`, `serve.app`). The tools
    are those that the server lists; an environment without tools has one, `step`, which takes an action of its own schema. The
    tasks are those of the server; one without tasks has seeds.

    Args:
        base_url: URL of the OpenEnv server. It is asked once, for its tools and tasks.
        name: Name of the environment. None takes the server's own.
        seeds: Number of seeds of each split, for a server without tasks. None for 1000 train tasks and 100 test tasks.
        prompt: Instructions before the first observation. None takes the server's description.
        headers: HTTP headers of every connection, such as an authorization.
        timeout_s: Seconds to wait for a connection, and for an answer.

    Raises:
        TransportError: The server cannot be reached.
        ProtocolError: It does not answer as an OpenEnv server.
        MissingExtraError: OpenEnv or the `openreward` SDK is not installed.

    Example:
        counter = openenv.environment("http://127.0.0.1:8000", seeds={"train": 100})
        env = gym.make("OpenReward-v0", environment=counter)
    """
    made: type[Any] = _module("client").make_class(base_url, name, seeds, prompt, headers, timeout_s)
    return made


def _module(name: str) -> Any:
    try:
        importlib.import_module("openenv.core")
    except ImportError:
        raise MissingExtraError("OpenEnv's servers and clients need its library: pip install 'openreward-gym[openenv]'") from None
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != "openreward":
            raise
        raise MissingExtraError("playing an OpenEnv environment needs the SDK: pip install 'openreward-gym[server]'") from None
