"""The environments to serve: their checks, and their way from the caller's process to the server's.

A name stays a name until the server loads it, so naming an environment does not import the `openreward` SDK, which takes
seconds. Classes are pickled by cloudpickle, which can also pickle those of a script, a notebook or a function.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import typing
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import EnvSpec

from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.serve.bridge import class_of
from openreward_gym.serve.examples import BUILT_IN
from openreward_gym.serve.recipe import Recipe, recipe_of
from openreward_gym.suggestions import nearest

Servable: TypeAlias = "str | type[Any] | EnvSpec | Recipe"
"""A built-in name, a "module:Class" or "path/to/file.py:Class" string, an `openreward.environments.Environment` class; or a
Gymnasium environment as its id, its spec or its recipe."""

_CHOICES = (
    f"pass built-in names ({', '.join(BUILT_IN)}), subclasses of openreward.environments.Environment, "
    'strings like "my_package.my_module:MyEnvironment" or "my_file.py:MyEnvironment", or Gymnasium ids like "FrozenLake-v1"'
)


def check(environments: Servable | Iterable[Servable]) -> list[Servable]:
    """Return the environments as a list, after checking what can be checked without loading them.

    Gymnasium ids are resolved here, because only this process may have them registered.

    Raises:
        ConfigurationError: `environments` is empty, or one of them cannot be served.
        MissingExtraError: The `openreward` SDK (or `reasoning-gym`, for the environment "reasoning") is not installed.
    """
    single = isinstance(environments, str) or not isinstance(environments, Iterable)
    checked = [_check(environment) for environment in ([environments] if single else environments)]  # type: ignore[union-attr]
    if not checked:
        raise ConfigurationError(f"nothing to serve: {_CHOICES}")
    for package in ("openreward", "uvicorn", *(["reasoning-gym"] if "reasoning" in checked else [])):
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            raise MissingExtraError(
                f"serving needs the package {package}, which is not installed: pip install 'openreward-gym[server]'"
            )
    return checked


def display_name(environment: Servable) -> str:
    """Return an environment's name for messages."""
    if isinstance(environment, str):
        return environment
    named = _as_recipe(environment)
    return str(named.__name__ if isinstance(named, type) else named.name)


def load(environment: Servable) -> type[Any]:
    """Return the class to serve, or raise a ConfigurationError. Imports the `openreward` SDK."""
    from openreward.environments import Environment

    if isinstance(environment, Recipe):
        return class_of(environment)
    loaded: Any = environment
    if isinstance(environment, str):
        module_name, _, class_name = BUILT_IN.get(environment, environment).rpartition(":")
        module = _import(module_name, environment)
        if not hasattr(module, class_name):
            classes = [name for name, value in vars(module).items() if _is_environment(value, Environment)]
            has = f"; its environments: {classes}" if classes else ", nor any subclass of openreward.environments.Environment"
            raise ConfigurationError(f"cannot serve {environment!r}: {module_name} has no {class_name!r}{has}")
        loaded = getattr(module, class_name)
    if not _is_environment(loaded, Environment):
        kind = f"the class {loaded.__name__}" if inspect.isclass(loaded) else f"{loaded!r}"
        problem = "is not a subclass of openreward.environments.Environment"
        if inspect.isclass(loaded) and issubclass(loaded, gymnasium.Env):
            problem = "is a gymnasium.Env: register it with gymnasium.register and serve its id, module:Name-v0"
        raise ConfigurationError(f"cannot serve {environment!r}: {kind} {problem}")
    _check_concrete(loaded)
    return typing.cast("type[Any]", loaded)


def _check_concrete(cls: type[Any]) -> None:
    if inspect.isabstract(cls):
        raise ConfigurationError(f"cannot serve {cls.__name__}: it does not define {', '.join(sorted(cls.__abstractmethods__))}")


