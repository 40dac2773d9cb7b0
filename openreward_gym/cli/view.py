"""The command `view`."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from openreward_gym.cli.console import print_json
from openreward_gym.cli.parameters import AsJson, check_folder, end_with, parse_secrets
from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.addresses import resolve_addresses
from openreward_gym.store.damage import Damages

_HOW_TO = "`openreward-gym demo` makes some, and `openreward-gym collect --help` says how to make your own."


def view(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of runs, or folders that contain runs. [default: runs]"),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 7860,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to listen on. If other machines can reach it, the page needs a token.")
    ] = "127.0.0.1",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one HTML file that opens without a server, and exit.")
    ] = None,
    chosen: Annotated[
        str,
        typer.Option(
            "--filter", metavar="EXPRESSION", help="With --html: the rollouts to write, like 'reward > 0.5'.", show_default=False
        ),
    ] = "",
    replay: Annotated[
        str | None, typer.Option(metavar="URL", help="Environment server on which recorded calls may be repeated.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VARIABLE",
            help="Secret of the environment, and the environment variable that holds it. May be repeated.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Name or folder of a model: show tokens and exports token by token.")
    ] = None,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.", show_default=False)] = False,
    as_json: AsJson = False,
) -> None:
    """Show runs in the browser: read, filter, compare and label rollouts.

    The page names lines that cannot be read. With --html the command names them, and its exit code is 1.

    Example: openreward-gym view runs/first
    """
    from openreward_gym.viewer import serve
    from openreward_gym.viewer.index import is_shown

    if secret and replay is None:
        raise ConfigurationError("--secret needs --replay: only the sessions of a replay get secrets")
    secrets_env = parse_secrets("--secret", secret or ())
    try:
        resolve_addresses(replay, {})
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("base_url=", "--replay ", 1)) from None
    paths = runs or [Path("runs")]
    if not runs and not paths[0].is_dir():
        raise ConfigurationError(f"name the folder of your runs: there is no folder runs here. {_HOW_TO}")
    if html is not None:
        _write_page(paths, html, chosen, as_json)
        return
    if chosen:
        raise ConfigurationError("--filter needs --html; the page has a filter field of its own")
    if all(path.is_dir() for path in paths) and not any(is_shown(one) for path in paths for one in (path, *path.iterdir())):
        names = ", ".join(map(str, paths))
        print(f"There is no run in {names} yet, and the page shows runs as they appear. {_HOW_TO}", file=sys.stderr)
    server = serve(paths, host=host, port=port, replay=replay, tokenizer=tokenizer, secrets_env=secrets_env)
    if as_json:
        print_json({"event": "ready", "urls": list(server.urls)}, indent=None)
    else:
        print(f"The viewer is at {' and '.join(server.urls)} (Ctrl-C ends it)")
    sys.stdout.flush()
    if server.token:
        warning = "Anyone with this URL can read the runs and write labels. Without TLS, so can anyone on the network."
        print(warning, file=sys.stderr)
    if browse:
        webbrowser.open(server.url)
    server.wait()


def _write_page(paths: Sequence[Path], html: Path, chosen: str, as_json: bool) -> None:
    """Write the page, name what could not be read, and end with exit code 1 if there was something."""
    from openreward_gym.viewer import write_html

    check_folder("--html", html.parent)
    damages = Damages()
    try:
        count = write_html(paths, html, filter=chosen, on_damage=damages)
        size = html.stat().st_size
        if as_json:
            print_json({"rollouts": count, "path": str(html), "bytes": size})
        else:
            print(f"{count} rollout{'' if count == 1 else 's'} in {html} ({size / 1e6:.1f} MB)")
    except ConfigurationError as error:
        if not damages:
            raise
        print(error, file=sys.stderr)  # there may be no rollout because of the damage
    end_with(damages)
