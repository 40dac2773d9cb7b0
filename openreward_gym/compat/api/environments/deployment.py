"""An environment as the official client addresses it: a deployment, whose environments are its variants."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from openreward_gym.compat.secrets import API_KEY_VARIABLE
from openreward_gym.errors import OpenRewardGymError, ProtocolError, ServerError
from openreward_gym.hiding import Secret
from openreward_gym.options import ClientOptions
from openreward_gym.protocol import wire
from openreward_gym.protocol.addresses import Addresses
from openreward_gym.protocol.api import ApiCall, EnvironmentPath
from openreward_gym.protocol.context import ClientContext, EnvironmentContext
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.session import Session
from openreward_gym.types import Block, Json, Message

T = TypeVar("T")


class DeploymentClient(ClientContext):
    """The state of a client of one server, which is addressed as a gateway, as the official client does it.

    Each request has a session and names the deployment.

    Args:
        base_url: The server's address.
        api_base_url: Base URL of the platform's API.
        api_key: The key. None for that of `OPENREWARD_API_KEY`.
        one_server: The server is no gateway: it may be of the first generation, which reads secrets from a body.
    """

    def __init__(self, base_url: str, api_base_url: str | None, api_key: Secret | None, *, one_server: bool) -> None:
        addresses = Addresses(base_url, api_base_url or base_url, hosted=True)
        super().__init__(ClientOptions(api_key_env=API_KEY_VARIABLE), addresses=addresses, api_key=api_key)
        self._one_server = one_server

    async def takes_secrets_in_body(self) -> bool:
        """Return True for servers of the first generation, which have no `/version`."""
        if self._secrets_in_body is None:
            self._secrets_in_body = self._one_server and await self.version() is None
        return self._secrets_in_body


class Deployment(EnvironmentContext):
    """An environment by the name of its deployment.

    Args:
        client: The client.
        name: The deployment: `name` or `owner/name`.
        variant: One of its environments. None for its default one.
        listed: Ask the server for its environments, and take the one of this name if it has it. A gateway does not list them.
    """

    def __init__(self, client: ClientContext, name: str, variant: str | None, *, listed: bool) -> None:
        super().__init__(client, name, variant)
        self._listed = listed

    async def _locate(self) -> EnvironmentPath:
        segment = self.variant or await self._listed_name()
        return EnvironmentPath(f"/{quote(segment.lower(), safe='')}", segment.lower()) if segment else EnvironmentPath()

    async def _listed_name(self) -> str | None:
        if not self._listed:
            return None
        try:
            names = [name.lower() for name in await self.client.list_environments()]
        except (ServerError, ProtocolError):
            return None
        candidates = (self.name.lower(), self.name.lower().rpartition("/")[2])
        return next((candidate for candidate in candidates if candidate in names), None)

    async def explain(self, refusal: ServerError, body: Mapping[str, Json]) -> OpenRewardGymError:
        """Return the specific error for a refusal, with the refusal's `status` and `detail`."""
        explained = await super().explain(refusal, body)
        vars(explained).update(status=refusal.status, detail=refusal.detail)
        return explained

    async def read_page(self, path: str, body: Mapping[str, Json]) -> tuple[str, list[dict[str, Json]]]:
        """Return the server's name of the environment and the tasks in the answer of `/tasks` or `/task_range`."""
        return await self.read("POST", path, dict(body), reader=self._named(wire.read_tasks))

    async def read_one(self, split: str, index: int) -> tuple[str, dict[str, Json]]:
        """Return the server's name of the environment, and a task."""
        return await self.read("POST", "/task", {"split": split, "index": index}, reader=self._named(wire.read_task))

    def _named(self, reader: Callable[[Json], T]) -> Callable[[Json], tuple[str, T]]:
        def read(value: Json) -> tuple[str, T]:
            name = wire.field_of(value, "env_name")
            return name if isinstance(name, str) else self.variant or self.name.rpartition("/")[2], reader(value)

        return read


class DeploymentSession(Session):
    """A session that requests the prompt, the conversation and the tools whenever it is asked, as the official client does."""

    async def _create_environment(self, own: Headers, shared: Mapping[str, str | Secret], body: Mapping[str, Json]) -> None:
        # A task names its environment, which need not be the one that the session was asked of.
        named = self._task.get("env_name")
        await super()._create_environment(own, shared, {**body, "env_name": named} if named else body)

    async def version(self) -> Json:
        """Return the answer of `/version`."""
        self._ensure_usable()
        timeout_s = self._client.options.request_timeout_s
        return await self._api.send(
            ApiCall("GET", "/version", headers=self._headers, session=True, optional=True, first_byte_timeout_s=timeout_s)
        )

    async def _once(self, name: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._ensure_usable()
        return await read()

    async def _read_prompt(self) -> tuple[Block, ...]:
        return await self._api.read(await self._make_call("GET", "/prompt"), self._api.read_blocks)

    async def _read_messages(self) -> tuple[Message, ...]:
        try:
            return await self._api.read(await self._make_call("GET", "/messages", optional=True), self._api.read_messages)
        except ServerError as error:
            if error.status != 404:
                raise
        return (Message("user", await self.prompt()),)
