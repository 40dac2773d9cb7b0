"""Advice about secrets that an environment needs and did not get."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from openreward_gym.errors import OpenRewardGymError
from openreward_gym.options import ClientOptions, RetryLimits

# What Python says about a key that a mapping does not have, as a server passes it on: KeyError: 'api_key'
_MISSING_KEY = re.compile(r"KeyError: ?['\"]([^'\"\s]{1,100})['\"]")
_NAME = re.compile(r"\b[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+\b|\b[A-Z][A-Z0-9_]{2,}\b")
_SPEAKS_OF_SECRETS = re.compile(r"secret|api[ _-]?key|credential|token\b|password", re.IGNORECASE)


def secret_advice(message: str, required: Sequence[str], given: Collection[str]) -> str:
    """Return which secret an environment lacks and how to give it. Empty if the error seems to be another one.

    Args:
        message: The error with which a session could not be opened.
        required: The names of the secrets that the environment declares, as far as it does.
        given: The names of the secrets that the session got.

    >>> secret_advice("KeyError: 'api_key'", (), ())
    "if 'api_key' is a secret of the environment, give it: --secret api_key=VARIABLE, the environment variable that holds it"
    """
    missing = [name for name in required if name not in given]
    if missing:
        options = " ".join(f"--secret {name}=VARIABLE" for name in missing)
        noun = "secret" if len(missing) == 1 else "secrets"
        return f"the environment needs the {noun} {', '.join(missing)}: add {options}, the environment variable that holds it"
    key = _MISSING_KEY.search(message)
    if key is None and not _SPEAKS_OF_SECRETS.search(message):
        return ""
    if key is not None:
        name = key[1]
    else:
        # The names in the server's words: the name of the error's class, "ValueError:", is none.
        names = _NAME.findall(message.partition("with 500: ")[2] or message)
        name = next((one for one in names if one not in ("API_KEY",) or len(names) == 1), "")
    if name in given:
        return ""
    if not name:
        return "if the environment needs a secret, give it: --secret NAME=VARIABLE, the environment variable that holds it"
    return (
        f"if {name!r} is a secret of the environment, give it: --secret {name}=VARIABLE, the environment variable that holds it"
    )


def required_secrets_of(environment: str, connection: ClientOptions) -> list[str]:
    """Return the names of the secrets that the hosted platform says an environment requires. A server has no such list."""
    if connection.base_url is not None or "/" not in environment:
        return []
    from openreward_gym.platform import Platform

    try:
        limits = RetryLimits(attempts=1)
        platform = Platform(api_key_env=connection.api_key_env, timeout_s=10.0, retry_limits=limits)
        return platform.required_secrets(environment)
    except OpenRewardGymError:  # the error that is already known says more
        return []
