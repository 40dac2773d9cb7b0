"""Duration of one sample, one check and one batch of the spaces.

    python benchmarks/spaces.py

Results on 2 shared cores (Xeon, 2.5 GHz), Python 3.11, Gymnasium 1.4, the best of five means:

    a call of a tool that takes     sample    contains   validate
    one string                       31 us      1.3 us      15 us
    five arguments                   61 us      1.3 us      26 us
    a tree (recursive, patterns)     92 us      1.4 us      87 us

    batch_space of 50 tools for 256 environments   23 ms
    UnicodeText sample                             13 us
    BlocksSpace sample                             20 us

Growth, in CPU seconds of a new space with two samples and two checks, on another, busy machine with 2 cores:

    enum of 25,000, 50,000, 100,000, 200,000 names        0.15   0.12   0.25   0.42
    anyOf of 2,500, 5,000, 10,000, 20,000 constants       0.08   0.08   0.16   0.32
    anyOf of 250, 500, 1,000, 2,000 objects               0.01   0.02   0.03   0.07
    250, 500, 1,000, 2,000 properties                     0.02   0.03   0.06   0.12
    lists in 5, 10, 20, 40 levels                         0.01   0.01   0.02   0.04
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Callable
from typing import Any, Literal

from gymnasium.vector.utils import batch_space
from pydantic import BaseModel, Field

from openreward_gym.envs.spaces import BlocksSpace, ToolCallSpace, UnicodeText
from openreward_gym.types import ToolSpec


class Search(BaseModel):
    query: str
    limit: int = Field(10, ge=1, le=100)
    sort: Literal["date", "score"] = "score"
    sites: list[str] = []
    after: str | None = None


class Node(BaseModel):
    label: str = Field(pattern=r"^[A-Z]\w+$")
    children: list[Node] = []


SMALL = ToolSpec("get_weather", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
TYPICAL = ToolSpec("search", "", Search.model_json_schema())
RECURSIVE = ToolSpec("draw", "", Node.model_json_schema())


GROWING: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
    "enum": (25_000, lambda n: {"type": "string", "enum": [f"name {i}" for i in range(n)]}),
    "anyOf of constants": (2_500, lambda n: {"anyOf": [{"const": f"name {i}"} for i in range(n)]}),
    "anyOf of objects": (250, lambda n: {"anyOf": [{"type": "object", "properties": {f"p{i}": {}}} for i in range(n)]}),
    "properties": (250, lambda n: {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(n)}}),
    "depth": (5, lambda n: {"type": "array", "minItems": 1, "items": {} if n == 1 else GROWING["depth"][1](n - 1)}),
}


def microseconds(action: Callable[[], Any], number: int) -> float:
    """Return the best of five mean durations per call, in microseconds."""
    action()
    return min(timeit.repeat(action, number=number, repeat=5)) / number * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=2_000, help="calls per measurement")
    number = parser.parse_args().number
    for name, tool in {"one string": SMALL, "five arguments": TYPICAL, "a tree": RECURSIVE}.items():
        space = ToolCallSpace([tool], seed=0)
        call = space.sample()
        print(f"ToolCallSpace of {name:15} sample   {microseconds(space.sample, number):8.1f} us")
        print(f"ToolCallSpace of {name:15} contains {microseconds(lambda: space.contains(call), number):8.1f} us")  # noqa: B023
        print(f"ToolCallSpace of {name:15} validate {microseconds(lambda: space.validate(call), number):8.1f} us")  # noqa: B023
    large = ToolCallSpace([ToolSpec(f"tool_{i}", "", TYPICAL.input_schema) for i in range(50)], seed=0)
    print(f"batch_space of 50 tools, n=256      {microseconds(lambda: batch_space(large, 256), 5) / 1e3:8.1f} ms")
    print(f"UnicodeText sample                  {microseconds(UnicodeText(seed=0).sample, number):8.1f} us")
    print(f"BlocksSpace sample                  {microseconds(BlocksSpace(seed=0).sample, number):8.1f} us")
    show_growth()


def show_growth() -> None:
    """Print the CPU seconds of a new space, two samples and two checks, each schema twice as large as the one before."""
    print("\ngrowth of schemas: seconds at doubled sizes")
    for name, (size, schema_of) in GROWING.items():
        times = []
        for factor in (1, 2, 4, 8):
            tool = ToolSpec("go", "", {"type": "object", "properties": {"x": schema_of(size * factor)}, "required": ["x"]})
            began = time.process_time()
            space = ToolCallSpace([tool], seed=0, strict=True)
            for _ in range(2):
                space.contains(space.sample())
            times.append(time.process_time() - began)
        print(f"{name:20} {size:7,} to {size * 8:7,}   {'   '.join(f'{taken:.3f}' for taken in times)}")


if __name__ == "__main__":
    main()
