"""What may be served, and how it gets from the caller's process into the server's.

A name stays a name until the server loads it, so that naming an environment does not import the `openreward` SDK (which
takes seconds). A class travels pickled by cloudpickle, which carries classes that no module can be asked for: those of a
script, of a notebook, of a function.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import importlib.util
import inspect
import os
import sys
import typing
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import EnvSpec

from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.serve.bridge import class_of
from openreward_gym.serve.examples import BUILT_IN
from openreward_gym.serve.recipes import Recipe, recipe_of

Servable: TypeAlias = "str | type[Any] | EnvSpec | Recipe"
"""A built-in name, a "module:Class" or "path/to/file.py:Class" text, an `openreward.environments.Environment` class; or an
environment of Gymnasium's: its id, its spec or its recipe."""


def check(environments: Servable | Iterable[Servable]) -> list[Servable]:
    """The list of what to serve, each entry of a kind that can be.

    Args:
        environments: What to serve; one alone may be given as it is. Gymnasium's ids are looked up here, where they are
            registered.

    Raises:
        ConfigurationError: Nothing was given, or something that cannot be served.
        MissingExtraError: The `openreward` SDK (or `reasoning-gym`, where it is asked for) is not installed.
    """
    given = [environments] if isinstance(environments, str) or not isinstance(environments, Iterable) else list(environments)
    if not given:
        raise ConfigurationError(f"nothing to serve: {_choices()}")
    wanted = [_checked(environment) for environment in given]
    for package, name in (("openreward", "openreward"), ("uvicorn", "uvicorn"), ("reasoning_gym", "reasoning-gym")):
        if (package != "reasoning_gym" or "reasoning" in wanted) and importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"serving needs the package {name}, which is not installed: pip install 'openreward-gym[server]'"
            )
    return wanted


def shown(environment: Servable) -> str:
    """A servable's name, to people."""
    if isinstance(environment, str):
        return environment
    return environment.__name__ if isinstance(environment, type) else environment.name


def load(environment: Servable) -> type[Any]:
    """The class to serve. Imports the `openreward` SDK.

    Raises:
        ConfigurationError: There is no such module or class, or it is not an Environment.
    """
    from openreward.environments import Environment

    found: Any = environment
    if isinstance(environment, Recipe):
        return class_of(environment)
    if isinstance(environment, str):
        module_name, _, class_name = BUILT_IN.get(environment, environment).rpartition(":")
        module = _module_of(module_name, environment)
        if not hasattr(module, class_name):
            classes = [name for name, value in vars(module).items() if _is_environment(value, Environment)]
            has = f"; its environments: {classes}" if classes else ", nor any subclass of openreward.environments.Environment"
            raise ConfigurationError(f"cannot serve {environment!r}: {module_name} has no {class_name!r}{has}")
        found = getattr(module, class_name)
    if not _is_environment(found, Environment):
        raise ConfigurationError(f"cannot serve {environment!r}: {_why_not(found)}")
    _check_concrete(found)
    return typing.cast("type[Any]", found)


def _why_not(found: Any) -> str:
    """Why `found` is no environment of the SDK's."""
    if inspect.isclass(found) and issubclass(found, gymnasium.Env):
        return f"{found.__name__} is a gymnasium.Env: register it with gymnasium.register and serve its id, module:Name-v0"
    what = f"the class {found.__name__}" if inspect.isclass(found) else f"{found!r}"
    return f"{what} is not a subclass of openreward.environments.Environment"


def _check_concrete(cls: type[Any]) -> None:
    if inspect.isabstract(cls):
        missing = sorted(cls.__abstractmethods__)
        raise ConfigurationError(f"cannot serve {cls.__name__}: it does not define {', '.join(missing)}")


def _module_of(name: str, environment: str) -> ModuleType:
    """The module, or the file, that `environment` names.

    Raises:
        ConfigurationError: There is none. What is wrong in it is raised as it is.
    """
    try:
        return from_file(name) if name.endswith(".py") else importlib.import_module(name)
    except FileNotFoundError as error:
        if error.filename != str(Path(name).resolve()):
            raise
        raise ConfigurationError(f"cannot serve {environment!r}: there is no file {error.filename}") from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise ConfigurationError(
            f"cannot serve {environment!r}: Python finds no module {error.name!r} from {os.getcwd()}"
        ) from None


def from_file(path: str) -> ModuleType:
    """The module of a Python file, imported once, with what lies beside it importable."""
    file = Path(path).resolve()
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if known is not None:
        name = f"{name}_{zlib.crc32(str(file).encode()):08x}"  # another module has the name
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


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
            if isinstance(environment, Recipe):
                stack.enter_context(_by_value([environment.source, getattr(environment.source, "entry_point", None)]))
            elif isinstance(environment, type):
                stack.enter_context(_by_value(environment.__mro__))
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


def _checked(environment: Any) -> Servable:
    """`environment` as one that can be served, one of Gymnasium's as its recipe."""
    if isinstance(environment, Recipe):
        return environment
    if isinstance(environment, EnvSpec):
        return recipe_of(environment)
    if isinstance(environment, str):
        if environment in BUILT_IN:
            return environment
        if environment.endswith((".py", ".py:")):
            file = environment.removesuffix(":")
            _check_file(environment, file)
            raise ConfigurationError(f"cannot serve {environment!r}: say which class of it, as in {file}:MyEnvironment")
        if _names_a_class(environment):
            file = environment.rpartition(":")[0]
            if file.endswith(".py"):
                _check_file(environment, file)
            return environment
        try:
            return recipe_of(environment)
        except ConfigurationError as error:
            close = difflib.get_close_matches(environment, BUILT_IN, n=1)
            hint = f"did you mean {close[0]!r}?" if close else str(error)
            raise ConfigurationError(f"there is no environment {environment!r} to serve: {_choices()}. {hint}") from None
    # A class of the SDK cannot be there without the SDK: looking it up in sys.modules never imports it.
    sdk = sys.modules.get("openreward.environments")
    if sdk is None or not _is_environment(environment, sdk.Environment):
        raise ConfigurationError(f"cannot serve {environment!r}: {_choices()}")
    # A bridged class is made anew where it is served.
    recipe = vars(environment).get("recipe")
    if isinstance(recipe, Recipe):
        return recipe
    _check_concrete(environment)
    return typing.cast("type[Any]", environment)


def _check_file(environment: str, file: str) -> None:
    path = Path(file).resolve()
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise ConfigurationError(f"cannot serve {environment!r}: {what}; check the path")


def _choices() -> str:
    return (
        f"give built-in names ({', '.join(BUILT_IN)}), subclasses of openreward.environments.Environment, "
        'texts like "my_package.my_module:MyEnvironment" or "my_file.py:MyEnvironment", or Gymnasium ids like "FrozenLake-v1"'
    )


def _names_a_class(text: str) -> bool:
    module, colon, name = text.rpartition(":")
    is_module = module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    return bool(colon) and name.isidentifier() and is_module


def _is_environment(value: Any, base: type[Any]) -> bool:
    return inspect.isclass(value) and issubclass(value, base) and value is not base


@contextmanager
def _by_value(members: Iterable[Any]) -> Iterator[None]:
    """Pickles classes and functions with their code, not their address, where another process would not find their modules."""
    import cloudpickle

    names = {getattr(member, "__module__", None) for member in members}
    modules = {sys.modules[name] for name in names if name in sys.modules}
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
