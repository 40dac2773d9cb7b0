"""How a session comes to be: a session asked for, an environment made on it exactly once, all of it noted in a lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, OutcomeUnknownError, ServerError, SessionLostError
from openreward_gym.protocol.exchange import Ask
from openreward_gym.protocol.lifetime import Lease
from openreward_gym.protocol.retry import Effect
from openreward_gym.protocol.secrets import allowed_domains, read_secrets, secrets_header
from openreward_gym.protocol.wire import Secret, dumps
from openreward_gym.types import Json

if TYPE_CHECKING:
    from openreward_gym.protocol.environment import RemoteEnvironment

__all__ = ["Opening", "SessionPlan", "ping_of"]


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What `RemoteEnvironment.session` was asked for. Names of environment variables, no secrets."""

    split: str | None
    index: int | None
    task_spec: Mapping[str, Json] | None
    toolset: str | None
    secrets_env: Mapping[str, str]
    secret_domains: Mapping[str, tuple[str, ...]]
    env_overrides: Mapping[str, str] = field(repr=False)
    open_timeout_s: float
    step_timeout_s: float | None
    episode_timeout_s: float | None


class Opening:
    """One opening of a session, under `lease`, which is released by whoever began it.

    Attributes:
        secrets: What the session was given; no error may repeat it.
        abandoned: Set by the owner when nobody waits for the session any more: then no further step is begun.
    """

    def __init__(self, environment: RemoteEnvironment, plan: SessionPlan, lease: Lease) -> None:
        self.secrets: tuple[Secret, ...] = ()
        self.abandoned = False
        self._environment = environment
        self._exchange = environment.client.exchange
        self._plan = plan
        self._lease = lease

    async def run(self) -> str:
        """Open, and return the session's id."""
        plan, client = self._plan, self._environment.client
        place = await self._environment.place()
        secrets = read_secrets(plan.secrets_env, self._exchange.api_key())
        self.secrets = tuple(secrets.values())
        headers: Mapping[str, str | Secret] = self._environment.headers
        task: dict[str, Json] = {"split": plan.split, "index": plan.index}
        if plan.task_spec is not None:
            task = {"task_spec": plan.task_spec}
        if place.env_name is not None:
            task["env_name"] = place.env_name
        if plan.toolset is not None:
            task["toolset_name"] = plan.toolset
        if secrets:
            domains = allowed_domains(list(secrets), plan.secret_domains, client.addresses)
            headers = {**headers, "X-Secrets": secrets_header(secrets, domains)}
            if await client.takes_secrets_in_body():
                task["secrets"] = secrets
        return await self._create(headers, task)

    async def _create(self, headers: Mapping[str, str | Secret], task: Mapping[str, Json]) -> str:
        """A session with its environment made on it, once."""
        plan, lease = self._plan, self._lease
        overrides = _encoded({"env": dict(plan.env_overrides)} if plan.env_overrides else {}, "env_overrides")
        for _ in range(self._exchange.limits.attempts):
            session_id = await self._environment.create_session(lease, headers, overrides, plan.open_timeout_s, self.secrets)
            lease.creating = session_id
            try:
                await self._make_environment(session_id, headers, task)
                return session_id
            except OutcomeUnknownError as error:
                problem: OpenRewardGymError = error
            finally:
                lease.creating = None
            if self.abandoned:
                break
            # The answer was lost, and asking again could make two environments on one session. Whether the session is there
            # tells whether the request arrived; where it did not, a new session is the safe way.
            try:
                await self._exchange.ask(ping_of(lease.headers_of(session_id), self._environment.client.request_timeout_s))
                return session_id
            except (SessionLostError, ServerError):
                pass
        raise problem

    async def _make_environment(self, session_id: str, headers: Mapping[str, str | Secret], task: Mapping[str, Json]) -> None:
        ask = Ask(
            "POST",
            "/create",
            body=_encoded(task, "the task"),
            headers={**headers, "X-Session-ID": session_id} if self.secrets else self._lease.headers_of(session_id),
            effect=Effect.ONCE,
            # Not given up before the opening is: an environment that is made after that would be nobody's.
            first_byte_timeout_s=None,
            secrets=self.secrets,
        )
        try:
            await self._exchange.ask(ask)
        except ServerError as error:
            refused = error
        else:
            return
        raise await self._environment.explained(refused, task)


def ping_of(headers: Mapping[str, str | Secret], patience_s: float) -> Ask:
    """The ping of the session that `headers` name."""
    return Ask("POST", "/ping", headers=headers, session=True, first_byte_timeout_s=patience_s)


def _encoded(value: Mapping[str, Json], what: str) -> bytes:
    try:
        return dumps(value)
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise ConfigurationError(f"{what} is not JSON: {problem}")
