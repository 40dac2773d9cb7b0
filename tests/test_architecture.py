"""The architecture: allowed imports, the cost of an import, public names, sizes."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import openreward_gym

ROOT = Path(openreward_gym.__file__).parent

# A module imports from its own floor and from lower ones, never from a higher one. The longest prefix decides.
FLOORS = {
    "errors": 0,
    "user_traceback": 0,
    "hiding": 0,
    "urls": 0,
    "types": 0,
    "jsonio": 0,
    "plugins": 0,
    "lazy": 0,
    "images": 0,
    "processes": 0,
    "terminal": 0,
    "checks": 0,
    "suggestions": 0,
    "retrying": 0,
    "credentials": 0,
    "variables": 0,
    "logs": 0,
    "redaction": 1,
    "options": 1,
    "protocol": 2,
    "protocol.wire": 1,
    "platform": 2,
    "store": 2,
    "chat": 2,
    "envs": 3,
    "envs.spaces": 1,
    "recording": 3,
    "importers": 3,
    "wrappers": 4,
    "policies": 4,
    "reports": 4,
    "export": 5,
    "serve": 5,
    "testing": 5,
    "collect": 6,
    "viewer": 6,
    "compat": 6,
    "collect.ray": 7,
    "collect.ray_worker": 7,
    "integrations": 7,
    "cli": 8,
    "__main__": 8,
}
# Rooms that do not know each other; the spaces of envs, which know nothing of the network, are for all.
APART = [
    ("store", "protocol"),
    ("store", "envs"),
    ("store", "platform"),
    ("chat", "protocol"),
    ("chat", "store"),
    ("reports", "protocol"),
    ("reports", "envs"),
    ("export", "protocol"),
    ("export", "envs"),
    ("importers", "protocol"),
    ("importers", "envs"),
    ("export", "viewer"),
    ("export", "serve"),
    ("export", "collect"),
    ("viewer", "envs"),
    ("viewer", "collect"),
    *(
        (f"viewer.{module}", "protocol")
        for module in ("app", "filters", "index", "lens", "page", "queries", "rows", "search", "server")
    ),
    ("policies", "wrappers"),
    ("policies", "envs"),
    ("envs", "policies"),
    ("envs", "collect"),
]
ONLY_IN = {
    "httpx": ["protocol.transport", "integrations.verifiers"],
    "httptools": ["protocol.connection"],
    "starlette": ["viewer", "serve", "integrations"],
    "uvicorn": ["viewer", "serve", "integrations"],
    "fastapi": ["integrations"],
    "openreward": ["serve", "compat.client"],  # there for type checking alone
    "datasets": ["export", "cli.demo", "integrations"],
    "transformers": ["export", "policies", "wrappers.tokens", "integrations"],
    "ray": ["collect.ray", "collect.ray_worker"],
    "matplotlib": ["reports.plots"],
    "torch": ["policies", "integrations"],
    "trl": ["integrations.trl"],
    "verifiers": ["integrations.verifiers"],
    "skyrl_gym": ["integrations.skyrl"],
    "verl": ["integrations.verl"],
    "tinker": ["integrations.tinker"],
    "tinker_cookbook": ["integrations.tinker"],
    "nemo_gym": ["integrations.nemo_gym"],
    "inspect_ai": ["integrations.inspect"],
    "openenv": ["integrations.openenv"],
    "typer": ["cli"],
}
BUDGET = [
    "datasets",
    "transformers",
    "torch",
    "openreward",
    "starlette",
    "ray",
    "pyarrow",
    "pandas",
    "uvicorn",
    "aiohttp",
    "matplotlib",
]


@functools.cache
def modules() -> tuple[str, ...]:
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if "node_modules" in parts or "web" in parts:
            continue
        if parts[-1] == "__init__":
            parts.pop()
        names.append(".".join(parts))
    return tuple(name for name in names if name)


def within(module: str, place: str) -> bool:
    return module == place or module.startswith(place + ".")


def floor(module: str) -> int:
    fitting = [place for place in FLOORS if within(module, place)]
    assert fitting, f"openreward_gym.{module} has no floor: add its room to FLOORS in {Path(__file__).name}"
    return FLOORS[max(fitting, key=len)]


@functools.cache
def imports(module: str) -> list[tuple[str, int]]:
    """(absolute name, line) of every import in the module, those inside functions too."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                is_module = base.startswith("openreward_gym") and whole.removeprefix("openreward_gym.") in modules()
                found.append((whole if is_module else base, node.lineno))
    return found


def ours(name: str) -> str | None:
    return name.removeprefix("openreward_gym.") if name.startswith("openreward_gym.") else None


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_its_own_floor_and_below(module: str) -> None:
    for name, line in imports(module):
        target = ours(name)
        if target is not None:
            assert floor(target) <= floor(module), f"{module}:{line} (floor {floor(module)}) imports {target} ({floor(target)})"


def test_no_imports_in_a_circle() -> None:
    """Imports inside functions and for type checking count: a circle is one idea in several files."""
    graph = {module: {target for name, _ in imports(module) if (target := ours(name)) in modules()} for module in modules()}
    order = graphlib.TopologicalSorter({module: targets - {module} for module, targets in graph.items()})
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", modules())
def test_rooms_that_do_not_know_each_other(module: str) -> None:
    for here, there in APART:
        if within(module, here):
            for name, line in imports(module):
                target = ours(name)
                known = target is None or not within(target, there) or (floor(target) == 1 and there == "envs")
                assert known, f"{module}:{line}: {here} does not know {there}"


@pytest.mark.parametrize("module", modules())
def test_a_library_is_named_only_in_its_room(module: str) -> None:
    for name, line in imports(module):
        rooms = ONLY_IN.get(name.split(".")[0])
        if rooms is not None:
            assert any(within(module, room) for room in rooms), f"{module}:{line} names {name}; only {rooms or 'nobody'} may"


def test_the_import_loads_nothing_heavy() -> None:
    code = f"import openreward_gym, sys; print([m for m in {BUDGET} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in openreward_gym.__all__:
        assert getattr(openreward_gym, name) is not None
    assert set(openreward_gym.__all__) <= set(dir(openreward_gym))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = openreward_gym.no_such_name  # type: ignore[attr-defined]


def test_collect_is_a_function_and_a_room() -> None:
    """`collect` is the function, and its room can be imported, whichever was imported first."""
    importlib.import_module("openreward_gym.policies")
    from openreward_gym import collect

    assert callable(collect)
    assert openreward_gym.collect is collect
    for first in ("import openreward_gym.collect", "from openreward_gym import collect"):
        code = f"{first}; import openreward_gym.policies; from openreward_gym import collect; assert callable(collect)"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_the_link_at_the_top_leads_to_the_wrappers() -> None:
    link = ROOT.parent / "wrappers"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "wrappers"


def test_files_and_functions_stay_readable() -> None:
    """Rule 1 of the house: a file holds one idea, up to about 600 lines; a function has up to about 60."""
    for module in modules():
        path = ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 620, f"{path} has {text.count(chr(10))} lines: split it by idea"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                # Signatures and docstrings do not count: only statements have to be followed.
                length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                docstring = ast.get_docstring(node, clean=False) or ""
                assert length - docstring.count("\n") <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"
