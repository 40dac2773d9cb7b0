"""What the commands share: exit codes and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 75

Environment = Annotated[
    str, typer.Argument(metavar="ENVIRONMENT", help="A name like weather, or owner/name on the platform.", show_default=False)
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", metavar="URL", help="The environment's server. [default: the hosted platform]", show_default=False
    ),
]
Variant = Annotated[str | None, typer.Option(metavar="NAME", help="A variant of the environment.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)]
