"""The secrets of an environment: read from environment variables when a session opens, and kept in `Secret` objects.

They travel in the header `X-Secrets` when a session is created. First-generation servers (`ors-sdk`) read them from the body
of `/create` instead.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from openreward_gym.errors import ConfigurationError
from openreward_gym.hiding import Secret, read_secret
from openreward_gym.protocol.addresses import Addresses
from openreward_gym.protocol.wire import dumps
from openreward_gym.types import Json

KNOWN_DOMAINS: Mapping[str, tuple[str, ...]] = {
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
"""Names under which environments look up the caller's platform key, for their sandboxes and graders."""

SEARCH_HOST = "search.openreward.ai"


def read_secrets(variables: Mapping[str, str], api_key: Secret | None) -> dict[str, Secret]:
    """Read the secrets of a session from the environment variables that hold them, by name.

    The platform's `api_key` is among them, as the official client sends it along, too.
    """
    secrets = {} if api_key is None else dict.fromkeys(PLATFORM_KEY_NAMES, api_key)
    for name, variable in variables.items():
        secret = read_secret(variable)
        if secret is None:
            raise ConfigurationError(f"the secret {name!r} comes from the environment variable {variable}, which is not set")
        secrets[name] = secret
    return secrets


def allowed_domains(
    names: Sequence[str], domains: Mapping[str, Sequence[str]], addresses: Addresses
) -> dict[str, tuple[str, ...]]:
    """Return the hosts that may receive each secret: the caller's choice in `domains`, or else the known ones, if any.

    The hosted platform puts secrets into outgoing requests itself, and only into those to these hosts.
    """
    allowed: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in domains:
            allowed[name] = tuple(domains[name])
        elif name in PLATFORM_KEY_NAMES:
            hosts = [urlsplit(url).hostname or "" for url in (addresses.sessions, addresses.platform)]
            inside = [f"{host.split('.')[0]}.openreward.internal" for host in [*hosts, SEARCH_HOST] if host.count(".") >= 2]
            allowed[name] = tuple(dict.fromkeys([*hosts, SEARCH_HOST, *(inside if addresses.hosted else [])]))
        elif (provider := name.lower().split("_")[0]) in KNOWN_DOMAINS:
            allowed[name] = KNOWN_DOMAINS[provider]
    return allowed


def secrets_header(secrets: Mapping[str, Secret], domains: Mapping[str, Sequence[str]]) -> Secret:
    """Return the value of `X-Secrets`: base64 of `{name: {"value": ..., "allowed_domains": [...]}}`, hosts only if known."""
    payload: dict[str, Json] = {name: {"value": value} for name, value in secrets.items()}
    for name in payload.keys() & domains.keys():
        payload[name]["allowed_domains"] = list(domains[name])
    return Secret(base64.b64encode(dumps(payload)).decode("ascii"))