def _import(name: str, environment: str) -> ModuleType:
    """Import the module or the file `name` of `environment`. Errors of its code are raised unchanged."""
    if name.endswith(".py"):
        _check_file(environment, name)
        return _import_file(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        problem = f"Python finds no module {error.name!r} from {os.getcwd()}"
        raise ConfigurationError(f"cannot serve {environment!r}: {problem}") from None


def _import_file(path: str) -> ModuleType:
    """Import a Python file once. Its folder is added to `sys.path`, so that it can import the modules beside it."""
    file = Path(path).resolve()
    name = file.stem
    imported = sys.modules.get(name)
    if imported is not None and getattr(imported, "__file__", None) == str(file):
        return imported
    if imported is not None:
        name = f"{name}_{zlib.crc32(str(file).encode()):08x}"  # another module has the name
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
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


def pack(environments: Sequence[Servable]) -> bytes:
    """Return `environments` as bytes, for `pickle.loads` in another process, or raise a ConfigurationError."""
    import cloudpickle

    # A bridged class is made again where it is served.
    environments = [_as_recipe(environment) for environment in environments]
    with ExitStack() as stack:
        for environment in environments:
            if isinstance(environment, Recipe):
                stack.enter_context(_by_value([environment.source, getattr(environment.source, "entry_point", None)]))
            elif isinstance(environment, type):
                stack.enter_context(_by_value(environment.__mro__))
                stack.enter_context(_resolved_annotations(environment))
        try:
            return bytes(cloudpickle.dumps(environments))
        except Exception as error:
            raise ConfigurationError(
                f"an environment's class cannot be sent to the server's process ({type(error).__name__}: {error}). It must not "
                "use open files, locks or connections of this process: make them in setup(), or put the class into a module"
            ) from error


def _check(environment: Any) -> Servable:
    """Return `environment` if it can be served, or its recipe if it is an id or a spec of Gymnasium."""
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
            raise ConfigurationError(f"cannot serve {environment!r}: name the class too, as in {file}:MyEnvironment")
        module, _, name = environment.rpartition(":")
        if module.endswith(".py") and name.isidentifier():
            _check_file(environment, module)
            return environment
        if all(part.isidentifier() for part in (*module.split("."), name)):
            return environment
        try:
            return recipe_of(environment)
        except ConfigurationError as error:
            near = nearest(environment, BUILT_IN)
            if near is not None:
                text = f"there is no environment {environment!r} to serve: did you mean {near!r}? Otherwise {_CHOICES}"
                raise ConfigurationError(text) from None
            raise ConfigurationError(f"there is no environment {environment!r} to serve: {_CHOICES}. {error}") from None
    # A class of the SDK exists only if the SDK is imported already, so this never imports it.
    sdk = sys.modules.get("openreward.environments")
    if sdk is None or not _is_environment(environment, sdk.Environment):
        raise ConfigurationError(f"cannot serve {environment!r}: {_CHOICES}")
    _check_concrete(environment)
    return typing.cast("type[Any]", environment)


def _as_recipe(environment: Any) -> Any:
    """Return the recipe of a bridged class, and anything else unchanged."""
    recipe = vars(environment).get("recipe") if isinstance(environment, type) else None
    return recipe if isinstance(recipe, Recipe) else environment


def _check_file(environment: str, file: str) -> None:
    path = Path(file).resolve()
    if not path.is_file():
        problem = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise ConfigurationError(f"cannot serve {environment!r}: {problem}; check the path")


def _is_environment(value: Any, base: type[Any]) -> bool:
    return inspect.isclass(value) and issubclass(value, base) and value is not base


@contextmanager
def _by_value(members: Iterable[Any]) -> Iterator[None]:
    """Let cloudpickle pickle the code of classes and functions whose modules another process would not find."""
    import cloudpickle

    names = {getattr(member, "__module__", None) for member in members}
    modules = {sys.modules[name] for name in names if name in sys.modules}
    registered = cloudpickle.list_registry_pickle_by_value()
    unfindable = [module for module in modules if module.__name__ not in registered and not _findable(module)]
    for module in unfindable:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in unfindable:
            cloudpickle.unregister_pickle_by_value(module)


def _findable(module: ModuleType) -> bool:
    """Return True if a new process with this `sys.path` would import the same module under that name."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if name == "__main__" or file is None:
        return True  # cloudpickle always pickles __main__ by value; built-in modules have no file
    parent = sys.modules.get(name.rpartition(".")[0])
    for finder in sys.meta_path:
        spec = finder.find_spec(name, getattr(parent, "__path__", None))
        if spec is not None:
            return not spec.has_location or os.path.realpath(str(spec.origin)) == os.path.realpath(file)
    return False


@contextmanager
def _resolved_annotations(environment: type[Any]) -> Iterator[None]:
    """Replace string annotations by their types: functions pickled by value take along only the globals that their code uses."""
    changed: list[tuple[FunctionType, dict[str, Any]]] = []
    for owner in [base for cls in (environment, *environment.toolsets) for base in cls.__mro__]:
        for member in vars(owner).values():
            function = inspect.unwrap(getattr(member, "__func__", member))
            annotations = function.__annotations__ if isinstance(function, FunctionType) else {}
            if any(isinstance(annotation, str) for annotation in annotations.values()):
                # Hints that cannot be evaluated are left: the SDK reports them when it lists the tools.
                with suppress(NameError, TypeError):
                    function.__annotations__ = typing.get_type_hints(function, include_extras=True)
                    changed.append((function, annotations))
    try:
        yield
    finally:
        for function, annotations in changed:
            function.__annotations__ = annotations
