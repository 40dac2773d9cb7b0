"""Credentials in configuration: which values are hidden, and where they are not written."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Collection
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given
from hypothesis import strategies as st

import openreward_gym
from openreward_gym import OpenRewardEnv
from openreward_gym.cli.parameters import shown_arguments
from openreward_gym.credentials import HiddenText, credentials_of, revealed, sealed, without_secrets
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import EnvOptions, RunOptions, SessionOptions
from openreward_gym.policies import resolve
from openreward_gym.policies.openai import OpenAIPolicy
from openreward_gym.policies.policy import policy_settings
from openreward_gym.urls import hide_credentials, without_credentials

TOKEN = "gw-8Rk2Lm4Qx7Vt"
PASSWORD = "pw-3Hn6Jd9Wz1"
ADDRESS = f"http://me:{PASSWORD}@127.0.0.1:9"


class AnyOptions(OpenAIPolicy):
    """A policy for a server whose options nobody knows."""

    def parameters(self) -> Collection[str]:
        return ()


@pytest.mark.parametrize(
    "options",
    [
        {"extra_headers": {"Authorization": f"Bearer {TOKEN}"}},
        {"extra_headers": {"X-Gateway-Auth": TOKEN}},
        {"extra_headers": {"Anything-At-All": TOKEN}},
        {"extra_headers": {"Ocp-Apim-Subscription-Key": TOKEN}},
        {"default_headers": {"cf-access-client-secret": TOKEN}},
        {"http_options": {"headers": {"x-team": TOKEN}, "timeout": 3}},
        {"extra_query": {"k": TOKEN, "list": [TOKEN, TOKEN]}},
        {"extra_body": {"routes": [{"apiKey": TOKEN}, {"auth": {"user": "me", "pass": TOKEN}}]}},
        {"api_key": TOKEN},
        {"clientSecret": TOKEN, "note": f"it is {TOKEN}"},
        {"gateway": f"https://me:{TOKEN}@gateway.example.com/v1"},
        {"gateway": f"https://gateway.example.com/v1?sig={TOKEN}&page=2"},
        {"cookies": {"session": TOKEN}},
        {"http_client": type("Client", (), {"__repr__": lambda self: TOKEN})()},
    ],
)
def test_settings_keep_names_and_no_credentials(options: dict[str, Any]) -> None:
    policy = AnyOptions("m", url="http://127.0.0.1:9/v1", temperature=0.25, stop=["***", "</s>"], max_tokens=7, **options)
    sampling = policy_settings(policy)["sampling"]
    assert TOKEN not in json.dumps(sampling)
    assert list(sampling) == ["temperature", "stop", "max_tokens", *options]
    assert (sampling["temperature"], sampling["stop"], sampling["max_tokens"]) == (0.25, ["***", "</s>"], 7)
    assert TOKEN not in repr(policy)


@pytest.mark.parametrize("name", ["api_key", "default_headers", "http_client", "tempratur"])
def test_an_option_that_the_provider_does_not_have_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"openai:m has no option '{name}'") as caught:
        resolve("openai:m", url="http://127.0.0.1:9/v1", **{name: TOKEN})
    assert TOKEN not in str(caught.value)


def test_sampling_options_are_kept_exactly() -> None:
    sampling = {
        "temperature": 0.7,
        "stop_token": "</s>",
        "max_completion_tokens": 5,
        "prompt_cache_key": "tasks-of-today",
        "logit_bias": {"50256": -100},
        "extra_body": {"top_k": 5, "guided_json": {"type": "object"}, "chat_template_kwargs": {"enable_thinking": False}},
        "reasoning": {"effort": "low"},
        "tool_choice": "auto",
    }
    assert without_secrets(sampling) == sampling


def test_a_provider_that_repeats_the_headers_of_the_request() -> None:
    headers = {"X-My-Gateway": TOKEN, "content-type": "application/json", "retry-after": "7"}
    hidden = {"X-My-Gateway": "***", "content-type": "application/json", "retry-after": "7"}
    assert without_secrets({"error": {"request": {"headers": headers}}}) == {"error": {"request": {"headers": hidden}}}


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_is_sealed_is_revealed(value: Any) -> None:
    assert revealed(sealed({"headers": value}, all_of_it=True)) == {"headers": revealed(sealed(value))}
    json.dumps(without_secrets({"headers": value}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ADDRESS, "http://***@127.0.0.1:9"),
        (f"--base-url=https://{TOKEN}@host/a?b=1", "--base-url=https://***@host/a?b=1"),
        (f"http://me:a@{PASSWORD}@host", "http://***@host"),
        (f"https://host/v1?api_key={TOKEN}&b=2#c", "https://host/v1?api_key=***&b=2#c"),
        (f"https://host/?sv=1&sig={TOKEN}", "https://host/?sv=1&sig=***"),
        (f"https://host/?X-Amz-Signature={TOKEN}", "https://host/?X-Amz-Signature=***"),
        ("mail me@example.com", "mail me@example.com"),
        ("https://example.com/@user/page", "https://example.com/@user/page"),
    ],
)
def test_addresses_are_shown_without_credentials(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown
    assert TOKEN not in without_credentials(text)


def spec_made(**arguments: Any) -> EnvSpec:
    return openreward_gym.spec("echo", **arguments)


def spec_of_an_env(**arguments: Any) -> EnvSpec:
    env = gym.make("OpenReward-v0", environment="echo", disable_env_checker=True, **arguments)
    assert TOKEN not in repr(env) + str(env) + repr(env.unwrapped)
    return env.spec  # type: ignore[return-value]


def spec_of_vector_envs(**arguments: Any) -> EnvSpec:
    return gym.make_vec("OpenReward-v0", num_envs=2, environment="echo", **arguments).spec  # type: ignore[return-value]


def spec_registered(**arguments: Any) -> EnvSpec:
    return gym.spec(openreward_gym.register("echo", id="hidden/echo-v0", **arguments))


@pytest.mark.parametrize("spec_of", [spec_made, spec_of_an_env, spec_of_vector_envs, spec_registered])
def test_a_spec_shows_no_credentials_and_makes_the_same_env(spec_of: Callable[..., EnvSpec]) -> None:
    spec = spec_of(base_url=ADDRESS, env_overrides={"TOKEN": TOKEN, "REGION": "north-7"})
    texts = [
        repr(spec),
        spec.to_json(),
        str(spec.pprint(disable_print=True, print_all=True)),
        pickle.dumps(spec).decode("latin1"),
    ]
    for text in texts:
        for value in (TOKEN, PASSWORD, "north-7"):
            assert value not in text
    assert "REGION" in texts[0]
    assert "127.0.0.1:9" in texts[1]
    for copied in (spec, copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        copied.kwargs = {name: value for name, value in copied.kwargs.items() if name not in ("num_envs", "vectorization_mode")}
        env = gym.make(copied, disable_env_checker=True).unwrapped
        assert isinstance(env, OpenRewardEnv)
        assert env.options.client.base_url == ADDRESS
        assert env.options.session.env_overrides == {"TOKEN": TOKEN, "REGION": "north-7"}


def test_a_spec_of_json_asks_for_what_was_hidden() -> None:
    read = EnvSpec.from_json(spec_made(env_overrides={"TOKEN": TOKEN}).to_json())
    with pytest.raises(ConfigurationError, match=r"env_overrides has '\*\*\*' .* give it again"):
        gym.make(read, disable_env_checker=True)
    env = gym.make(read, env_overrides={"TOKEN": TOKEN}, disable_env_checker=True).unwrapped
    assert isinstance(env, OpenRewardEnv)
    assert env.options.session.env_overrides == {"TOKEN": TOKEN}
    with pytest.raises(ConfigurationError, match="base_url has"):
        EnvOptions.from_keywords({"environment": "echo", "base_url": "http://***@127.0.0.1:9"})


def secret_options() -> RunOptions:
    keywords = {
        "environment": "echo",
        "base_url": ADDRESS,
        "env_overrides": {"A": TOKEN},
        "policy": "openai:m",
        "policy_url": ADDRESS,
    }
    headers = {"temperature": 0.5, "extra_headers": {"X-Any": TOKEN}, "extra_body": {"deep": [{"token": TOKEN}]}}
    return RunOptions.from_keywords({**keywords, "policy_options": headers})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_hold_no_credentials(protocol: int) -> None:
    options = secret_options()
    env = OpenRewardEnv.from_options(options.env)
    policy: Any = resolve("openai:m", url=ADDRESS, **dict(options.policy_options or {}))
    for thing in (options, env, policy):
        data = pickle.dumps(thing, protocol)
        assert TOKEN.encode() not in data
        assert PASSWORD.encode() not in data
    assert pickle.loads(pickle.dumps(options, protocol)) == options == copy.copy(options) == copy.deepcopy(options)
    assert pickle.loads(pickle.dumps(env, protocol)).options == env.options
    for copied in (pickle.loads(pickle.dumps(policy, protocol)), copy.copy(policy)):
        assert (copied.url, copied.sampling) == (ADDRESS, options.policy_options)


def test_a_pickle_of_another_program_asks_for_its_credentials() -> None:
    program = (
        "import pickle, sys; from openreward_gym.options import SessionOptions; "
        f"sys.stdout.buffer.write(pickle.dumps(SessionOptions(env_overrides={{'A': {TOKEN!r}}})))"
    )
    data = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60).stdout
    assert TOKEN.encode() not in data
    with pytest.raises(ConfigurationError, match="env_overrides has"):
        pickle.loads(data)


def test_hidden_texts_are_equal_to_what_they_hide() -> None:
    hidden = HiddenText(TOKEN)
    assert hidden == TOKEN == copy.deepcopy(hidden)
    assert hidden != "***"
    assert (repr(hidden), str(hidden), json.dumps(hidden), f"{hidden}") == ("'***'", "***", '"***"', "***")
    assert {TOKEN: 1}[hidden] == 1
    assert SessionOptions(env_overrides={"A": hidden}).env_overrides == {"A": TOKEN}


def test_credentials_are_found_by_name() -> None:
    assert credentials_of({"extra_headers": {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}, "user": "me"}) == [
        f"Bearer {TOKEN}",
        TOKEN,
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--base-url", ADDRESS], ["--base-url", "http://***@127.0.0.1:9"]),
        ([f"--policy-url={ADDRESS}"], ["--policy-url=http://***@127.0.0.1:9"]),
        (["--env-override", f"ANY={TOKEN}"], ["--env-override", "ANY=***"]),
        ([f"--env-override=ANY={TOKEN}"], ["--env-override=ANY=***"]),
        (
            ["--policy-option", f'extra_headers={{"X-Any":"{TOKEN}"}}', "--policy-option", "temperature=0.5"],
            ["--policy-option", 'extra_headers={"X-Any": "***"}', "--policy-option", "temperature=0.5"],
        ),
        (["--policy-option", f"api_key={TOKEN}"], ["--policy-option", "api_key=***"]),
        (
            ["--ray-option", f'runtime_env={{"env_vars":{{"A":"{TOKEN}"}}}}'],
            ["--ray-option", 'runtime_env={"env_vars": {"A": "***"}}'],
        ),
    ],
)
def test_commands_are_printed_without_credentials(arguments: list[str], shown: list[str]) -> None:
    assert shown_arguments(["collect", *arguments, "--resume"]) == ["collect", *shown, "--resume"]
