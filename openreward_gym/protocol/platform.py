"""The platform's own endpoints: what it knows about environments and about runs that were uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.exchange import Ask
from openreward_gym.protocol.retry import Effect
from openreward_gym.protocol.wire import expected
from openreward_gym.types import Json

if TYPE_CHECKING:
    from openreward_gym.protocol.exchange import Exchange

__all__ = ["Platform", "TaskDifficulty"]


@dataclass(frozen=True, slots=True)
class TaskDifficulty:
    """How models did on one task, over all rollouts that were uploaded.

    Attributes:
        split: The task's split; None where the rollouts did not say.
        variant: The environment's variant; None likewise.
        index: The task's index.
        rollouts: How many rollouts there are.
        mean_reward, min_reward, max_reward: Over them; None where there is no reward.
        response_chars: How much models wrote, as percentiles of characters.
    """

    split: str | None
    variant: str | None
    index: int
    rollouts: int
    mean_reward: float | None
    min_reward: float | None
    max_reward: float | None
    response_chars: Mapping[str, Json]


class Platform:
    """Reads the platform's `/v1` endpoints. Made by a client, at `client.platform`.

    Every method raises ServerError where the platform says no, and TransportError where it does not answer.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def environment(self, name: str) -> Mapping[str, Json]:
        """What the platform knows about the environment `owner/name`; `id` among it."""
        return _object(await self._get(_environment_path(name)))

    async def environment_id(self, name: str) -> str | None:
        """The id of the environment `owner/name`, by which rollouts name it; None where it has none."""
        identity = (await self.environment(name)).get("id")
        return None if identity is None else str(identity)

    async def variants(self, name: str) -> list[Mapping[str, Json]]:
        """The variants of `owner/name`, each with its `name` and `id`."""
        return _objects(await self._get(f"{_environment_path(name)}/variants"))

    async def required_secrets(self, name: str) -> list[str]:
        """The names of the secrets that `owner/name` asks for."""
        answer = _object(await self._get(f"{_environment_path(name)}/required-secrets")).get("secrets")
        if not isinstance(answer, list):
            raise expected("a list of secrets' names", got=answer)
        return [str(secret) for secret in answer]

    async def task_difficulty(
        self,
        name: str,
        *,
        variant: str | None = None,
        split: str | None = None,
        model_name: str | None = None,
        min_model_params: int | None = None,
        max_model_params: int | None = None,
        training_stage: str | None = None,
    ) -> list[TaskDifficulty]:
        """How hard the tasks of `owner/name` were so far. Each argument narrows it; None does not."""
        query = {
            "variant": variant,
            "split": split,
            "model_name": model_name,
            "min_model_params": min_model_params,
            "max_model_params": max_model_params,
            "training_stage": training_stage,
        }
        answer = _object(await self._get(f"{_environment_path(name)}/task-difficulty", query))
        return [
            TaskDifficulty(
                split=row.get("split"),
                variant=row.get("variant"),
                index=int(row["task_index"]) if isinstance(row.get("task_index"), int) else -1,
                rollouts=int(row.get("num_rollouts") or 0),
                mean_reward=row.get("avg_reward"),
                min_reward=row.get("min_reward"),
                max_reward=row.get("max_reward"),
                response_chars=row.get("response_chars") or {},
            )
            for row in _objects(answer.get("tasks"))
        ]

    async def runs(self, *, limit: int = 20, offset: int = 0, search: str | None = None) -> Mapping[str, Json]:
        """A page of the caller's runs: `runs` and their `total`."""
        return _object(await self._get("/v1/runs", {"limit": limit, "offset": offset, "search": search}))

    async def run(self, run_id: str) -> Mapping[str, Json]:
        """One run."""
        return _object(await self._get(f"/v1/runs/{quote(run_id, safe='')}"))

    async def run_rollouts(self, run_id: str, *, limit: int = 100, offset: int = 0) -> Mapping[str, Json]:
        """A page of a run's rollouts: `rollouts` and their `total`."""
        return _object(await self._get(f"/v1/runs/{quote(run_id, safe='')}/rollouts", {"limit": limit, "offset": offset}))

    async def _get(self, path: str, query: Mapping[str, str | int | None] | None = None) -> Json:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._exchange.ask(Ask("GET", f"{path}?{urlencode(given)}" if given else path, effect=Effect.PLATFORM))


def _environment_path(name: str) -> str:
    owner, slash, short = name.partition("/")
    if not slash or not owner or not short or "/" in short:
        raise ConfigurationError(f"the platform knows environments as 'owner/name', not as {name!r}")
    return f"/v1/environments/{quote(owner, safe='')}/{quote(short, safe='')}"


def _object(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise expected("an object", got=value)
    return value


def _objects(value: Json) -> list[Mapping[str, Json]]:
    if not isinstance(value, list):
        raise expected("a list", got=value)
    return [_object(entry) for entry in value]
