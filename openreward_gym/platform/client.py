"""The client of the hosted platform's API: environments, runs and rollouts. It is sync, over the standard library."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from openreward_gym.errors import (
    ConfigurationError,
    OpenRewardGymError,
    ProtocolError,
    ServerError,
    ServerUnreachableError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.hiding import Redactor, Secret, check_secret, proxy_secrets, read_secret, secrets_of_url, with_evidence
from openreward_gym.options import MAX_ANSWER_BYTES, RetryLimits
from openreward_gym.protocol.addresses import DEFAULT_URL, platform_address
from openreward_gym.protocol.request import USER_AGENT
from openreward_gym.protocol.retry import Effect, decide_retry, failure_of
from openreward_gym.protocol.wire import loads, read_list, shape_error, status_error
from openreward_gym.types import Json
from openreward_gym.urls import without_credentials
from openreward_gym.variables import ENVIRON

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TaskDifficulty:
    """The results of models on one task, over all uploaded rollouts.

    Attributes:
        split: The task's split. None if the rollouts did not name it.
        variant: The environment's variant. None if the rollouts did not name it.
        index: The task's index. -1 if the rollouts did not name it.
        rollouts: Number of rollouts.
        mean_reward, min_reward, max_reward: Statistics of their rewards. None without rewards.
        response_chars: Percentiles of the models' output, in characters.

    Example:
        >>> TaskDifficulty("train", None, 3, 4, 0.5, 0.0, 1.0, {"p50": 120}).mean_reward
        0.5
    """

    split: str | None
    variant: str | None
    index: int
    rollouts: int
    mean_reward: float | None
    min_reward: float | None
    max_reward: float | None
    response_chars: Mapping[str, Json]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Returns redirects as errors, so that the API key is sent to no other address."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class Platform:
    """Calls the platform's API, from any thread.

    Every method raises AuthenticationError for 401 and 403, ServerError for other error statuses, TransportError if the
    connection fails, and ProtocolError for an answer of another form. Reading is retried; `post` is not.

    Args:
        base_url: The API's address, used as it is. None uses `OPENREWARD_API_URL`, or the `api.` host of `OPENREWARD_URL` or of
            the hosted platform.
        api_key_env: The environment variable that holds the API key. It is read once.
        api_key: The API key itself, which takes precedence over `api_key_env`.
        timeout_s: Seconds to wait for the server at each step of a request, and for the whole of its answer.
        retry_limits: Limits on retries.

    Raises:
        ConfigurationError: The address is not valid, or the API key that the hosted platform needs is missing.

    Example:
        >>> Platform("http://127.0.0.1:8080")
        Platform('http://127.0.0.1:8080')
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key_env: str = "OPENREWARD_API_KEY",
        api_key: Secret | None = None,
        timeout_s: float = 30.0,
        retry_limits: RetryLimits | None = None,
    ) -> None:
        self.base_url = platform_address(base_url, ENVIRON)
        key = read_secret(api_key_env, strip=True) if api_key is None else check_secret(api_key, "the api_key")
        if key is None and base_url is None and urlsplit(self.base_url).hostname == "api." + str(urlsplit(DEFAULT_URL).hostname):
            raise ConfigurationError(f"the platform needs an API key. Set {api_key_env}, or give the base_url of another server.")
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        self._secrets = [key] if key is not None else []
        self._timeout_s = timeout_s
        self._limits = retry_limits or RetryLimits()
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        # An error of the constructor may show an object that has no address yet.
        return f"Platform({without_credentials(getattr(self, 'base_url', ''))!r})"

    @property
    def secrets(self) -> list[Secret]:
        """The API key, to be hidden wherever it might be repeated; empty without one."""
        return list(self._secrets)

    def post(self, path: str, body: bytes) -> Json:
        """Send JSON and return the answer. None for an empty answer."""
        return self._send(path, body)

    def get(self, path: str, query: Mapping[str, str | int | None] | None = None) -> Json:
        """Return the answer of an endpoint. A parameter of None is left out of the query."""
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        target = path + ("?" + urlencode(parameters) if parameters else "")
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                return self._send(target)
            except (ServerError, TransportError) as error:
                failure, elapsed_s = failure_of(error), time.monotonic() - began
                decision = decide_retry(Effect.PLATFORM, failure, attempt=attempt, elapsed_s=elapsed_s, limits=self._limits)
                if decision.action != "retry":
                    raise
            time.sleep(decision.wait_s)

    def environment(self, name: str) -> Mapping[str, Json]:
        """Return the platform's data about the environment `owner/name`, such as its `id`."""
        return self._read(_object, _environment_path(name))

    def variants(self, name: str) -> list[Mapping[str, Json]]:
        """Return the variants of `owner/name`, each with its `name` and `id`."""
        return self._read(_objects, f"{_environment_path(name)}/variants")

    def environment_ids(self, environment: str, variant: str | None) -> tuple[str | None, str | None]:
        """Return the platform's ids of an environment and its variant. None for each that the platform does not know."""
        try:
            environment_id = self.environment(environment).get("id")
            variants = self.variants(environment) if variant else []
        except (ConfigurationError, ServerError) as error:
            # A name of another form is not the platform's.
            if isinstance(error, ServerError) and error.status != 404:
                raise
            return None, None
        variant_id = next((item.get("id") for item in variants if item.get("name") == variant), None)
        return _id_or_none(environment_id), _id_or_none(variant_id)

    def required_secrets(self, name: str) -> list[str]:
        """Return the names of the secrets that `owner/name` requires."""
        return self._read(_names_of_secrets, f"{_environment_path(name)}/required-secrets")

    def task_difficulty(
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
        """Return the difficulty of the tasks of `owner/name`. Each argument selects rollouts; None selects all."""
        query = {
            "variant": variant,
            "split": split,
            "model_name": model_name,
            "min_model_params": min_model_params,
            "max_model_params": max_model_params,
            "training_stage": training_stage,
        }
        rows = self._read(_rows, f"{_environment_path(name)}/task-difficulty", query)
        return [
            TaskDifficulty(
                split=row.get("split"),
                variant=row.get("variant"),
                index=row["task_index"] if isinstance(row.get("task_index"), int) else -1,
                rollouts=row["num_rollouts"] if isinstance(row.get("num_rollouts"), int) else 0,
                mean_reward=row.get("avg_reward"),
                min_reward=row.get("min_reward"),
                max_reward=row.get("max_reward"),
                response_chars=row.get("response_chars") or {},
            )
            for row in rows
        ]

    def runs(self, *, limit: int = 20, offset: int = 0, search: str | None = None) -> Mapping[str, Json]:
        """Return a page of the caller's runs: `runs` and their `total`."""
        return self._read(_object, "/v1/runs", {"limit": limit, "offset": offset, "search": search})

    def run(self, run_id: str) -> Mapping[str, Json]:
        """Return one run."""
        return self._read(_object, f"/v1/runs/{quote(run_id, safe='')}")

    def run_rollouts(self, run_id: str, *, limit: int = 100, offset: int = 0) -> Mapping[str, Json]:
        """Return a page of a run's rollouts: `rollouts` and their `total`."""
        return self._read(_object, f"/v1/runs/{quote(run_id, safe='')}/rollouts", {"limit": limit, "offset": offset})

    def _read(self, reader: Callable[[Json], T], path: str, query: Mapping[str, str | int | None] | None = None) -> T:
        """Return what `reader` makes of the answer of an endpoint."""
        answer = self.get(path, query)
        try:
            return reader(answer)
        except ProtocolError as error:
            problem = self._redactor().clean(error)
        # A traceback may show this frame's variables.
        del answer
        raise problem

    def _redactor(self) -> Redactor:
        return Redactor([*self._secrets, *secrets_of_url(self.base_url), *proxy_secrets()])

    def _send(self, target: str, body: bytes | None = None) -> Json:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.base_url + target, body, dict(headers))
        where = f"{request.get_method()} {without_credentials(request.full_url)}"
        # Outside of `except`: the error's frames would hold the request and the answer.
        answer = self._answer_to(request, where)
        if isinstance(answer, bytes):
            try:
                return loads(answer) if answer.strip() else None
            except ProtocolError:
                unread = ProtocolError(f"{where}: the answer is not JSON: ")
                answer = with_evidence(unread, answer, ". Is this the platform's API?")
        problem = self._redactor().clean(answer)
        del request, answer
        raise problem

    def _answer_to(self, request: urllib.request.Request, where: str) -> bytes | OpenRewardGymError:
        """Send a request and return its answer, or the error."""
        for secret in self._secrets:
            request.add_header("X-API-Key", secret.reveal())
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return _read(response, where, self._timeout_s)
        except ProtocolError as error:
            return error
        except urllib.error.HTTPError as error:
            with error:
                return _status_error(error, where, self._redactor())
        except urllib.error.URLError as error:
            return _transport_error(error.reason, where)
        except (OSError, http.client.HTTPException) as error:
            return _transport_error(error, where)


