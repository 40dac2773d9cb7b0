"""`OpenReward` and `AsyncOpenReward`: the official client's entry points."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from openreward_gym.compat.addresses import ClientAddresses, held_addresses, is_local
from openreward_gym.compat.api.environments.environments import AsyncEnvironmentsAPI
from openreward_gym.compat.api.environments.sync import EnvironmentsAPI
from openreward_gym.compat.api.rollouts.rollout import RolloutAPI
from openreward_gym.compat.models import Config, RunInfo, send_loop_config
from openreward_gym.compat.official import official_module
from openreward_gym.compat.secrets import API_KEY_VARIABLE, SecretValue, held_key, key_text
from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.hiding import Secret, read_secret
from openreward_gym.protocol.addresses import DEFAULT_URL
from openreward_gym.urls import without_credentials

if TYPE_CHECKING:
    from openreward.api.sandboxes import AsyncSandboxesAPI, SandboxesAPI, SandboxSettings

OPENREWARD_API_KEY_ENV_VAR_NAME = API_KEY_VARIABLE
DEFAULT_BASE_URL = DEFAULT_URL


class _Client:
    """What both clients share. `key` is what `held_key` made of the key, `addresses` what `held_addresses` made of the URL."""

    _given_url: str | None
    base_url = ""
    session_base_url = ""

    def _begin(
        self,
        key: Secret | ConfigurationError | None,
        addresses: ClientAddresses | ConfigurationError,
        run_info: RunInfo | None,
        upload: bool | None,
    ) -> None:
        if isinstance(key, ConfigurationError):
            raise key
        if isinstance(addresses, ConfigurationError):
            raise addresses
        self.base_url = addresses.api
        self.session_base_url = addresses.sessions
        self._one_server = is_local(addresses.web)
        self._key = key
        self._upload = upload
        self._web_base_url = addresses.web
        self._run_info = run_info
        self._config: Config | None = None
        self._rollouts: RolloutAPI | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_credentials(self.session_base_url)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A key that was given is a `Secret`, which refuses to be pickled.
        return (_remade, (type(self), self._key, self._given_url, self._upload, self.run_info))

    @property
    def api_key(self) -> str:
        """The API key: the one that was given, or that of `OPENREWARD_API_KEY`."""
        return key_text(self._key)

    @property
    def run_info(self) -> RunInfo | None:
        """Facts about every rollout that the client records from now on."""
        return self._run_info

    @run_info.setter
    def run_info(self, value: RunInfo | None) -> None:
        self._run_info = value
        if self._rollouts is not None:
            self._rollouts.run_info = value

    @property
    def config(self) -> Config:
        """Settings of the upload. `rollout` takes them at its first use."""
        if self._config is None:
            key = self._key or read_secret(API_KEY_VARIABLE, strip=True)
            self._config = Config(10.0, send_loop_config(self.base_url, key))
        return self._config

    @property
    def rollout(self) -> RolloutAPI:
        """Factory of rollouts: `rollout.create(...)` begins one, `rollout.close()` writes and sends the rest."""
        if self._rollouts is None:
            upload, timeout_s = self.config.send_loop_config, self.config.shutdown_timeout
            self._rollouts = RolloutAPI(upload, timeout_s, self._web_base_url, self._run_info)
            if self._upload is not None:
                self._rollouts.use_platform(self._upload)
        return self._rollouts

    def _sandbox_facts(self) -> dict[str, Any]:
        return {"base_url": self.session_base_url, "api_key": self.api_key, "api_base_url": self.base_url}


class OpenReward(_Client):
    """The official client: `environments` to play, `rollout` to record.

    Args:
        api_key: The API key. None takes `OPENREWARD_API_KEY`. No repr, error, log, traceback or pickle of this package shows it.
        base_url: URL of the platform, whose `api.` and `sessions.` subdomains are used, or of one server by its IP address or as
            `localhost`. None takes `OPENREWARD_URL`, or the hosted platform. `OPENREWARD_API_URL` and `OPENREWARD_SESSION_URL`
            replace the subdomains.
        run_info: Facts about every rollout that is recorded (`RunInfo`).
        upload: Send rollouts to the platform. None sends them if there is a key. (Not a parameter of the official client.)

    Attributes:
        base_url: Base URL of the platform's API.
        session_base_url: Base URL of the sessions.

    Raises:
        ConfigurationError: (a ValueError) The key or the URL is not valid.

    Example:
        >>> client = OpenReward("sk-not-a-key", base_url="https://openreward.example")
        >>> client
        OpenReward('https://sessions.openreward.example')
        >>> client.environments.get("owner/name").deployment_name
        'owner/name'
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        run_info: RunInfo | None = None,
        *,
        upload: bool | None = None,
    ) -> None:
        key, addresses = held_key(api_key), held_addresses(base_url)
        self._given_url = None if isinstance(addresses, ConfigurationError) else base_url
        del api_key, base_url
        self._begin(key, addresses, run_info, upload)
        self._environments: EnvironmentsAPI | None = None

    @property
    def environments(self) -> EnvironmentsAPI:
        """Access to environments: `environments.get(name)`."""
        if self._environments is None:
            self._environments = EnvironmentsAPI(self.session_base_url, self._key, self.base_url)
            self._environments.asynchronous.one_server = self._one_server
        return self._environments

    def sandbox(
        self, settings: SandboxSettings, creation_timeout: int = 60 * 30, secrets: Mapping[str, SecretValue] | None = None
    ) -> SandboxesAPI:
        """Return the official SDK's sandbox, where the SDK is installed."""
        kind = _sandbox_class("SandboxesAPI")
        if isinstance(kind, MissingExtraError):
            del secrets  # no frame of the error holds them
            raise kind
        sandbox: SandboxesAPI = kind(
            settings=settings, creation_timeout=creation_timeout, secrets=secrets, **self._sandbox_facts()
        )
        return sandbox

    def close(self) -> None:
        """Delete the sessions that are still open, and close the connections. It may be called again."""
        if self._environments is not None:
            self._environments.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


