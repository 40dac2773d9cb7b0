"""Rollouts as training data: HuggingFace datasets, and other trainers' files.

    from openreward_gym import export

    dataset = export.to_dataset("runs/my-run", format="sft", select=export.Select(min_reward=0.5))
    report = export.write("runs/my-run", "out/", formats=["sft", "preference"])

Only the model's own words are trained. Nothing is inferred, nothing is re-encoded, and everything that is left out is counted.
"""

from __future__ import annotations

from openreward_gym.export.formats import FORMATS, Context, Format, FormatName, LeftOut, OnePerTask, format_names, format_of
from openreward_gym.export.formats.archive import read_rollouts
from openreward_gym.export.options import ExportOptions, Select
from openreward_gym.export.output import push, to_dataset, write
from openreward_gym.export.report import ExportReport, FormatReport, LeftOutWarning

__all__ = [
    "FORMATS",
    "Context",
    "ExportOptions",
    "ExportReport",
    "Format",
    "FormatName",
    "FormatReport",
    "LeftOut",
    "LeftOutWarning",
    "OnePerTask",
    "Select",
    "format_names",
    "format_of",
    "push",
    "read_rollouts",
    "to_dataset",
    "write",
]
