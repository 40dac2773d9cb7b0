"""Base of the policies that call a model's API: keys by name, request pacing, retries, costs, and typed errors."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import os
import random
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from openreward_gym.chat.failures import error_of, failure_words, has_content, kind_of_failure, withheld
from openreward_gym.chat.history import ID_REFUSED, NINE_CHARACTERS, HistoryRules, ToolNames, receive_calls
from openreward_gym.chat.plain import plain
from openreward_gym.chat.wording import FailureKind
from openreward_gym.checks import number
from openreward_gym.credentials import credentials_of, replace_texts, revealed, sealed
from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    ContextOverflowError,
    MessageError,
    MissingExtraError,
    PolicyError,
)
from openreward_gym.hiding import read_secret
from openreward_gym.policies.parameters import unsupported
from openreward_gym.policies.policy import Transcript
from openreward_gym.policies.sdk_errors import broken_exchange, error_response, retry_after_s
from openreward_gym.redaction import encodings_of
from openreward_gym.retrying import note_retry
from openreward_gym.suggestions import nearest
from openreward_gym.types import AssistantMessage, Json, Sampled, ToolSet, Usage
from openreward_gym.urls import bare_url, check_url, password_of

# How an answer without content may end. Another one without content is no answer.
_EMPTY_ENDINGS = frozenset({"content_filter", "refusal", "pause", "malformed", "context_overflow", "length"})
_NOTHING = "the answer is empty: no text, no reasoning, no call"
_SHORTEST = 6
"""Characters of the shortest credential that is hidden in words of others."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RETRIED = ("rate_limited", "policy_unavailable")


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
        ConfigurationError: The key is not set, `url` is not a URL, or an option has a wrong value.

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
    token_limits: ClassVar[tuple[str, ...]] = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    """The sampling parameters that limit the tokens of an answer, of which only one is sent."""

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
        check_url("the model's URL", url)
        for option, limit in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            number(optional=True)(option, limit)
        if sampling.get("stream"):
            raise ConfigurationError("stream must be left out: a policy reads whole answers")
        _check_headers(sampling.get("extra_headers"))
        self.model = model
        self.url = url
        self.name = f"{self.provider}:{model}"
        self.sampling = sampling
        self._key_env = api_key_env or self.key_env
        self._prices = price_table(prices)
        self._pace = RequestPace(requests_per_minute, tokens_per_minute)
        self._timeout_s = number()("timeout_s", timeout_s)
        self._patience_s = number(zero=True)("patience_s", patience_s)
        self._client: Any = None
        self._client_loop: asyncio.AbstractEventLoop | None = None
        self._base: ModelPolicy | None = None  # of a policy with other parameters: the one whose connections it uses
        try:
            self._sdk: Any = importlib.import_module(self.sdk)
        except ImportError as error:
            raise MissingExtraError(f"this policy needs {self.sdk} ({error}): pip install 'openreward-gym[llm]'") from None
        self._key()
        known = self.parameters()
        for name in sampling:
            if known and name not in known:
                advice = "Fields that only this server knows go into extra_body={...}." if "extra_body" in known else ""
                near = nearest(name, [*known, *inspect.signature(ModelPolicy).parameters])
                hint = f"Did you mean {near!r}? " if near else ""
                raise ConfigurationError(f"{self.name} has no option {name!r}. {hint}{advice}".rstrip())

    def parameters(self) -> Collection[str]:
        """Return the names of the sampling parameters that the provider's SDK takes; empty where it takes any."""
        return ()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide how the policy plays, without key and URL."""
        return {"model": {"name": self.model, "provider": self.provider}, "sampling": dict(self.sampling)}

    @property
    def key_variable(self) -> str:
        """The name of the environment variable that holds the API key."""
        return self._key_env

    @property
    def address(self) -> str:
        """The address of the API, for messages: without credentials and query."""
        url = self.url or str(getattr(self._client, "base_url", ""))
        return bare_url(url) if url else f"the API of {self.provider}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    def with_parameters(self, parameters: Mapping[str, Json]) -> Self:
        """Return this policy with parameters of a request, in the names of OpenAI's Responses API.

        It uses the connections and the rate limits of this one. A parameter that this policy has by an option keeps its value.

        Raises:
            ConfigurationError: The provider's API has nothing for a parameter.

        Example:
            >>> from openreward_gym.policies import resolve  # doctest: +SKIP
            >>> policy = resolve("anthropic:claude-sonnet-4-5", temperature=0.2)  # doctest: +SKIP
            >>> policy.with_parameters({"temperature": 1.0, "max_output_tokens": 500}).sampling  # doctest: +SKIP
            {'max_tokens': 500, 'temperature': 0.2}
        """
        sampling = self.translate(parameters)
        if set(self.sampling) & set(self.token_limits):
            sampling = {name: value for name, value in sampling.items() if name not in self.token_limits}
        for name, value in self.sampling.items():
            before = sampling.get(name) if name == "extra_body" else None
            both = isinstance(before, Mapping) and isinstance(value, Mapping)
            sampling[name] = {**dict(before or {}), **value} if both else value
        # Not `copy`, which would leave out the connections, as a pickle does.
        other = object.__new__(type(self))
        vars(other).update({**vars(self), "sampling": sampling, "_base": self._base or self})
        return other

    def translate(self, parameters: Mapping[str, Json]) -> dict[str, Any]:
        """Return parameters of OpenAI's Responses API as this API's; raise ConfigurationError for one without a counterpart."""
        for name, value in parameters.items():
            raise unsupported(name, value, self.name, "it translates no parameters")
        return {}

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
                result = self._judged(answer)
            except Exception as error:  # SDKs raise their own and their HTTP library's
                result = self._of_exception(error)
            if isinstance(result, AssistantMessage):
                return self._finished(self._received(result, transcript, tools), time.perf_counter() - begun)
            now = time.monotonic()
            ends = now + self._patience_s if ends is None else ends
            wait_s = random.uniform(0.0, min(60.0, 0.5 * 2.0 ** min(attempt, 12)))
            wait_s = max(wait_s, result.retry_after_s or 0.0)
            kind = getattr(result, "kind", "")
            if rules.call_id != NINE_CHARACTERS.call_id and ID_REFUSED.search(str(result)):
                self._require_nine_characters()
                rules, request = self.rules, self.request(transcript, tools)
                continue
            if kind not in _RETRIED or now + wait_s > ends:
                # Raised outside the except block, so that the traceback holds no SDK frames: their variables hold the key.
                raise result
            if kind == "rate_limited":
                self._pace.refused(result.retry_after_s)
            note_retry(result, wait_s)
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
        key = read_secret(self._key_env, strip=True)
        if key is None and self.url is None:
            raise ConfigurationError(f"{self.name} needs an API key: set the environment variable {self._key_env}")
        # A local server needs no key, but the SDKs insist on one.
        return "none" if key is None else key.reveal()

    def _running_client(self) -> Any:
        if self._base is not None:
            return self._base._running_client()
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
        if self._base is not None:
            self._base.rules = self.rules

    def _finished(self, message: AssistantMessage, seconds: float) -> AssistantMessage:
        """Add the cost and the duration to a message."""
        sampled = message.sampled or Sampled()
        usage = sampled.usage
        self._pace.answered(0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0))
        cost = cost_usd(self._prices, self.model, usage) if sampled.cost_usd is None else sampled.cost_usd
        return message.replace(sampled=dataclasses.replace(sampled, cost_usd=cost, duration_s=seconds))

    def _judged(self, answer: Any) -> AssistantMessage | AuthenticationError | PolicyError:
        """Return the turn in an SDK's response, or the error of one without: an error with status 200, a page, nothing at all."""
        try:
            message = self.read(answer)
        except (MessageError, IndexError) as error:
            return self._unreadable(answer, str(error))
        except (ValueError, RecursionError) as error:
            return self._problem("unavailable", f"the answer cannot be read: {failure_words(str(error))}")
        if message.role != "assistant":
            return self._unreadable(answer, "it is text")
        if message.ended == "error" and (body := error_of(message)):
            return self._no_answer({"error": body})
        is_empty = not any(map(has_content, message.blocks))
        if message.ended != "error" and (not is_empty or message.ended in _EMPTY_ENDINGS):
            return message
        words = _NOTHING if is_empty else "the server broke its answer off"
        reason = f" (finish_reason {message.stop_reason})" if message.stop_reason else ""
        return self._problem("unavailable", words + reason)

    def _unreadable(self, answer: Any, reason: str) -> AssistantMessage | AuthenticationError | PolicyError:
        """Return the error of a response that holds no turn in the API's format; see `_no_answer`."""
        body = plain(answer)
        if isinstance(body, Mapping):  # Google's SDK adds the response's headers
            body = {name: value for name, value in body.items() if value and name != "sdk_http_response"}
            if body.keys() & {"choices", "output", "candidates", "content"}:
                return self._problem("unavailable", f"the answer cannot be read: {failure_words(reason)}")
        return self._no_answer(body) if body else self._problem("unavailable", _NOTHING)

    def _no_answer(self, body: Json) -> AssistantMessage | AuthenticationError | PolicyError:
        """Return the error of a body that a server sent in place of an answer, or the empty turn that a filter withheld."""
        kind = kind_of_failure(None, body)
        if kind == "content_filter":
            return withheld(body)
        return self._problem(kind, f"no answer: {failure_words(body)}", wait_s=retry_after_s({}, body))

    def _of_exception(self, error: Exception) -> AssistantMessage | AuthenticationError | PolicyError:
        """Return the typed error of an SDK's exception, or the empty turn of one that says that a filter withheld the answer."""
        response = error_response(error)
        if response is not None:
            kind = kind_of_failure(response.status, response.body)
            if kind == "content_filter":
                return withheld(response.body)
            words = failure_words(response.body) or "the server gave no reason"
            wait_s = retry_after_s(response.headers, response.body)
            return self._problem(kind, f"HTTP {response.status}: {words}", response.status, wait_s)
        broken = broken_exchange(error, self._timeout_s)
        if broken is not None:
            text = self._said(f"{self.address}: {broken.reason}")
            return PolicyError(text, kind="policy_unavailable", delivery=broken.delivery)
        return PolicyError(self._said(f"{type(error).__name__}: {failure_words(str(error))}"), kind="policy_failed")

    def _problem(
        self, kind: FailureKind, words: str, status: int | None = None, wait_s: float | None = None
    ) -> AuthenticationError | PolicyError:
        """Return the typed error of what a provider answered."""
        text = self._said(words)
        if kind == "bad_key":
            return AuthenticationError(f"{text.rstrip('.')}. Check the environment variable {self._key_env}.", status=status)
        if kind == "context_overflow":
            return ContextOverflowError(text, kind=kind, status=status, delivery="delivered")
        is_retried = kind in ("rate_limited", "unavailable")
        ours = "rate_limited" if kind == "rate_limited" else "policy_unavailable" if is_retried else "policy_refused"
        return PolicyError(text, kind=ours, status=status, retry_after_s=wait_s if is_retried else None, delivery="delivered")

    def _said(self, words: str) -> str:
        """Return words with this policy's name, and without its credentials, which a server or an SDK may repeat."""
        secrets = [os.environ.get(self._key_env, "").strip(), password_of(self.url or ""), *credentials_of(self.sampling)]
        forms = [form for secret in secrets if len(secret) >= _SHORTEST for form in encodings_of(secret)]
        return f"{self.name}: {replace_texts(words, forms)}"

    def __getstate__(self) -> dict[str, Any]:
        # Connections stay here, and credentials are sealed.
        private = {"url": sealed(self.url), "sampling": sealed(self.sampling)}
        return {**vars(self), **private, "_sdk": None, "_client": None, "_client_loop": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.url, self.sampling = revealed(state["url"]), revealed(state["sampling"])
        self._sdk = importlib.import_module(self.sdk)


class RequestPace:
    """Spaces requests to a provider so that they stay within its rate limits.

    After a 429 no request starts for as long as the provider asks, then requests start at half the rate. Further 429s in that
    time, and within a second, answer requests that had started before, and do not halve it again. Each response raises the rate
    a little (additive increase, multiplicative decrease). A limit of None is not known. Tests replace `clock`.
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
        self._next_halving = 0.0
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
        now = self._clock()
        wait_s = 1.0 if retry_after_s is None else retry_after_s
        if now >= self._next_halving:
            observed = len(self._recent) / 10.0
            before = self.per_second if self.per_second is not None else max(observed, self.FIRST_RATE)
            self.per_second = max(before / 2, 0.05)
            self._next_halving = now + max(wait_s, 1.0)
        self._next = max(self._next, now + wait_s)


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
    if not isinstance(overrides, Mapping | None):
        raise ConfigurationError(f"prices must be a dictionary of models, not {overrides!r}")
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


def _check_headers(headers: Any) -> None:
    """Refuse headers that no request can carry, by their position: a name may hold a credential by mistake."""
    if headers is None:
        return
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"extra_headers must be an object of names and texts, not {type(headers).__name__}")
    for place, (name, value) in enumerate(headers.items(), 1):
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"the name of header {place} in extra_headers must be of ASCII letters, digits and dashes")
        text = revealed(value)
        if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
            raise ConfigurationError(
                f"the value of header {place} in extra_headers must be a text without line ends and letters outside ASCII"
            )
