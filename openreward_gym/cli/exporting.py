"""`export`: a run as training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openreward_gym.cli.options import Run


def export(
    run: Run,
    formats: Annotated[str, typer.Option("--format", help="One or more, with commas: sft, ...")] = "sft",
    output: Annotated[Path | None, typer.Option(help="Where to write. [default: RUN/export]", show_default=False)] = None,
    min_reward: Annotated[float | None, typer.Option(help="Leave out rollouts below.", show_default=False)] = None,
) -> None:
    """Write a run as training data.

    Example: openreward-gym export runs/first --format sft --min-reward 1 --output out/
    """
    from openreward_gym import export as exporting

    select = exporting.Select(min_reward=min_reward) if min_reward is not None else None
    names = [name.strip() for name in formats.split(",") if name.strip()]
    print(exporting.write(run, output or run / "export", formats=names, select=select))
