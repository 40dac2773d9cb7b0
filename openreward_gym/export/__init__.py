"""Rollouts as training data: HuggingFace datasets, and other trainers' files.

    from openreward_gym import export

    dataset = export.to_dataset("runs/my-run", format="sft", select=export.Select(min_reward=0.5))
    report = export.write("runs/my-run", "out/", formats=["sft", "preference"])

What is trained is what the model produced: nothing is inferred, re-encoded or filtered in silence.
"""

from __future__ import annotations

from openreward_gym.export.formats import FORMATS
from openreward_gym.export.formats.archive import read_rollouts
from openreward_gym.export.hub import push
from openreward_gym.export.options import Options
from openreward_gym.export.report import FormatReport, Report
from openreward_gym.export.select import Select
from openreward_gym.export.writing import to_dataset, write

__all__ = ["FORMATS", "FormatReport", "Options", "Report", "Select", "push", "read_rollouts", "to_dataset", "write"]
