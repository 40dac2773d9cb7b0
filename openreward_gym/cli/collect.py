"""The command `collect`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from openreward_gym.cli.parameters import INCOMPLETE, Environment, parse_options, with_options
from openreward_gym.cli.runs import print_report
from openreward_gym.options import RunOptions

# Options of an env that have no effect in a collection: it chooses the tasks, and policies get messages.
WITHOUT_EFFECT = ("task_index", "task_order", "obs_mode", "max_obs_chars", "render_mode", "on_failure", "on_reset_failure")


@with_options(RunOptions, without=(*WITHOUT_EFFECT, "progress"))
def collect(
    environment: Environment,
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="openai:MODEL, anthropic:MODEL, google:MODEL, transformers:PATH, module:callable, random, scripted:FILE, or one "
            "of an installed distribution.",
            rich_help_panel="Run",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate what would be played, and play nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object per line.")] = False,
    **options: Any,
) -> None:
    """Play tasks with a policy and record every rollout.

    Ctrl-C finishes the episodes in flight and stops; a second Ctrl-C stops at once. Exit code 75: the run is not complete,
    continue it with --resume.

    Example: openreward-gym collect weather --policy random --base-url http://127.0.0.1:8080 --output runs/first
    """
    values = {"environment": environment, "policy": policy, **options, "progress": "json" if as_json else None}
    run = parse_options(RunOptions, values)
    if dry_run:
        from openreward_gym.collect.plan import estimate_run
        from openreward_gym.protocol import loop

        estimate = loop.run(estimate_run(run))
        print(json.dumps(asdict(estimate)) if as_json else estimate.to_text())
        return
    from openreward_gym.collect.engine import collect_run

    result = collect_run(run)
    coverage = result.coverage
    if as_json:
        print(
            json.dumps({"event": "result", "run": result.path, "coverage": asdict(coverage), "metrics": result.metrics.to_dict()})
        )
    else:
        print(f"{coverage.successful} of {coverage.expected} rollouts in {result.path}")
        print_report([result.path], brief=True)
    if not coverage.complete:
        print(f"{coverage.failed} failed, {coverage.missing} missing; continue with: {_resume(result.path)}", file=sys.stderr)
        raise typer.Exit(INCOMPLETE)


def _resume(path: str) -> str:
    """Return the command that continues the run: this one, with its output and --resume."""
    is_command = bool(sys.argv) and Path(sys.argv[0]).name in ("openreward-gym", "__main__.py")
    arguments = sys.argv[1:] if is_command else ["collect", "..."]
    if "--output" not in arguments and not any(argument.startswith("--output=") for argument in arguments):
        arguments = [*arguments, "--output", path]
    return shlex.join(["openreward-gym", *arguments, *([] if "--resume" in arguments else ["--resume"])])
