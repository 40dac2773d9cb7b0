"""Options that a trainer writes to its files and logs: nothing secret may be among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.options import EnvOptions
from openreward_gym.urls import hide_credentials


def refuse_secrets(options: Mapping[str, Any], what_happens: str) -> None:
    """Refuse options of `Episodes` that have credentials, or may have them.

    Args:
        options: The options.
        what_happens: What the trainer does with them, for the error: "verifiers records its tasks".

    Raises:
        ConfigurationError: `base_url` has credentials, or there is an option that may hold secrets.

    Example:
        >>> refuse_secrets({"env_overrides": {"KEY": "..."}}, "verl writes them to a file")
        Traceback (most recent call last):
        openreward_gym.errors.ConfigurationError: env_overrides cannot be an option here: it may hold secrets, and verl writes ...
    """
    base_url = options.get("base_url")
    if isinstance(base_url, str) and (shown := hide_credentials(base_url)) != base_url:
        raise ConfigurationError(
            f"base_url {shown!r} has credentials, and {what_happens}: leave base_url out and set OPENREWARD_URL"
        )
    for name, one in EnvOptions.declarations().items():
        if not one.repr and name != "base_url" and options.get(name) is not None:
            raise ConfigurationError(f"{name} cannot be an option here: it may hold secrets, and {what_happens}")
