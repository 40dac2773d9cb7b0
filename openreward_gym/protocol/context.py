"""State that a client shares with its environments and their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

from openreward_gym.errors import (
    ConfigurationError,
    EnvironmentNotFoundError,
    OpenRewardGymError,
    ProtocolError,
    ServerError,
    SplitNotFoundError,
    TaskNotFoundError,
)
from openreward_gym.hiding import LONGEST_MESSAGE, Redactor, Secret
from openreward_gym.options import ClientOptions, RetryLimits
from openreward_gym.protocol.addresses import Addresses, resolve_addresses
from openreward_gym.protocol.api import ApiCall, EnvironmentPath, RetryingClient
from openreward_gym.protocol.concurrency import TimeoutClock
from openreward_gym.protocol.keepalive import KeepAlive
from openreward_gym.protocol.leases import Lease, LeaseRegistry
from openreward_gym.protocol.loop import background_loop
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.transport import ClientTransports
from openreward_gym.protocol.wire import (
    HTML_PAGE,
    AnswerLimits,
    dumps,
    read_environments,
    read_num_tasks,
    read_session_id,
    read_splits,
)
from openreward_gym.suggestions import nearest
from openreward_gym.types import Json, Split
from openreward_gym.urls import without_credentials
from openreward_gym.variables import ENVIRON

T = TypeVar("T")

MOST_NAMES = 100
"""Number of a server's names that a message lists."""


class ClientContext:
    """The state of one client: addresses, connections, sessions to delete, pings, and the server's answers about itself."""

    def __init__(self, options: ClientOptions, *, addresses: Addresses | None = None, api_key: Secret | None = None) -> None:
        # `addresses` and `api_key` replace those that the options name.
        self.options = options
        self.addresses = addresses or resolve_addresses(options.base_url, ENVIRON)
        self.transports = ClientTransports(options.transport)
        self.api = RetryingClient(
            self.addresses.sessions,
            partial(self.transports.get, self.addresses.sessions),
            api_key_env=options.api_key_env,
            api_key=api_key,
            limits=options.retry_limits or RetryLimits.from_environ(ENVIRON),
            request_timeout_s=options.request_timeout_s,
            idle_timeout_s=options.idle_timeout_s,
            answer_limits=AnswerLimits(options.max_nesting, options.max_blocks, options.max_images),
            max_answer_bytes=options.max_answer_bytes,
        )
        self.leases = LeaseRegistry(self.api, any_loop=self.transports.any_loop)
        self._environment_names: list[str] | None = None
        self._secrets_in_body: bool | None = None
        self._keep_alives: WeakKeyDictionary[asyncio.AbstractEventLoop, KeepAlive] = WeakKeyDictionary()
        self._clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, TimeoutClock] = WeakKeyDictionary()

    async def read(self, method: str, path: str) -> Json:
        """Return the answer of an endpoint of the server itself."""
        return await self.api.send(ApiCall(method, path, first_byte_timeout_s=self.options.request_timeout_s))

    async def version(self) -> Json:
        """Return the answer of `/version`. None for servers without it (`ors-sdk`)."""
        try:
            return await self.read("GET", "/version")
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    async def list_environments(self) -> list[str]:
        """Return the names of the server's environments, the default one first."""
        call = ApiCall("GET", "/list_environments", first_byte_timeout_s=self.options.request_timeout_s)
        self._environment_names = names = await self.api.read(call, read_environments)
        return list(names)

    async def environment_names(self, wanted: str) -> list[str] | None:
        """Return the server's environments, from the cache if it contains `wanted`. None if the server does not list them."""
        names = self._environment_names
        if names is not None and any(wanted in (name.lower(), f"/{name.lower()}") for name in names):
            return names
        try:
            return await self.list_environments()
        except ServerError as error:
            if error.status in (400, 404, 405):
                return None
            raise

    async def takes_secrets_in_body(self) -> bool:
        """Return True for servers of the first generation. They read secrets from a body, and have no `/version`."""
        if self._secrets_in_body is None:
            self._secrets_in_body = not self.addresses.hosted and await self.version() is None
        return self._secrets_in_body

    def keep_alive(self) -> KeepAlive:
        """Return the pings for a session of the running event loop, on the background loop if the transport allows it."""
        loop = background_loop() if self.transports.any_loop else asyncio.get_running_loop()
        return self._keep_alives.get(loop) or self._keep_alives.setdefault(loop, KeepAlive(loop, self.options.ping_interval_s))

    def clock(self) -> TimeoutClock:
        """Return the clock for time limits on the running event loop."""
        return self._clocks.setdefault(asyncio.get_running_loop(), TimeoutClock())


