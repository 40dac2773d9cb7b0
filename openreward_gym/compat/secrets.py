"""Keys and secrets that a program of the official client passes as values: held in `Secret` objects from the first line on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from openreward_gym.errors import ConfigurationError
from openreward_gym.hiding import Secret
from openreward_gym.protocol.addresses import is_ip_address
from openreward_gym.protocol.secrets import PLATFORM_KEY_NAMES, SEARCH_HOST

API_KEY_VARIABLE = "OPENREWARD_API_KEY"

SecretValue: TypeAlias = str | tuple[str, list[str]]
"""A secret's value; in a tuple with the hosts that may receive it."""

_OF_BOTH_CASES: Mapping[str, tuple[str, ...]] = {
    "ANTHROPIC_API_KEY": ("api.anthropic.com",),
    "COHERE_API_KEY": ("api.cohere.com",),
    "DAYTONA_API_KEY": ("app.daytona.io",),
    "DEEPSEEK_API_KEY": ("api.deepseek.com",),
    "E2B_API_KEY": ("api.e2b.app",),
    "FIREWORKS_API_KEY": ("api.fireworks.ai",),
    **dict.fromkeys(("GEMINI_API_KEY", "GOOGLE_API_KEY"), ("generativelanguage.googleapis.com",)),
    "GROQ_API_KEY": ("api.groq.com",),
    "HUGGINGFACE_API_KEY": ("api-inference.huggingface.co", "huggingface.co"),
    **dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), ("huggingface.co", "api-inference.huggingface.co")),
    **dict.fromkeys(("KAGGLE_API_KEY", "KAGGLE_KEY", "KAGGLE_USERNAME"), ("www.kaggle.com",)),
    "MISTRAL_API_KEY": ("api.mistral.ai",),
    **dict.fromkeys(("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"), ("api.modal.com",)),
    "OPENAI_API_KEY": ("api.openai.com",),
    "PERPLEXITY_API_KEY": ("api.perplexity.ai",),
    "REPLICATE_API_TOKEN": ("api.replicate.com",),
    "TAVILY_API_KEY": ("api.tavily.com",),
    "TOGETHER_API_KEY": ("api.together.xyz",),
}
_GITHUB = ("github.com", "api.github.com", "uploads.github.com", "objects.githubusercontent.com", "raw.githubusercontent.com")
WELL_KNOWN_HOSTS: Mapping[str, tuple[str, ...]] = {
    **_OF_BOTH_CASES,
    **{name.lower(): hosts for name, hosts in _OF_BOTH_CASES.items()},
    "gh_auth_token": _GITHUB,
}
"""The hosts that may receive a secret of a well-known name, as the official client has them."""


def held_key(api_key: Any) -> Secret | ConfigurationError | None:
    """Return a key as a `Secret`; None for none; the error for one that no header can carry.

    Errors are returned, so that the caller can first drop the key from its frame.
    """
    if isinstance(api_key, Secret) or not api_key:
        return api_key or None
    if not isinstance(api_key, str):
        return ConfigurationError(f"api_key must be a string or None, not a {type(api_key).__name__}")
    key = Secret(api_key.strip())
    del api_key
    if "://" in key.reveal():
        return ConfigurationError("the first argument is the API key, and this is an address: pass it as base_url=...")
    if not key.reveal().isascii() or not key.reveal().isprintable():
        return ConfigurationError("api_key has a line end, another control character or a letter outside ASCII. Copy it again.")
    return key if key.reveal() else None


def key_text(key: Secret | None) -> str:
    """Return the text of a key, or else that of `OPENREWARD_API_KEY`; an empty string for none."""
    return os.environ.get(API_KEY_VARIABLE, "").strip() if key is None else key.reveal()


class HeldSecrets:
    """The secrets of a session.

    Attributes:
        values: The secrets, by name.
        hosts: The hosts that may receive each of them.
        problem: What is wrong with them; None if nothing is.
    """

    def __init__(self, given: Any) -> None:
        self.values: dict[str, Secret] = {}
        self.hosts: dict[str, Sequence[str]] = {}
        self.problem: ConfigurationError | None = None
        if given is not None and not isinstance(given, Mapping):
            kind = type(given).__name__
            self.problem = ConfigurationError(f"secrets must be a dictionary of names and values, not a {kind}")
            return
        for name in given or ():
            self._add(name, (given or {})[name])

    def _add(self, name: Any, value: Any) -> None:
        if not isinstance(name, str):
            self.problem = ConfigurationError(f"the names of secrets must be strings, not a {type(name).__name__}")
        elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            self.values[name] = Secret(value[0])
            self.hosts[name] = value[1]
        elif isinstance(value, str) and name in WELL_KNOWN_HOSTS:
            self.values[name] = Secret(value)
            self.hosts[name] = WELL_KNOWN_HOSTS[name]
        elif isinstance(value, str):
            advice = "Pass a tuple: (value, ['judge.example.com'])."
            self.problem = ConfigurationError(f"the hosts that may receive the secret {name!r} are not known. {advice}")
        else:
            self.problem = ConfigurationError(f"the secret {name!r} must be a string, or a tuple of a string and a list of hosts")

    def __repr__(self) -> str:
        return f"<HeldSecrets {', '.join(self.values)}>"


def platform_key_hosts(*addresses: str | None) -> dict[str, Sequence[str]]:
    """Return the hosts that may receive the platform's key: those of `addresses` and of its search service."""
    urls = [address for address in addresses if address]
    services = ("OPENREWARD_WEB_SEARCH_URL", "OPENREWARD_WEB_FETCH_URL")
    urls += [os.environ.get(variable) or f"https://{SEARCH_HOST}" for variable in services]
    hosts = [host for url in urls if (host := urlsplit(url).hostname)]
    inside = [
        f"{host.partition('.')[0]}.openreward.internal" for host in hosts if host.count(".") >= 2 and not is_ip_address(host)
    ]
    allowed = tuple(dict.fromkeys([*hosts, *inside]))
    return dict.fromkeys(PLATFORM_KEY_NAMES, allowed)
