"""What all models behind an API share: keys by name, pace, retries, cost, and names for what goes wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import os
import random
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from openreward_gym.errors import AuthenticationError, ConfigurationError, ContextOverflowError, MissingExtraError, PolicyError
from openreward_gym.policies.base import Transcript
from openreward_gym.policies.pacing import Pace
from openreward_gym.policies.pricing import cost_usd, read_prices
from openreward_gym.types import AssistantMessage, Block, Json, Sampled, ToolCall, ToolSet

_OVERFLOW = re.compile(
    r"context_length_exceeded|maximum context length|context window|prompt is too long|input token count.*exceeds"
    r"|exceeds? the (model's )?maximum|too many (input )?tokens|reduce the length",
    re.IGNORECASE,
)
# The SDKs' own and their HTTP libraries' names of a connection that failed.
_NETWORK = re.compile("Connect|Timeout|Protocol|Network|Read|Write")
_PASSING = frozenset({408, 409, 425, 500, 502, 503, 504, 529})
NO_ARGUMENTS: Mapping[str, Json] = {"type": "object", "properties": {}}


class ModelPolicy:
    """A model behind an API as a policy. One object serves any number of episodes at once.

    Args:
        model: The model's name.
        url: The API's address; None for the provider's own.
        api_key_env: The environment variable that holds the key; None for the provider's usual one.
        prices: US dollars per million tokens, by model; see `pricing`.
        requests_per_minute, tokens_per_minute: Known limits; 429s are adapted to either way.
        timeout_s: Seconds a call may take.
        patience_s: Seconds from a call's first failure for which it is tried again.
        **sampling: Given to the API as they are (temperature, max_tokens, ...).

    Raises:
        MissingExtraError: The provider's SDK is not installed.
        ConfigurationError: The key is not set.
    """

    provider: ClassVar[str]
    sdk: ClassVar[str]
    key_env: ClassVar[str]

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        api_key_env: str | None = None,
        prices: Mapping[str, Any] | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout_s: float = 600.0,
        patience_s: float = 600.0,
        **sampling: Any,
    ) -> None:
        self.model = model
        self.url = url
        self.name = f"{self.provider}:{model}"
        self.sampling = sampling
        self._key_env = api_key_env or self.key_env
        self._prices = read_prices(prices)
        self._pace = Pace(requests_per_minute, tokens_per_minute)
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._client: Any = None
        self._client_loop: asyncio.AbstractEventLoop | None = None
        self._sdk = import_sdk(self.sdk)
        self._key()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how it plays; no key, no address."""
        return {"model": {"name": self.model, "provider": self.provider}, "sampling": dict(self.sampling)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    async def __call__(self, transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        """The model's next message.

        Raises:
            ContextOverflowError: The transcript no longer fits.
            PolicyError: The provider refused, or was not there for `patience_s`.
            AuthenticationError: It refuses the key.
        """
        request = self.request(transcript, tools)
        ends = None
        for attempt in range(1, 1000):
            await self._pace.turn()
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self.send(self._running_client(), request)
                return self._finished(self.read(answer), time.perf_counter() - begun)
            except Exception as error:  # SDKs raise their own and their HTTP library's
                problem = self._problem(error)
            now = time.monotonic()
            ends = now + self._patience_s if ends is None else ends
            wait_s = random.uniform(0.0, min(60.0, 0.5 * 2.0 ** min(attempt, 12)))
            wait_s = max(wait_s, getattr(problem, "retry_after_s", None) or 0.0)
            kind = getattr(problem, "kind", "")
            if kind not in ("rate_limited", "policy_unavailable") or now + wait_s > ends:
                # Raised out here, so that no traceback keeps the SDK's frames, whose variables hold the key.
                raise problem
            if kind == "rate_limited":
                self._pace.refused(getattr(problem, "retry_after_s", None))
            await asyncio.sleep(wait_s)
        raise PolicyError(f"{self.name} gave no answer", kind="policy_unavailable")

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._client_loop is asyncio.get_running_loop():
            await self.close_client(client)

    # What a provider says for itself

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        """The call's arguments."""
        raise TypeError(f"{type(self).__name__} must say what it asks")

    def make_client(self, key: str) -> Any:
        """The SDK's async client, without retries of its own."""
        raise TypeError(f"{type(self).__name__} must say whom it asks")

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        """Ask."""
        raise TypeError(f"{type(self).__name__} must say how it asks")

    def read(self, answer: Any) -> AssistantMessage:
        """The answer as a message."""
        raise TypeError(f"{type(self).__name__} must say what it was told")

    async def close_client(self, client: Any) -> None:
        await client.close()

    # Behind them

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip()
        if not key and self.url is None:
            raise ConfigurationError(f"{self.name} needs a key: set the environment variable {self._key_env}")
        # A local server wants none, and the SDKs want some.
        return key or "none"

    def _running_client(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client_loop is not loop:
            self._client, self._client_loop = self.make_client(self._key()), loop
        return self._client

    def _finished(self, message: AssistantMessage, seconds: float) -> AssistantMessage:
        """The message with its price and time, and with an id for every call."""
        sampled = message.sampled or Sampled()
        usage = sampled.usage
        self._pace.answered(0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0))
        cost = sampled.cost_usd
        if cost is None:
            cost = cost_usd(self._prices, self.model, usage)
        blocks: list[Block] = []
        for block in message.blocks:
            if isinstance(block, ToolCall) and not block.call_id:
                block = dataclasses.replace(block, call_id=f"call_{random.getrandbits(64):016x}")
            blocks.append(block)
        return AssistantMessage(blocks, sampled=dataclasses.replace(sampled, cost_usd=cost, duration_s=seconds))

    def _problem(self, error: Exception) -> Exception:
        """`error` as what it means, without the key."""
        status = _status_of(error)
        key = os.environ.get(self._key_env, "").strip()
        text = " ".join(str(error).split())
        text = f"{self.name}: {text.replace(key, '***') if key else text}"[:2000]
        retry_after_s = _retry_after(error)
        if status in (401, 403):
            return AuthenticationError(f"{text}. Check the environment variable {self._key_env}.", status=status)
        if status in (400, 413, 422) and _OVERFLOW.search(text):
            return ContextOverflowError(text, kind="context_overflow", status=status)
        if status == 429 and "insufficient_quota" not in text:
            return PolicyError(text, kind="rate_limited", status=status, retry_after_s=retry_after_s, delivery="delivered")
        if status is not None and status in _PASSING:
            return PolicyError(text, kind="policy_unavailable", status=status, retry_after_s=retry_after_s, delivery="delivered")
        if status is not None:
            return PolicyError(text, kind="policy_refused", status=status, delivery="delivered")
        name = type(error).__name__
        if isinstance(error, TimeoutError | OSError) or _NETWORK.search(name):
            return PolicyError(f"{text} ({name})", kind="policy_unavailable", delivery="possibly_delivered")
        return PolicyError(f"{text} ({name})", kind="policy_failed")


def import_sdk(name: str) -> Any:
    """A provider's SDK.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"this policy needs {name} ({error}): pip install 'openreward-gym[llm]'") from None


def _status_of(error: Exception) -> int | None:
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    return None


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        seconds = float(headers.get("retry-after"))  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
