"""Run a program that may `await` at its top level, as in a notebook: `python run_block.py FILE`."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any


def main(file: str) -> None:
    # As `python FILE` does: import modules beside the program, and define its classes in `__main__`.
    sys.path[0] = ""
    module: dict[str, Any] = vars(sys.modules["__main__"])
    module["__file__"] = file
    code: CodeType = compile(Path(file).read_text(encoding="utf-8"), file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = FunctionType(code, module)()
    if inspect.iscoroutine(result):
        asyncio.run(result)


main(sys.argv[1])
