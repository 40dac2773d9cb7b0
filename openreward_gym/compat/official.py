"""What is passed through to the official SDK, where it is installed: sandboxes, judging, toolsets, tools and the server's side.

Nothing here imports the SDK before a name is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from openreward_gym.errors import MissingExtraError

INSTALL = "pip install 'openreward-gym[server]'"


def official_module(name: str, wanted: str = "") -> ModuleType:
    """Return a module of the SDK.

    Args:
        name: The module: `openreward.judging`.
        wanted: What is wanted of it, for the message.

    Raises:
        MissingExtraError: (an ImportError) The SDK is not installed, or this version of it has no such module.
    """
    try:
        importlib.import_module("openreward")
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
    if missing != "openreward" and not missing.startswith("openreward."):
        raise MissingExtraError(f"{wanted or name} needs the package {missing}: pip install 'openreward[tools]'")
    what = f"{wanted or name} is the official SDK's own"
    if missing == "openreward":
        raise MissingExtraError(f"{what}, which is not installed: {INSTALL}")
    raise MissingExtraError(f"{what}, and the installed version has no module {missing}: pip install --upgrade openreward")


def passing_through(module: str, official: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of `module`, which stands for the module `official` of the SDK.

    Example:
        >>> get, _ = passing_through("openreward_gym.compat.judging", "openreward.judging")
        >>> get("__path__")
        Traceback (most recent call last):
        AttributeError: module 'openreward_gym.compat.judging' has no attribute '__path__'
    """

    def get(name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return attribute(official, name, module)

    return get, lambda: sorted(dir(official_module(official)))


class _Submodules(MetaPathFinder, Loader):
    """Imports a module below one that is passed through, such as `openreward_gym.compat.toolsets.pdf`: it is the SDK's own."""

    _PACKAGES = ("environments", "judging", "tools", "toolsets")

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        within, _, below = name.removeprefix(f"{__package__}.").partition(".")
        if not name.startswith(f"{__package__}.") or within not in self._PACKAGES or not below:
            return None
        official = f"openreward.{within}.{below}"
        official_module(official.rpartition(".")[0], name)
        return ModuleSpec(name, self, origin=official) if importlib.util.find_spec(official) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = official_module(str(spec.origin), spec.name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It has run. The import has replaced its own specification.
        spec = module.__spec__
        module.__spec__ = spec.loader_state if spec is not None else None


sys.meta_path.append(_Submodules())


def attribute(official: str, name: str, module: str) -> Any:
    """Return an attribute of a module of the SDK, or its module of that name. `module` is the one that stands for it."""
    found = official_module(official, f"{module}.{name}")
    if hasattr(found, name):
        return getattr(found, name)
    try:
        return importlib.import_module(f"{official}.{name}")
    except ModuleNotFoundError:
        pass
    raise AttributeError(f"module {module!r} has no attribute {name!r}, because {official!r} has none")
