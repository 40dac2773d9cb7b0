"""`view`: runs as a web page, or as one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openreward_gym.errors import ConfigurationError
from openreward_gym.rollouts.conversion import origin_of

if TYPE_CHECKING:
    from openreward_gym.viewer.powers import Powers


def view(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs' folders, or folders of runs. [default: runs]", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(help="Where the page is served; 0 takes a free one.", min=0, max=65535)] = 7860,
    host: Annotated[
        str, typer.Option(help="Other than this machine's own: the page then needs the token it prints.")
    ] = "127.0.0.1",
    html: Annotated[
        Path | None, typer.Option(help="Write one HTML file that opens without a server, and end.", show_default=False)
    ] = None,
    chosen: Annotated[
        str, typer.Option("--filter", help="With --html: which rollouts, like 'reward > 0.5'.", show_default=False)
    ] = "",
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay", metavar="URL", help="An environment server where rollouts' calls may be made again.", show_default=False
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A model's name or a folder: shows exports token for token.", show_default=False)
    ] = None,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = False,
) -> None:
    """Look at runs in the browser.

    Example: openreward-gym view runs/first
    """
    from openreward_gym.viewer.index import RunIndex
    from openreward_gym.viewer.serving import serve

    index = RunIndex(runs or [Path("runs")])
    if html is not None:
        from openreward_gym.viewer.share import write_html

        count = write_html(index, html, filter_=chosen)
        print(f"{count} rollouts in {html}")
        return
    if chosen:
        raise ConfigurationError("--filter goes with --html; in the page, filter where it says Filter")
    serve(
        index,
        host,
        port,
        powers=powers(replay, tokenizer),
        browse=browse,
        announce=lambda line: print(line, flush=True),
        warn=lambda line: print(line, file=sys.stderr),
    )


def powers(replay: str | None = None, tokenizer: str | None = None) -> Powers:
    """What the viewer can do with exports and environments.

    Args:
        replay: The environment server on which calls may be made again; None for none.
        tokenizer: What the export lens reads tokens with; None: it shows messages.

    Raises:
        MissingExtraError: A tokenizer is asked for, and `transformers` is not installed.
        ConfigurationError: The tokenizer has no chat template.
    """
    from openreward_gym.cli.lens import ExportLens
    from openreward_gym.cli.replay import ReplayCheck
    from openreward_gym.viewer.powers import Powers

    lens = ExportLens(tokenizer)
    if replay is None:
        return Powers(lens, lens.formats)
    return Powers(lens, lens.formats, ReplayCheck(replay), origin_of(replay) or "")
