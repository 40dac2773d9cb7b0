"""The secrets that an environment is given: read from environment variables at the last moment, kept in `Secret`s.

They travel in the header `X-Secrets` when a session is created. The first generation of servers (`ors-sdk`) reads them from
the body of `/create` instead.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.addresses import Addresses
from openreward_gym.protocol.wire import Secret, dumps
from openreward_gym.types import Json

__all__ = ["allowed_domains", "read_secrets", "secrets_header"]

KNOWN_DOMAINS: dict[str, tuple[str, ...]] = {
    "anthropic": ("api.anthropic.com",),
    "cohere": ("api.cohere.com",),
    "deepseek": ("api.deepseek.com",),
    "gemini": ("generativelanguage.googleapis.com",),
    "google": ("generativelanguage.googleapis.com",),
    "groq": ("api.groq.com",),
    "hf": ("huggingface.co", "api-inference.huggingface.co"),
    "huggingface": ("huggingface.co", "api-inference.huggingface.co"),
    "mistral": ("api.mistral.ai",),
    "openai": ("api.openai.com",),
    "openrouter": ("openrouter.ai",),
    "tavily": ("api.tavily.com",),
    "together": ("api.together.xyz",),
}
"""Hosts of well-known providers, by the first word of the secret's name (`openai_api_key`, `HF_TOKEN`)."""

PLATFORM_KEY_NAMES = ("api_key", "OPENREWARD_API_KEY")
"""Under these names environments find the caller's platform key: sandboxes and graders are made with it."""

SEARCH_HOST = "search.openreward.ai"


def read_secrets(names: Mapping[str, str], api_key: Secret | None) -> dict[str, Secret]:
    """The secrets of a session.

    Args:
        names: Names of secrets to names of the environment variables that hold them.
        api_key: The platform key, which goes along as the official client sends it; None for none.

    Raises:
        ConfigurationError: A variable is not set.
    """
    secrets = {} if api_key is None else dict.fromkeys(PLATFORM_KEY_NAMES, api_key)
    for name, variable in names.items():
        if not os.environ.get(variable):
            raise ConfigurationError(f"the secret {name!r} comes from the environment variable {variable}, which is not set")
        secrets[name] = Secret(os.environ[variable])
    return secrets


def allowed_domains(names: Sequence[str], given: Mapping[str, Sequence[str]], addresses: Addresses) -> dict[str, tuple[str, ...]]:
    """The hosts that may receive each secret, by its name; a secret without an entry is sent without.

    The hosted platform puts secrets into outgoing requests itself, and only into those to these hosts.
    """
    domains: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in given:
            domains[name] = tuple(given[name])
        elif name in PLATFORM_KEY_NAMES:
            hosts = [urlsplit(url).hostname or "" for url in (addresses.sessions, addresses.platform)]
            inside = [f"{host.split('.')[0]}.openreward.internal" for host in [*hosts, SEARCH_HOST] if host.count(".") >= 2]
            domains[name] = tuple(dict.fromkeys([*hosts, SEARCH_HOST, *(inside if addresses.hosted else [])]))
        elif (provider := name.lower().split("_")[0]) in KNOWN_DOMAINS:
            domains[name] = KNOWN_DOMAINS[provider]
    return domains


def secrets_header(secrets: Mapping[str, Secret], domains: Mapping[str, Sequence[str]]) -> Secret:
    """The value of `X-Secrets`: base64 of `{name: {"value": ..., "allowed_domains": [...]}}`.

    Args:
        secrets: Name to value.
        domains: Name to the hosts that may see the value; a name without them is sent without.
    """
    payload: dict[str, Json] = {}
    for name, value in secrets.items():
        payload[name] = {"value": value}
        if name in domains:
            payload[name]["allowed_domains"] = list(domains[name])
    return Secret(base64.b64encode(dumps(payload)).decode("ascii"))
