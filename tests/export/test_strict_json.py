"""Every line and every text of JSON in a row is strict JSON, whatever numbers a rollout has."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
from export_rollouts import assistant, call, episode, result
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.errors import ConfigurationError, RecordError
from openreward_gym.export.options import EXTRA_COLUMNS
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout, Task, ToolSpec

NUMBERS = st.sampled_from([math.inf, -math.inf, math.nan, 1.5, 0, None])
VALUES = st.recursive(
    NUMBERS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3)


def strict(text: str | bytes) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {text!r}")

    return json.loads(text, parse_constant=refuse)


def check(value: Any) -> None:
    """Check all JSON inside a value: whatever Python's reader takes for an object or a list."""
    if isinstance(value, str):
        try:
            inside = json.loads(value) if value[:1] in ("{", "[") else None
        except ValueError:
            return
        if inside is not None:
            check(strict(value))
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            check(item)


def rows_of(folder: Path) -> Iterator[Any]:
    for file in sorted(folder.rglob("train*")):
        if file.suffix == ".parquet":
            yield from pq.read_table(file).to_pylist()
        else:
            yield from map(strict, file.read_text().splitlines())


def rollouts_with(one: Any, other: Any, reward: Any) -> list[Rollout]:
    made = []
    for number, end in enumerate(("no", "yes")):
        turns = [assistant("", call("f", one), metadata=other), result("r", metadata=other), assistant(end)]
        rollout = episode(
            *turns,
            reward=reward if number else 0.0,
            tools=[ToolSpec("f", input_schema={"type": "object", "default": other})],
            group="g",
            id=f"r{number}",
            run="run",
            metadata=other,
            sampling={"temperature": reward, "extra_body": other},
            model={"name": "m", "x": one},
            metrics={"m": reward},
            advantage=reward,
        )
        rollout.task = Task(id="t", index=0, spec=one, golden_answer=other)
        made.append(rollout)
    return made


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(OBJECTS, OBJECTS, NUMBERS.filter(lambda number: number is not None), st.sampled_from(["json", "string"]))
def test_all_json_is_strict_and_a_store_makes_no_difference(one: Any, other: Any, reward: float, compat: Any) -> None:
    rollouts = rollouts_with(one, other, reward)
    options: dict[str, Any] = {"compat": compat, "columns": tuple(EXTRA_COLUMNS), "answers": True, "tokenizer": tiny_tokenizer()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with RolloutStore(folder / "run") as store:
            for rollout in rollouts:
                store.append(rollout)
        export.write(rollouts, folder / "memory", list(export.FORMATS), **options)
        export.write(folder / "run", folder / "stored", list(export.FORMATS), **options)
        check(strict((folder / "memory" / "report.json").read_text()))
        memory, stored = (list(rows_of(folder / place)) for place in ("memory", "stored"))
    assert len(memory) > 10
    for row in memory:
        check(row)
    assert str(memory) == str(stored)


def test_infinite_arguments_are_text_in_every_column(tmp_path: Path) -> None:
    (row,) = export.to_dataset(
        [episode(assistant("", call("f", {"x": math.inf})), result("r"), assistant("end"))], compat="string"
    )
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"x":"inf"}'


def test_a_line_with_words_that_are_no_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    line = episode(assistant("a"), metadata={"x": 1.25}).to_line().replace("1.25", "NaN")
    with RolloutStore(tmp_path / "run") as store:
        store.append(episode(assistant("b")))
    (shard,) = (tmp_path / "run").rglob("*.jsonl")
    shard.write_text(line + "\n")
    (row,) = export.to_dataset(tmp_path / "run", format="rollouts")
    assert row["record"]["metadata"] == {"x": "nan"}


def test_values_that_are_no_json_are_named() -> None:
    with pytest.raises(RecordError, match=r"the rollout r1 has a value that is not JSON: .*float32"):
        export.to_dataset([episode(assistant("", call("f", {"x": np.float32(1)})), id="r1")])


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": [-Infinity]}'])
def test_options_of_a_template_are_strict_json(text: str) -> None:
    for value in (text, json.loads(text)):
        with pytest.raises(ConfigurationError, match="chat_template_kwargs must be a JSON object"):
            export.to_dataset([episode(assistant("a"))], chat_template_kwargs=cast(Any, value))


def test_rewards_at_the_end_of_the_range_have_a_report(tmp_path: Path) -> None:
    rollouts = [episode(assistant(str(n)), reward=1.7e308) for n in range(3)]
    export.write(rollouts, tmp_path, ["sft"])
    assert strict((tmp_path / "report.json").read_text())["formats"]["sft"]["rewards"]["mean"] == 1.7e308
