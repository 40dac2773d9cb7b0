"""Base of the policies that call a model's API: keys by name, request pacing, retries, costs, and typed errors."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from openreward_gym.chat.failures import error_text
from openreward_gym.chat.history import ID_REFUSED, NINE_CHARACTERS, HistoryRules, ToolNames, receive_calls
from openreward_gym.errors import AuthenticationError, ConfigurationError, ContextOverflowError, MissingExtraError, PolicyError
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, Sampled, ToolSet, Usage

_OVERFLOW = re.compile(
    r"context_length_exceeded|maximum context length|context window|prompt is too long|input token count.*exceeds"
    r"|exceeds? the (model's )?maximum|too many (input )?tokens|reduce the length",
    re.IGNORECASE,
)
# Class names that the SDKs and their HTTP libraries give to connection errors.
_NETWORK = re.compile("Connect|Timeout|Protocol|Network|Read|Write")
_TRANSIENT = frozenset({408, 409, 425, 500, 502, 503, 504, 529})


class ModelPolicy:
    """A policy that calls a model's API. One object can play any number of episodes at once.

    Subclasses implement `request`, `make_client`, `send` and `read` for one provider.

    Args:
        model: Name of the model.
        url: URL of the API. None for the provider's own.
        api_key_env: Name of the environment variable that holds the key. None for the provider's usual one.
        prices: Prices in US dollars per million tokens, by model: `{"my-model": {"input": 1.0, "output": 4.0}}`.
        requests_per_minute, tokens_per_minute: Known rate limits. The policy also slows down after a response with status 429.
        timeout_s: Seconds that one request may take.
        patience_s: Seconds after a call's first failure during which it is retried.
        **sampling: Sampling parameters, passed to the API unchanged (temperature, max_tokens, ...).

    Raises:
        MissingExtraError: The provider's SDK is not installed.
        ConfigurationError: The key is not set.

    Example:
        >>> from openreward_gym.policies import resolve  # doctest: +SKIP
        >>> resolve("openai:Qwen/Qwen3-4B", url="http://127.0.0.1:8000/v1", temperature=0.7)  # doctest: +SKIP
        OpenAIPolicy('Qwen/Qwen3-4B')
    """

    provider: ClassVar[str]
    sdk: ClassVar[str]
    key_env: ClassVar[str]
    rules: HistoryRules = HistoryRules()
    """The names of tools and the ids of calls that the server takes."""

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
        self._prices = price_table(prices)
        self._pace = RequestPace(requests_per_minute, tokens_per_minute)
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._client: Any = None
        self._client_loop: asyncio.AbstractEventLoop | None = None
        try:
            self._sdk: Any = importlib.import_module(self.sdk)
        except ImportError as error:
            raise MissingExtraError(f"this policy needs {self.sdk} ({error}): pip install 'openreward-gym[llm]'") from None
        self._key()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide how the policy plays, without key and URL."""
        return {"model": {"name": self.model, "provider": self.provider}, "sampling": dict(self.sampling)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    async def __call__(self, transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        """Return the model's next message.

        Raises:
            ContextOverflowError: The transcript no longer fits into the context window.
            PolicyError: The provider refused the request, or was unavailable for `patience_s`.
            AuthenticationError: The provider refused the key.
        """
        rules, request = self.rules, self.request(transcript, tools)
        ends = None
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(self._pace.reserve())
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self.send(self._running_client(), request)
                message = self.read(answer)
                if message.ended != "error":
                    return self._finished(self._received(message, transcript, tools), time.perf_counter() - begun)
                problem: AuthenticationError | PolicyError = self._failure(error_text(message))
            except Exception as error:  # SDKs raise their own and their HTTP library's
                problem = self._typed_error(error)
            now = time.monotonic()
            ends = now + self._patience_s if ends is None else ends
            wait_s = random.uniform(0.0, min(60.0, 0.5 * 2.0 ** min(attempt, 12)))
            wait_s = max(wait_s, problem.retry_after_s or 0.0)
            kind = getattr(problem, "kind", "")
            if rules.call_id != NINE_CHARACTERS.call_id and ID_REFUSED.search(str(problem)):
                self._require_nine_characters()
                rules, request = self.rules, self.request(transcript, tools)
                continue
            if kind not in ("rate_limited", "policy_unavailable") or now + wait_s > ends:
                # Raised outside the except block, so that the traceback holds no SDK frames: their variables hold the key.
                raise problem
            if kind == "rate_limited":
                self._pace.refused(problem.retry_after_s)
            await asyncio.sleep(wait_s)

    async def aclose(self) -> None:
        """Close the connections. The next call opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._client_loop is asyncio.get_running_loop():
            await self.close_client(client)

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        """Return the arguments of the API call."""
        raise NotImplementedError(f"{type(self).__name__} must implement request()")

    def make_client(self, key: str) -> Any:
        """Return the SDK's async client, with the SDK's own retries switched off."""
        raise NotImplementedError(f"{type(self).__name__} must implement make_client()")

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        """Make the API call and return the SDK's response."""
        raise NotImplementedError(f"{type(self).__name__} must implement send()")

    def read(self, answer: Any) -> AssistantMessage:
        """Convert the SDK's response to a message."""
        raise NotImplementedError(f"{type(self).__name__} must implement read()")

    async def close_client(self, client: Any) -> None:
        """Close the SDK's client."""
        await client.close()

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip()
        if not key and self.url is None:
            raise ConfigurationError(f"{self.name} needs an API key: set the environment variable {self._key_env}")
        # A local server needs no key, but the SDKs insist on one.
        return key or "none"

    def _running_client(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client_loop is not loop:
            self._client, self._client_loop = self.make_client(self._key()), loop
        return self._client

    def names(self, tools: ToolSet) -> ToolNames:
        """Return the names under which the provider's servers get the tools."""
        return ToolNames(tools, self.rules)

    def _received(self, message: AssistantMessage, transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        """Return a message with the environment's names of the tools, and with an id of its own for each call."""
        return receive_calls(message, transcript, self.rules, self.names(tools))

    def _require_nine_characters(self) -> None:
        """Write all call ids with nine characters from now on: the server has refused others."""
        self.rules = dataclasses.replace(self.rules, call_id=NINE_CHARACTERS.call_id, any_call=True)

    def _finished(self, message: AssistantMessage, seconds: float) -> AssistantMessage:
        """Add the cost and the duration to a message."""
        sampled = message.sampled or Sampled()
        usage = sampled.usage
        self._pace.answered(0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0))
        cost = cost_usd(self._prices, self.model, usage) if sampled.cost_usd is None else sampled.cost_usd
        return message.replace(sampled=dataclasses.replace(sampled, cost_usd=cost, duration_s=seconds))

    def _failure(self, words: str) -> PolicyError:
        """Return the error of an answer without a turn of the model, such as the body of an error with status 200."""
        kind = "context_overflow" if _OVERFLOW.search(words) else "policy_unavailable"
        error_class = ContextOverflowError if kind == "context_overflow" else PolicyError
        return error_class(f"{self.name}: no answer: {words}"[:2000], kind=kind, delivery="delivered")

    def _typed_error(self, error: Exception) -> AuthenticationError | PolicyError:
        """Convert an SDK's exception to one of this package, and remove the key from its message."""
        codes = (getattr(error, name, None) for name in ("status_code", "code"))
        status = next((code for code in codes if isinstance(code, int)), None)
        key = os.environ.get(self._key_env, "").strip()
        text = " ".join(str(error).split())
        text = f"{self.name}: {text.replace(key, '***') if key else text}"[:2000]
        if status in (401, 403):
            return AuthenticationError(f"{text}. Check the environment variable {self._key_env}.", status=status)
        if status in (400, 413, 422) and _OVERFLOW.search(text):
            return ContextOverflowError(text, kind="context_overflow", status=status)
        if status is not None:
            kind = "policy_unavailable" if status in _TRANSIENT else "policy_refused"
            if status == 429 and "insufficient_quota" not in text:
                kind = "rate_limited"
            return PolicyError(text, kind=kind, status=status, retry_after_s=_retry_after(error), delivery="delivered")
        name = type(error).__name__
        if isinstance(error, TimeoutError | OSError) or _NETWORK.search(name):
            return PolicyError(f"{text} ({name})", kind="policy_unavailable", delivery="possibly_delivered")
        return PolicyError(f"{text} ({name})", kind="policy_failed")


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        seconds = float(headers.get("retry-after"))  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


class RequestPace:
    """Spaces requests to a provider so that they stay within its rate limits.

    After a 429 no request starts for as long as the provider asks, then requests start at half the rate. Each response raises the
    rate a little (additive increase, multiplicative decrease). A limit of None is not known. Tests replace `clock`.
    """

    FIRST_RATE = 2.0
    """Least requests per second, before halving, for a provider without a known limit after its first 429."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._limit = None if requests_per_minute is None else requests_per_minute / 60
        self.per_second = self._limit
        self._tokens_per_second = None if tokens_per_minute is None else tokens_per_minute / 60
        self._next = 0.0
        self._recent: list[float] = []

    def reserve(self) -> float:
        """Reserve the next start, and return the seconds until then."""
        now = self._clock()
        self._recent = [moment for moment in self._recent[-1000:] if now - moment < 10.0]
        self._recent.append(now)
        start = max(self._next, now)
        self._next = start if self.per_second is None else start + 1 / self.per_second
        return start - now

    def answered(self, tokens: int) -> None:
        """Note a response that used `tokens` tokens."""
        if self._tokens_per_second is not None:
            self._next = max(self._next, self._clock()) + tokens / self._tokens_per_second
        if self.per_second is not None:
            faster = self.per_second + 0.1
            self.per_second = faster if self._limit is None else min(faster, self._limit)

    def refused(self, retry_after_s: float | None) -> None:
        """Note a response with status 429."""
        observed = len(self._recent) / 10.0
        before = self.per_second if self.per_second is not None else max(observed, self.FIRST_RATE)
        self.per_second = max(before / 2, 0.05)
        self._next = max(self._next, self._clock() + (1.0 if retry_after_s is None else retry_after_s))


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price in US dollars per million tokens. `cached_input` None: cached tokens cost as much as others.

    Example:
        >>> Price(input=1.25, output=10.0, cached_input=0.125).output
        10.0
    """

    input: float
    output: float
    cached_input: float | None = None


PRICES: Mapping[str, Price] = {
    "gpt-5": Price(1.25, 10.0, 0.125),
    "gpt-5-mini": Price(0.25, 2.0, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "gpt-4.1": Price(2.0, 8.0, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4o": Price(2.5, 10.0, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "claude-sonnet-4": Price(3.0, 15.0, 0.3),
    "claude-opus-4": Price(15.0, 75.0, 1.5),
    "gemini-2.5-flash": Price(0.3, 2.5),
    "gemini-2.5-pro": Price(1.25, 10.0),
}
"""List prices of 2025, without discounts and surcharges, by model. Prices change and this table does not follow them: check
the providers' pages (platform.openai.com/docs/pricing, docs.claude.com, ai.google.dev/gemini-api/docs/pricing) and pass
`prices={...}` to override entries or to add models."""


def price_table(overrides: Mapping[str, Any] | None) -> dict[str, Price]:
    """Return `PRICES` with the user's entries: `{"model": {"input": 1.0, "output": 2.0, "cached_input": 0.1}}` or `Price`s."""
    table = dict(PRICES)
    for model, price in (overrides or {}).items():
        try:
            table[model] = price if isinstance(price, Price) else Price(**{name: float(value) for name, value in price.items()})
        except (TypeError, ValueError, AttributeError):
            raise ConfigurationError(
                f"prices[{model!r}] must be {{'input': ..., 'output': ...}} in US dollars per million tokens, not {price!r}"
            ) from None
    return table


def cost_usd(prices: Mapping[str, Price], model: str, usage: Usage | None) -> float | None:
    """Return the cost of a call in US dollars. None if the model's price or the number of tokens is unknown.

    A dated model name ("gpt-5-2025-08-07") has its family's price.
    """
    families = [name for name in prices if model in (name, f"{name}-latest") or model.startswith(f"{name}-2")]
    if not families or usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    price = prices[max(families, key=len)]
    cached = usage.cached_tokens or 0
    cached_price = price.input if price.cached_input is None else price.cached_input
    return ((usage.input_tokens - cached) * price.input + cached * cached_price + usage.output_tokens * price.output) / 1e6
