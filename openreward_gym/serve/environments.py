"""What may be served, and how it gets from the caller's process into the server's.

A name stays a name until the server loads it, so that naming an environment does not import the `openreward` SDK (which
takes seconds). A class travels pickled by cloudpickle, which carries classes that no module can be asked for: those of a
script, of a notebook, of a function.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.serve.examples import BUILT_IN

Servable: TypeAlias = "str | type[Any]"
"""A built-in name, a "module:Class" text, or an `openreward.environments.Environment` class."""


def check(environments: Servable | Iterable[Servable]) -> list[Servable]:
    """The list of what to serve, each entry of a kind that can be.

    Args:
        environments: What to serve; one alone may be given as it is.

    Raises:
        ConfigurationError: Nothing was given, or something that cannot be served.
        MissingExtraError: The `openreward` SDK (or `reasoning-gym`, where it is asked for) is not installed.
    """
    wanted = [environments] if isinstance(environments, str) or not isinstance(environments, Iterable) else list(environments)
    if not wanted:
        raise ConfigurationError(f"nothing to serve: {_choices()}")
    for environment in wanted:
        _check_one(environment)
    for package, name in (("openreward", "openreward"), ("uvicorn", "uvicorn"), ("reasoning_gym", "reasoning-gym")):
        if (package != "reasoning_gym" or "reasoning" in wanted) and importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"serving needs the package {name}, which is not installed: pip install 'openreward-gym[server]'"
            )
    return wanted


def load(environment: Servable) -> type[Any]:
    """The class to serve. Imports the `openreward` SDK.

    Raises:
        ConfigurationError: There is no such module or class, or it is not an Environment.
    """
    from openreward.environments import Environment

    found: Any = environment
    if isinstance(environment, str):
        module_name, _, class_name = BUILT_IN.get(environment, environment).partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the module is there, and something that it imports is not
            raise ConfigurationError(
                f"cannot serve {environment!r}: Python finds no module {error.name!r} from {os.getcwd()}"
            ) from None
        if not hasattr(module, class_name):
            classes = [name for name, value in vars(module).items() if _is_environment(value, Environment)]
            raise ConfigurationError(
                f"cannot serve {environment!r}: {module_name} has no {class_name!r}; its environments: {classes}"
            )
        found = getattr(module, class_name)
    if not _is_environment(found, Environment):
        raise ConfigurationError(f"cannot serve {found!r}: it is not a subclass of openreward.environments.Environment")
    return typing.cast("type[Any]", found)


def load_all(environments: Iterable[Servable]) -> list[type[Any]]:
    """The classes to serve, in their order; see `load`."""
    return [load(environment) for environment in environments]


def pack(environments: Sequence[Servable]) -> bytes:
    """`environments` as bytes that `unpack` reads in another process.

    Raises:
        ConfigurationError: A class holds something that cannot be pickled.
    """
    import cloudpickle

    with ExitStack() as stack:
        for environment in environments:
            if not isinstance(environment, str):
                stack.enter_context(_by_value(environment))
                stack.enter_context(_resolved_annotations(environment))
        try:
            return bytes(cloudpickle.dumps(list(environments)))
        except Exception as error:
            raise ConfigurationError(
                f"an environment's class cannot be sent to the server's process ({type(error).__name__}: {error}). It may use no "
                "open files, locks or connections of this process: make them in setup(), or put the class into a module"
            ) from error


def unpack(packed: bytes) -> list[Servable]:
    """What `pack` packed."""
    import cloudpickle

    return list(cloudpickle.loads(packed))


def _check_one(environment: Any) -> None:
    if isinstance(environment, str):
        if environment not in BUILT_IN and not _names_a_class(environment):
            raise ConfigurationError(f"there is no environment {environment!r} to serve: {_choices()}")
        return
    # A class of the SDK cannot be there without the SDK: looking it up in sys.modules never imports it.
    sdk = sys.modules.get("openreward.environments")
    if sdk is None or not _is_environment(environment, sdk.Environment):
        raise ConfigurationError(f"cannot serve {environment!r}: {_choices()}")
    if inspect.isabstract(environment):
        missing = sorted(environment.__abstractmethods__)
        raise ConfigurationError(f"cannot serve {environment.__name__}: it does not define {', '.join(missing)}")


def _choices() -> str:
    return (
        f"give built-in names ({', '.join(BUILT_IN)}), subclasses of openreward.environments.Environment, "
        'or texts like "my_package.my_module:MyEnvironment"'
    )


def _names_a_class(text: str) -> bool:
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _is_environment(value: Any, base: type[Any]) -> bool:
    return inspect.isclass(value) and issubclass(value, base) and value is not base


@contextmanager
def _by_value(environment: type[Any]) -> Iterator[None]:
    """Pickles the class with its code, not its address, where another process would not find its module."""
    import cloudpickle

    modules = {sys.modules[base.__module__] for base in environment.__mro__ if base.__module__ in sys.modules}
    known = cloudpickle.list_registry_pickle_by_value()
    unfindable = [module for module in modules if module.__name__ not in known and not _findable(module)]
    for module in unfindable:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in unfindable:
            cloudpickle.unregister_pickle_by_value(module)


def _findable(module: ModuleType) -> bool:
    """Whether a new process with this one's `sys.path` would import the same module under that name."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if name == "__main__" or file is None:
        return True  # cloudpickle takes __main__ by value without being told; built-in modules have no file
    parent = sys.modules.get(name.rpartition(".")[0])
    for finder in sys.meta_path:
        spec = finder.find_spec(name, getattr(parent, "__path__", None))
        if spec is not None:
            return not spec.has_location or os.path.realpath(str(spec.origin)) == os.path.realpath(file)
    return False


@contextmanager
def _resolved_annotations(environment: type[Any]) -> Iterator[None]:
    """Replaces annotations that are texts (`from __future__ import annotations`) by what they mean, for the time being.

    A function that is pickled by value takes along the globals that its code names; an annotation that is a text is not
    code, so the server would look for the tool's argument model in vain.
    """
    owners = [base for cls in (environment, *environment.toolsets) for base in cls.__mro__]
    members = [inspect.unwrap(getattr(member, "__func__", member)) for owner in owners for member in vars(owner).values()]
    changed: list[tuple[FunctionType, dict[str, Any]]] = []
    for function in members:
        if not isinstance(function, FunctionType) or not any(isinstance(a, str) for a in function.__annotations__.values()):
            continue
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError):
            continue  # the server will say what is wrong with it
        changed.append((function, function.__annotations__))
        function.__annotations__ = hints
    try:
        yield
    finally:
        for function, annotations in changed:
            function.__annotations__ = annotations
