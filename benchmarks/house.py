"""The size and shape of the package, of one checkout or of several side by side.

    python benchmarks/house.py [CHECKOUT ...] [--json] [--modules]

For each checkout (default: this one) it reads the files of `openreward_gym/` without importing them and prints:

- files and lines of Python, and files with fewer than 100 lines;
- modules that exactly one other module imports. Imports inside functions and for type checkers count; the `__init__` of a package
  counts as a module;
- import circles: groups of modules that import one another, directly or through others;
- names of classes that more than one module defines, without those that begin with an underscore;
- calls of `locals()`;
- parameters and returns annotated with `Any` in functions and methods whose names are public;
- docstrings, and those that open with a question word.

`--modules` lists the modules with their lines and importers, the members of each circle, and the repeated names.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGE = "openreward_gym"
SHORT = 100
QUESTION = re.compile(r"(What|Where|Whether|Who|Whose|How|Why|When|Which|If)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A parsed file of the package."""

    lines: int
    tree: ast.Module
    imports: frozenset[str]


@dataclass(frozen=True)
class House:
    """The counts of one checkout."""

    files: int
    lines: int
    files_under_100_lines: int
    modules_with_one_importer: int
    import_circles: int
    class_names_used_twice: int
    locals_calls: int
    any_in_public_signatures: int
    docstrings: int
    docstrings_that_open_with_a_question_word: int


def read(checkout: Path) -> dict[str, Module]:
    """Parse the package of a checkout: modules by dotted name."""
    paths: dict[str, Path] = {}
    for path in sorted((checkout / PACKAGE).rglob("*.py")):
        parts = path.relative_to(checkout).with_suffix("").parts
        if "node_modules" not in parts:
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    if not paths:
        raise SystemExit(f"{checkout} has no folder {PACKAGE}/ with Python files")
    modules = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, str(path))
        imports = _imported(tree, paths.keys()) - {name}
        modules[name] = Module(text.count("\n"), tree, frozenset(imports))
    return modules


def _imported(tree: ast.Module, package: Set[str]) -> set[str]:
    """Return the imported modules of the package; `from a import b` counts as `a.b` where that is a module, else as `a`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in package else node.module)
    return names & package


def importers(modules: dict[str, Module]) -> dict[str, list[str]]:
    """Return, for each module, the modules that import it."""
    users: dict[str, list[str]] = {name: [] for name in modules}
    for name, module in modules.items():
        for target in module.imports:
            users[target].append(name)
    return users


def circles(imports: dict[str, frozenset[str]]) -> list[list[str]]:
    """Return the strongly connected components with more than one member (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in imports[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            start = stack.index(name)
            component = stack[start:]
            del stack[start:]
            if len(component) > 1:
                components.append(sorted(component))

    for name in imports:
        if name not in index:
            visit(name)
    return sorted(components)


def class_names(modules: dict[str, Module]) -> Counter[str]:
    """Count the definitions of each public class name."""
    nodes = (node for module in modules.values() for node in ast.walk(module.tree))
    return Counter(node.name for node in nodes if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def signatures_with_any(node: ast.AST) -> int:
    """Count the parameters and returns annotated with `Any` in the public functions and methods below `node`."""
    count = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            if child.name == "__init__" or not child.name.startswith("_"):
                count += sum(_names_any(annotation) for annotation in _annotations(child))
        elif isinstance(child, ast.ClassDef):
            if not child.name.startswith("_"):
                count += signatures_with_any(child)
        else:
            count += signatures_with_any(child)
    return count


def _annotations(function: Function) -> list[ast.expr | None]:
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [*(parameter.annotation for parameter in parameters if parameter), function.returns]


def _names_any(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation))


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            text = ast.get_docstring(node)
            if text:
                yield text


def measure(modules: dict[str, Module]) -> House:
    """Count everything for the modules of one checkout."""
    texts = [text for module in modules.values() for text in docstrings(module.tree)]
    calls = [node.func for module in modules.values() for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    return House(
        files=len(modules),
        lines=sum(module.lines for module in modules.values()),
        files_under_100_lines=sum(module.lines < SHORT for module in modules.values()),
        modules_with_one_importer=sum(len(users) == 1 for users in importers(modules).values()),
        import_circles=len(circles({name: module.imports for name, module in modules.items()})),
        class_names_used_twice=sum(count > 1 for count in class_names(modules).values()),
        locals_calls=sum(isinstance(function, ast.Name) and function.id == "locals" for function in calls),
        any_in_public_signatures=sum(signatures_with_any(module.tree) for module in modules.values()),
        docstrings=len(texts),
        docstrings_that_open_with_a_question_word=sum(bool(QUESTION.match(text)) for text in texts),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the size and shape of the package.")
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).resolve().parent.parent])
    parser.add_argument("--json", action="store_true", help="print JSON: counts by checkout")
    parser.add_argument("--modules", action="store_true", help="list modules, importers, circles and repeated names too")
    options = parser.parse_args()
    parsed = {str(checkout): read(checkout) for checkout in options.checkouts}
    houses = {checkout: asdict(measure(modules)) for checkout, modules in parsed.items()}
    if options.json:
        print(json.dumps(houses, indent=2))
        return
    rows: dict[str, list[int]] = defaultdict(list)
    for counts in houses.values():
        for name, count in counts.items():
            rows[name.replace("_", " ")].append(count)
    for checkout in houses if len(houses) > 1 else ():
        print(checkout)
    for name, numbers in rows.items():
        print(f"{name:44}", *(f"{number:8,}" for number in numbers))
    for modules in parsed.values() if options.modules else ():
        for name, users in importers(modules).items():
            print(f"{name:60} {modules[name].lines:5} lines  imported by {', '.join(users) or 'no module'}")
        for circle in circles({name: module.imports for name, module in modules.items()}):
            print("circle:", ", ".join(circle))
        for name, count in class_names(modules).items():
            if count > 1:
                print(f"class {name}: defined {count} times")


if __name__ == "__main__":
    main()