class EnvironmentContext:
    """One environment of a server, as its sessions see it. A variant of None is the default one."""

    def __init__(self, client: ClientContext, name: str, variant: str | None) -> None:
        self.client = client
        self.name = name
        self.variant = variant
        # A gateway recognises the deployment by it.
        self.headers = Headers({"X-Deployment": quote(name, safe="/ -._~")})
        self._path: EnvironmentPath | None = None

    async def path(self) -> EnvironmentPath:
        """Return the environment's address, which is requested once. Raise EnvironmentNotFoundError for an unknown one."""
        if self._path is None:
            # The list of names is in no frame of the error.
            located = await self._locate()
            if isinstance(located, EnvironmentNotFoundError):
                raise located
            self._path = located
        return self._path

    async def _locate(self) -> EnvironmentPath | EnvironmentNotFoundError:
        hosted, variant = self.client.addresses.hosted, self.variant
        names = None if hosted else await self.client.environment_names((variant or self.name).lower())
        if names is None:
            # Behind a gateway the name is a deployment, which a header selects, and its environments are its variants.
            segment = variant if variant is not None or "/" in self.name or hosted else self.name
            return EnvironmentPath(f"/{quote(segment.lower(), safe='')}" if segment else "", segment)
        candidates = [variant] if variant is not None else [self.name, self.name.rpartition("/")[2]]
        for candidate in candidates:
            if candidate.lower() in (name.lower() for name in names):
                return EnvironmentPath(f"/{quote(candidate.lower(), safe='')}", candidate.lower())
        shown = self.name if variant is None else f"{self.name} (variant {variant})"
        server = without_credentials(self.client.addresses.sessions)
        known = self._known(candidates[-1], names, "environments")
        return EnvironmentNotFoundError(f"the server at {server} has no environment {shown!r}: {known}")

    def _quoted(self, names: Iterable[str]) -> str:
        """Return the server's names of things for a message, without secrets, and not all of very many."""
        return self.client.api.redactor().quote(", ".join(islice(names, MOST_NAMES)), limit=2000) or "none"

    def _known(self, wanted: str, names: Sequence[str], plural: str) -> str:
        """Return the server's names of things, after the one that is closest to an unknown name."""
        near = nearest(wanted, names)
        the = "the" if near is None else f"did you mean {self.client.api.redactor().quote(near, limit=200)!r}? The"
        return f"{the} {plural} are {self._quoted(names)}"

    async def read(self, method: str, path: str, body: Json = None, *, reader: Callable[[Json], T]) -> T:
        """Return what `reader` makes of the answer of an endpoint that works without a task."""
        address = await self.path()
        encoded = None if body is None else dumps(body)
        timeout_s = self.client.options.request_timeout_s
        # A gateway requires a session for every request.
        lease = Lease(self.client.leases, self.headers) if self.client.addresses.hosted else None
        headers = self.headers
        try:
            if lease is not None:
                # It may bring up a machine, so it may take as long as one that is starting.
                total_s = max(timeout_s, self.client.api.limits.starting_s)
                headers = lease.headers_of(await self.create_session(lease, headers, b"{}", timeout_s, total_timeout_s=total_s))
            try:
                return await self.client.api.read(
                    ApiCall(method, path, address, encoded, headers, first_byte_timeout_s=timeout_s), reader
                )
            except ServerError as error:
                refusal = error
        finally:
            if lease is not None:
                await lease.release()
        raise await self.explain(refusal, body or {})

    async def splits(self) -> list[Split]:
        """Return the splits."""
        return await self.read("GET", "/splits", reader=read_splits)

    async def num_tasks(self, split: str) -> int:
        """Return the number of tasks of `split`."""
        return await self.read("POST", "/num_tasks", {"split": split}, reader=read_num_tasks)

    async def create_session(
        self,
        lease: Lease,
        headers: Mapping[str, str | Secret],
        body: bytes,
        timeout_s: float,
        secrets: tuple[Secret, ...] = (),
        total_timeout_s: float | None = None,
    ) -> str:
        """Create a session without an environment on the server. `lease` learns its id as soon as it arrives.

        Returns:
            The session's id: the one in the `end` event, or else the one of `task_id`.
        """
        stream = CallStream()
        lease.streams.append(stream)
        api = self.client.api
        call = ApiCall(
            "POST",
            "/create_session",
            body=body,
            headers=headers,
            first_byte_timeout_s=timeout_s,
            total_timeout_s=total_timeout_s,
            secrets=secrets,
        )
        try:
            await api.stream(call, stream)
        except ServerError as error:
            problem = await self.explain(error, {})
        else:
            redact = api.redactor(call.all_secrets())
            created = _created(stream, redact, api.answer_limits)
            stream.clear()
            if isinstance(created, str):
                if created not in stream.task_ids:
                    stream.task_ids.append(created)
                return created
            problem = created
        # A traceback may show this frame's variables.
        del call, body
        raise problem

    async def explain(self, refusal: ServerError, body: Mapping[str, Json]) -> OpenRewardGymError:
        """Return a specific error for the server's refusal of a request with `body`, or else the refusal itself."""
        status, detail, split, index = refusal.status, refusal.detail, body.get("split"), body.get("index")
        if status == 404 and "eployment not found" in detail:
            return EnvironmentNotFoundError(f"there is no environment {self.name!r} (names are case-sensitive): {detail}")
        if status == 404 and "unknown environment" in detail:
            return EnvironmentNotFoundError(f"the server has no environment {self.variant or self.name!r}: {detail}")
        if status == 400 and "not supported for this environment" in detail:
            return ConfigurationError(f"{self.name} serves tasks by index only. Use num_tasks and task. ({detail})")
        if status in (400, 422, 500) and split is not None:
            try:
                names = [known.name for known in await self.splits()]
                if split not in names:
                    return SplitNotFoundError(f"{self.name} has no split {split!r}: {self._known(split, names, 'splits')}")
                count = await self.num_tasks(split) if index is not None else 0
                if index is not None and index >= count:
                    return TaskNotFoundError(f"{self.name} has no task {index} in {split!r}: it has {count}, counted from 0")
            except OpenRewardGymError:
                # The server fails here, too: its first answer is the best explanation.
                return refusal
        if status in (400, 422):
            return ConfigurationError(f"the server refuses the request: {detail or refusal}")
        if status == 404 and (detail in ("", "Not Found") or detail.startswith(HTML_PAGE)):
            address = without_credentials(self.client.addresses.sessions)
            hint = f"Is there an Open Reward server at {address}, and is the path of the address right?"
            return ServerError(f"{refusal}. {hint}", status=status, detail=detail)
        return refusal


def _created(stream: CallStream, redact: Redactor, limits: AnswerLimits) -> str | OpenRewardGymError:
    """Return the id of the session that a finished stream reports, or the error."""
    if stream.error is not None:
        reason = redact.quote(stream.error, LONGEST_MESSAGE)
        return ServerError(f"the server could not create a session: {reason}", detail=reason)
    try:
        session_id = read_session_id(stream.result(), stream.task_id, limits)
    except ProtocolError as error:
        return redact.clean(error)
    if redact(session_id) != session_id:
        # The id is shown in logs and in the repr of the session.
        return ProtocolError("the server named the session after a secret of the request")
    return session_id
