"""Plugins: objects that other distributions offer through entry points.

A distribution offers, for example, an export format in its `pyproject.toml`:

    [project.entry-points."openreward_gym.exporters"]
    plain_text = "my_package.formats:PlainText"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from openreward_gym.errors import ConfigurationError


def names(group: str) -> tuple[str, ...]:
    """Return the names that the installed distributions offer in a group, sorted.

    >>> names("openreward_gym.no_such_group")
    ()
    """
    return tuple(sorted(entry_points(group=group).names))


def find(group: str, name: str) -> object | None:
    """Import the object that a distribution offers under a name; None if no distribution offers it.

    Raises:
        ConfigurationError: The object cannot be imported, or two distributions offer the name.
    """
    entries = list(entry_points(group=group, name=name))
    if not entries:
        return None
    if len(entries) > 1:
        owners = " and ".join(sorted(map(_owner, entries)))
        raise ConfigurationError(f"{owners} both offer {name!r} in the entry points {group!r}: uninstall one of them")
    try:
        loaded: object = entries[0].load()
    except Exception as error:
        raise ConfigurationError(
            f"the plugin {name!r} ({entries[0].value}) of the distribution {_owner(entries[0])} cannot be imported: {error!r}"
        ) from error
    return loaded


def _owner(entry: EntryPoint) -> str:
    return repr(entry.dist.name) if entry.dist is not None else "an unnamed distribution"