def _read(response: Any, where: str, timeout_s: float) -> bytes:
    """Return the body of a response, within limits of its size and of the time that all of it takes."""
    ends, pieces, size = time.monotonic() + timeout_s, list[bytes](), 0
    while piece := response.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise ProtocolError(f"{where}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > ends:
            raise TimeoutError
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)


def _environment_path(name: str) -> str:
    owner, slash, short = name.partition("/")
    if not slash or not owner or not short or "/" in short:
        raise ConfigurationError(f"the platform names environments 'owner/name', unlike {name!r}")
    return f"/v1/environments/{quote(owner, safe='')}/{quote(short, safe='')}"


def _object(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise shape_error("an object", got=value)
    return value


def _objects(value: Json) -> list[Mapping[str, Json]]:
    return [_object(entry) for entry in read_list(value, "a list")]


def _rows(value: Json) -> list[Mapping[str, Json]]:
    return _objects(_object(value).get("tasks"))


def _names_of_secrets(value: Json) -> list[str]:
    names = read_list(_object(value).get("secrets"), "a list of names of secrets")
    for name in names:
        if not isinstance(name, str):
            raise shape_error("a name of a secret", got=name)
    return names


def _id_or_none(value: Json) -> str | None:
    """Return an id, which is a string or an integer."""
    if not isinstance(value, str | int | None) or isinstance(value, bool):
        raise ProtocolError(f"expected an id, the server sent a {type(value).__name__}")
    return None if value is None else str(value)


def _status_error(error: urllib.error.HTTPError, where: str, redact: Redactor) -> ServerError:
    try:
        body = error.read(1 << 16)
    except (OSError, http.client.HTTPException):
        body = b""
    headers = {name.lower(): str(value) for name, value in error.headers.items()}
    return status_error(where, error.code, body, headers, redact)


def _transport_error(reason: object, where: str) -> TransportError:
    if isinstance(reason, TimeoutError):
        return TransportTimeoutError(f"{where}: the server did not answer in time")
    if isinstance(reason, ConnectionRefusedError):
        return ServerUnreachableError(f"{where}: no server answers there")
    return TransportError(f"{where}: {type(reason).__name__}: {reason}")