class AsyncOpenReward(_Client):
    """The official client for async programs; see `OpenReward`. `await client.environments.aclose()` closes its connections.

    Args:
        api_key: The API key. None takes `OPENREWARD_API_KEY`.
        base_url: URL of the platform, or of one server. None takes `OPENREWARD_URL`, or the hosted platform.
        run_info: Facts about every rollout that is recorded (`RunInfo`).
        upload: Send rollouts to the platform. None sends them if there is a key. (Not a parameter of the official client.)

    Example:
        >>> AsyncOpenReward(base_url="http://127.0.0.1:8080").session_base_url
        'http://127.0.0.1:8080'
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        run_info: RunInfo | None = None,
        *,
        upload: bool | None = None,
    ) -> None:
        key, addresses = held_key(api_key), held_addresses(base_url)
        self._given_url = None if isinstance(addresses, ConfigurationError) else base_url
        del api_key, base_url
        self._begin(key, addresses, run_info, upload)
        self._environments: AsyncEnvironmentsAPI | None = None

    @property
    def environments(self) -> AsyncEnvironmentsAPI:
        """Access to environments: `environments.get(name)`."""
        if self._environments is None:
            self._environments = AsyncEnvironmentsAPI(self.session_base_url, self._key, self.base_url)
            self._environments.one_server = self._one_server
        return self._environments

    def sandbox(
        self, settings: SandboxSettings, creation_timeout: int = 60 * 30, secrets: Mapping[str, SecretValue] | None = None
    ) -> AsyncSandboxesAPI:
        """Return the official SDK's sandbox, where the SDK is installed."""
        kind = _sandbox_class("AsyncSandboxesAPI")
        if isinstance(kind, MissingExtraError):
            del secrets  # no frame of the error holds them
            raise kind
        sandbox: AsyncSandboxesAPI = kind(
            settings=settings, creation_timeout=creation_timeout, secrets=secrets, **self._sandbox_facts()
        )
        return sandbox


def _sandbox_class(name: str) -> Any:
    """Return a class of the SDK, or the error if the SDK is not installed."""
    try:
        return getattr(official_module("openreward.api.sandboxes.client", "a sandbox"), name)
    except MissingExtraError as error:
        return error


def _remade(
    cls: type[OpenReward], api_key: Any, base_url: str | None, upload: bool | None, run_info: RunInfo | None
) -> OpenReward:
    return cls(api_key, base_url, run_info, upload=upload)
