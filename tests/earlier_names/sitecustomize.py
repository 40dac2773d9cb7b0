"""Names of an earlier layout, for the cases beside the checkout that were written with them.

    PYTHONPATH=tests/earlier_names bash ../shared/cases/run viewer

A program that puts this folder on its path can import `openreward_gym.rollouts.record` and `openreward_gym.rollouts.labels`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

_NAMES = ("openreward_gym.rollouts", "openreward_gym.rollouts.record", "openreward_gym.rollouts.labels")


class _EarlierNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=name == _NAMES[0]) if name in _NAMES else None

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ == _NAMES[1]:
            _add_records(module)
        elif module.__name__ == _NAMES[2]:
            from openreward_gym.store import read_labels

            vars(module).update(read_labels=read_labels)


def _add_records(module: types.ModuleType) -> None:
    from openreward_gym import types as now

    def message(role: Any, tool_call_id: str | None = None, **fields: Any) -> now.Message:
        return now.Message(role=role, call_id=tool_call_id, **{**fields, "blocks": tuple(fields.get("blocks", ()))})

    def call(id: str, name: str, input: dict[str, Any]) -> now.ToolCall:
        return now.ToolCall(name, input, id)

    vars(module).update(
        EnvironmentRecord=now.RolloutEnvironment, TaskRecord=now.Task, MessageRecord=message, TextPart=now.TextBlock,
        ToolCallPart=call, ToolRecord=now.ToolSpec, ReasoningPart=lambda text: now.ReasoningItem(content=text),
    )  # fmt: skip


sys.meta_path.append(_EarlierNames())
