"""The environment variables that the installed official SDK reads, found in its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"OPENREWARD_[A-Z][A-Z0-9_]*")


def variables_of(package: Path) -> dict[str, list[str]]:
    """Return the variables that the modules of a package read, each with the modules."""
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name in sorted(set(_read_in(tree))):
            found.setdefault(name, []).append(str(path.relative_to(package)))
    return found


def _read_in(tree: ast.Module) -> Iterator[str]:
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    # Functions that read the variable of which they are given the name.
    readers = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for key in map(_key, ast.walk(function))
        if isinstance(key, ast.Name) and key.id in [argument.arg for argument in function.args.args]
    }
    for node in ast.walk(tree):
        key = _key(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in readers and node.args:
            key = node.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
        elif isinstance(key, ast.Name) and key.id in constants:
            yield constants[key.id]
        # Names that are kept in tables.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
            yield node.value


def _key(node: ast.AST) -> ast.expr | None:
    """Return the name in `os.getenv(name)`, `os.environ.get(name)` or `os.environ[name]`."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        return node.slice
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.getenv", "os.environ.get") and node.args:
        return node.args[0]
    return None
