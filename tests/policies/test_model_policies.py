"""Providers' models, through their own SDKs, against a server that speaks their protocols: `weather` played to its reward."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from providers import USAGE, Providers, providing

from openreward_gym import collect
from openreward_gym.errors import AuthenticationError, ConfigurationError, PolicyError
from openreward_gym.policies import resolve
from openreward_gym.policies.model import PRICES, Price, RequestPace, cost_usd, price_table
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Rollout,
    TextBlock,
    ToolCall,
    ToolResult,
    ToolSet,
    Usage,
    UserMessage,
)

# The SDK of Google's does what its HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GEMINI_API_KEY"}
FLAVOURS = [("openai", "/v1", {}), ("openai", "/v1", {"api": "responses"}), ("anthropic", "", {}), ("google", "", {})]


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    for name in KEYS.values():
        monkeypatch.setenv(name, "secret-key")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    with providing() as servers:
        yield servers


def play(examples: str, providers: Providers, output: Path, model: str, path: str = "/v1", **arguments: Any) -> Any:
    options = {"policy_options": arguments.pop("options", {}), "policy_url": providers.url + path}
    return collect("weather", model, base_url=examples, output=output, progress=False, **options, **arguments)


@pytest.mark.parametrize(("provider", "path", "options"), FLAVOURS)
def test_a_model_plays(examples: str, providers: Providers, tmp_path: Path, provider: str, path: str, options: Any) -> None:
    priced = {**options, "prices": {"good": {"input": 1.0, "cached_input": 0.5, "output": 10.0}}}
    result = play(examples, providers, tmp_path / "run", f"{provider}:good", path, options=priced)
    assert result.coverage.complete
    assert result.metrics.mean_reward == 1.0
    rollout: Rollout = next(iter(result.store))
    call, answer = rollout.turns
    assert [part.name for part in call.tool_calls] == ["get_weather"]
    assert call.tool_calls[0].call_id
    assert any(part.type == "reasoning" for part in call.blocks)
    assert (call.usage.input_tokens, call.usage.output_tokens, call.usage.cached_tokens) == USAGE  # type: ignore[union-attr]
    assert call.sampled is not None
    assert call.sampled.cost_usd == pytest.approx((60 * 1.0 + 40 * 0.5 + 20 * 10.0) / 1e6)
    assert call.sampled.model == "good"
    assert (call.origin, call.ended, answer.ended) == ("policy", "tool_calls", "stop")
    assert answer.sampled is not None
    assert answer.sampled.stop_reason
    assert rollout.model == {"name": "good", "provider": provider}
    assert rollout.cost_usd == pytest.approx(2 * call.sampled.cost_usd)  # type: ignore[operator]
    assert providers.keys == {"secret-key"}
    text = "".join(path.read_text() for path in tmp_path.rglob("*.json*"))
    assert "secret-key" not in text
    assert providers.url not in json.dumps(json.loads((tmp_path / "run" / "run.json").read_text())["behaviour"])


def test_reasoning_goes_back_to_whom_it_came_from(examples: str, providers: Providers, tmp_path: Path) -> None:
    play(examples, providers, tmp_path / "a", "anthropic:good", "", tasks="0")
    last = providers.requests[-1]["messages"][1]["content"]
    assert last[0] == {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
    play(examples, providers, tmp_path / "o", "openai:good", tasks="0", options={"api": "responses"})
    assert [item["encrypted_content"] for item in providers.requests[-1]["input"] if item["type"] == "reasoning"] == ["gAAA"]
    play(examples, providers, tmp_path / "g", "google:good", "", tasks="0")
    signed = [part for part in providers.requests[-1]["contents"][1]["parts"] if "thoughtSignature" in part]
    assert signed[0]["thoughtSignature"] == "c2lnbmVk"


@pytest.mark.parametrize("model", ["limited", "down"])
@pytest.mark.parametrize(("provider", "path", "options"), FLAVOURS)
def test_transient_failures_are_retried(
    examples: str, providers: Providers, tmp_path: Path, model: str, provider: str, path: str, options: Any
) -> None:
    result = play(examples, providers, tmp_path / "run", f"{provider}:{model}", path, options=options, tasks="0,1")
    assert result.metrics.mean_reward == 1.0
    assert not list(result.store.failures())
    assert sum(providers.refused.values()) == (2 if model == "limited" else 4)


BODY = {"error": {"message": "No worker for secret-key.", "code": 503}}


@pytest.mark.parametrize(("provider", "path", "options"), FLAVOURS)
@pytest.mark.parametrize("kind", ["policy_unavailable", "context_overflow"])
def test_an_error_in_place_of_an_answer_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, kind: str, provider: str, path: str, options: Any
) -> None:
    monkeypatch.setenv(KEYS[provider], "secret-key")
    body = BODY if kind == "policy_unavailable" else {"error": {"message": "maximum context length is 10 for secret-key"}}
    policy: Any = resolve(f"{provider}:m", patience_s=0.0, **options)

    async def send(client: Any, request: Any) -> Any:
        return body

    monkeypatch.setattr(policy, "send", send)
    with pytest.raises(PolicyError, match=r"no answer: .* for \*\*\*") as raised:
        asyncio.run(policy([UserMessage("Go.")], ToolSet(())))
    assert raised.value.kind == kind
    assert "secret-key" not in str(raised.value)


@pytest.mark.parametrize(("provider", "path", "options"), FLAVOURS)
def test_a_full_window_is_an_ending(
    examples: str, providers: Providers, tmp_path: Path, provider: str, path: str, options: Any
) -> None:
    result = play(examples, providers, tmp_path / "run", f"{provider}:full", path, options=options, tasks="0")
    (rollout,) = result.store
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("truncated", "context_overflow", None)
    assert not list(result.store.failures())


@pytest.mark.parametrize(("provider", "path", "options"), FLAVOURS)
def test_a_refused_key_ends_the_run_and_is_not_shown(
    examples: str, providers: Providers, tmp_path: Path, provider: str, path: str, options: Any
) -> None:
    with pytest.raises(AuthenticationError, match=KEYS[provider]) as raised:
        play(examples, providers, tmp_path / "run", f"{provider}:denied", path, options=options)
    assert "secret-key" not in str(raised.value)


def test_a_refused_request_is_a_failure_of_the_policy(examples: str, providers: Providers, tmp_path: Path) -> None:
    result = play(examples, providers, tmp_path / "run", "openai:broken", tasks="0")
    (failure,) = result.store.failures()
    assert (failure.source, failure.kind, failure.http_status) == ("policy", "policy_refused", 400)
    assert "unknown parameter" in failure.message


def test_a_call_has_its_time(providers: Providers) -> None:
    policy: Any = resolve("openai:slow", url=providers.url + "/v1", timeout_s=0.2, patience_s=0.1)

    async def ask() -> None:
        try:
            await policy((UserMessage("Seattle"),), ToolSet())
        finally:
            await policy.aclose()

    with pytest.raises(PolicyError) as raised:
        asyncio.run(ask())
    assert raised.value.kind == "policy_unavailable"


def test_sampling_is_sent_and_kept(examples: str, providers: Providers, tmp_path: Path) -> None:
    result = play(examples, providers, tmp_path / "run", "openai:good", tasks="0", options={"temperature": 0.5, "max_tokens": 50})
    assert {key: providers.requests[0][key] for key in ("temperature", "max_tokens")} == {"temperature": 0.5, "max_tokens": 50}
    assert next(iter(result.store)).sampling == {"temperature": 0.5, "max_tokens": 50}


def test_images_of_tools_reach_chat_models(providers: Providers) -> None:
    policy: Any = resolve("openai:good", url=providers.url + "/v1")
    results = [ToolResult([TextBlock("look"), ImageBlock("aGk=")], "a"), ToolResult([ImageBlock("aGk=")], "b")]
    calls = AssistantMessage(tool_calls=[ToolCall("look", {}, "a"), ToolCall("look", {}, "b")])
    messages = policy.request((calls, UserMessage(results), UserMessage("well?")), ToolSet())["messages"]
    assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user", "user"]
    assert [part["type"] for part in messages[3]["content"]] == ["image_url", "image_url"]
    assert messages[2]["content"] == "The image follows."


def test_invalid_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYS.values(), "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for policy, options, word in (
        ("openai:gpt-5", {}, "OPENAI_API_KEY"),
        ("openai:gpt-5", {"api_key_env": "MINE"}, "MINE"),
        ("openai:", {}, "does not name a model"),
        ("openai:x", {"url": "http://127.0.0.1:9", "api": "grpc"}, "api"),
        ("openai:x", {"url": "http://127.0.0.1:9", "prices": {"x": 3}}, "prices"),
        ("random", {"temperature": 1}, "temperature"),
    ):
        with pytest.raises(ConfigurationError, match=word):
            resolve(policy, **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("requests_per_minute", 0),
        ("tokens_per_minute", "many"),
        ("timeout_s", -1.0),
        ("patience_s", float("nan")),
        ("prices", 3),
        ("stream", True),
    ],
)
def test_a_wrong_option_is_named_at_once(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} must be"):
        resolve("openai:m", url="http://127.0.0.1:9/v1", **{option: value})


def test_prices() -> None:
    usage = Usage(1_000_000, 1_000_000, 500_000)
    assert cost_usd(PRICES, "gpt-4o", usage) == pytest.approx(0.5 * 2.5 + 0.5 * 1.25 + 10)
    assert cost_usd(PRICES, "gpt-4o-2024-08-06", usage) == cost_usd(PRICES, "gpt-4o", usage)
    assert cost_usd(PRICES, "gpt-4o-mini", usage) != cost_usd(PRICES, "gpt-4o", usage)
    assert cost_usd(PRICES, "a model of mine", usage) is None
    assert cost_usd(PRICES, "gpt-4o", None) is None
    assert cost_usd(price_table({"mine": Price(1.0, 2.0)}), "mine", usage) == 3.0


@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost:8000", "http://[::1", "http://", "ftp://host", ""])
def test_an_address_that_is_no_url_is_refused_at_once(kind: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the model's URL '.*' is not a URL: write it as http://host:port"):
        resolve(f"{kind}:m", url=url)


def test_a_429_halves_the_pace_and_answers_raise_it_again() -> None:
    now = [0.0]
    pace = RequestPace(clock=lambda: now[0])
    assert [pace.reserve() for _ in range(100)] == [0.0] * 100
    pace.refused(3.0)
    assert pace.per_second == 5.0
    assert pace.reserve() == 3.0
    assert pace.reserve() == pytest.approx(3.2)
    pace.answered(10)
    assert pace.per_second == pytest.approx(5.1)


@pytest.mark.parametrize("wait_s", [None, 0.02])
def test_many_429s_at_once_halve_the_pace_once(wait_s: float | None) -> None:
    now = [0.0]
    pace = RequestPace(clock=lambda: now[0])
    for _ in range(64):
        pace.reserve()
    for _ in range(64):
        now[0] += 1 / 128
        pace.refused(wait_s)
    assert pace.per_second == 3.2
    now[0] = 1.5
    assert [pace.reserve() for _ in range(64)][-1] == pytest.approx(63 / 3.2)
    pace.refused(None)
    assert pace.per_second == 1.6


def test_known_limits_are_kept() -> None:
    now = [0.0]
    pace = RequestPace(60, 600, clock=lambda: now[0])
    assert [pace.reserve() for _ in range(3)] == [0.0, 1.0, 2.0]
    pace.answered(100)
    assert pace.reserve() == 13.0
    for _ in range(1000):
        pace.answered(0)
    assert pace.per_second == 1.0


@pytest.mark.parametrize(
    "headers",
    [{"X-Gate": "tk-71\nX-Evil: 1"}, {"X-Gate": "tk-71\u00e9"}, {"tk-71 x": "a"}, {"tk-71\u00e9": "a"}, ["tk-71"], {"X-Gate": 1}],
)
def test_headers_that_no_request_carries_are_refused_before_the_run(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="extra_headers") as caught:
        resolve("openai:good", url="http://127.0.0.1:1/v1", extra_headers=headers)
    assert "tk-71" not in str(caught.value)


@pytest.mark.parametrize("provider", sorted(KEYS))
def test_a_key_that_no_header_carries_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv(KEYS[provider], "tk-71\nX-Evil: 1")
    with pytest.raises(ConfigurationError, match=KEYS[provider]) as caught:
        resolve(f"{provider}:good", url="http://127.0.0.1:1/v1")
    assert "tk-71" not in str(caught.value)
