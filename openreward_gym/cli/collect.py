"""The command `collect`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openreward_gym.cli.completion import complete_policy
from openreward_gym.cli.console import print_text
from openreward_gym.cli.parameters import FAILED, INCOMPLETE, Environment, parse_options, shown_arguments, with_options
from openreward_gym.cli.runs import print_report
from openreward_gym.credentials import HIDDEN
from openreward_gym.options import RunOptions
from openreward_gym.processes import raise_open_file_limit

if TYPE_CHECKING:
    from openreward_gym.collect.engine import CollectionResult

OPEN_AT_START = 64
"""Files that are open before a collection begins, at most: the terminal, imported modules, inherited files."""

# Options of an env that have no effect in a collection: it chooses the tasks, and policies get messages.
WITHOUT_EFFECT = ("task_index", "task_order", "obs_mode", "max_obs_chars", "render_mode", "on_failure", "on_reset_failure")


@with_options(RunOptions, without=(*WITHOUT_EFFECT, "progress"))
def collect(
    context: typer.Context,
    environment: Environment,
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="openai:MODEL, anthropic:MODEL, google:MODEL, transformers:PATH, module:callable, random, random:CALLS, "
            "scripted:FILE, or one of an installed distribution.",
            rich_help_panel="Run",
            autocompletion=complete_policy,
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate what would be played, and play nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object per line.")] = False,
    **options: Any,
) -> None:
    """Play tasks with a policy and record every rollout.

    Ctrl-C finishes the episodes in flight and stops; a second Ctrl-C, SIGTERM or a closed
    terminal (SIGHUP) stops at once. Exit code 0: the run is complete; 75: it is
    not, or groups could not be compared, continue it with --resume; 1: an error, or failures that --resume would meet again;
    2: wrong usage.

    With --output FILE.jsonl the rollouts are NeMo Gym's rows, one per line, and the run is the folder
    FILE beside it.

    Example: openreward-gym collect weather --policy random --base-url http://127.0.0.1:8080 --output runs/first
    """
    values = {"environment": environment, "policy": policy, **options}
    run = parse_options(RunOptions, values)
    if dry_run:
        from openreward_gym.collect.plan import estimate_run
        from openreward_gym.protocol import loop

        estimate = loop.run(estimate_run(run))
        print(json.dumps(asdict(estimate)) if as_json else estimate.to_text())
        return
    from openreward_gym.collect.engine import collect_run
    from openreward_gym.collect.plan import files_needed
    from openreward_gym.collect.progress import reporter

    raise_open_file_limit(files_needed(run) + OPEN_AT_START)
    report = reporter("json" if as_json else True)
    report.tracebacks = bool((context.obj or {}).get("debug")) and not as_json
    result = collect_run(replace(run, progress=report))
    coverage = result.coverage
    if as_json:
        event: dict[str, Any] = {
            "event": "result",
            "run": result.path,
            **({} if result.rows_path is None else {"rows": str(result.rows_path)}),
            "coverage": asdict(coverage),
            "metrics": result.metrics.to_dict(),
        }
        event |= {"groups_failed": result.groups_failed, "groups_incomplete": result.groups_incomplete}
        print(json.dumps(event))
    else:
        where = result.path if result.rows_path is None else f"{result.rows_path} (the run: {result.path})"
        print_text(f"{coverage.successful} of {coverage.expected} rollouts in {where}")
        print_report([result.path], brief=True)
    if result.groups_incomplete:
        print_text(f"{_groups(result.groups_incomplete)} not compared: a rollout failed or was omitted", stderr=True)
    if result.groups_failed:
        print_text(_comparison_failures(result), stderr=True)
    _exit(result)


def _exit(result: CollectionResult) -> None:
    """Exit with the code that the result deserves, and say what can be done."""
    coverage = result.coverage
    left_over = result.groups_failed or (result.uploaded is not None and not result.uploaded.complete)
    if coverage.complete and not left_over:
        return
    if coverage.complete:
        raise typer.Exit(INCOMPLETE)
    left = f"{coverage.failed} failed, {coverage.missing} missing"
    if result.rows_path is not None:
        left += f", which have no row in {result.rows_path}"
    if result.given_up:
        left += f", {result.given_up} of the failed given up"
    if result.resumable:
        print_text(f"{left}; continue with: {_resume(result)}", stderr=True)
        raise typer.Exit(INCOMPLETE)
    again = "--resume --allow-changed" if result.given_up else "--resume"
    print_text(
        f"{left}; the same would fail again (see {result.path}/failures): mend the cause, then continue with {again}",
        stderr=True,
    )
    raise typer.Exit(FAILED)


def _comparison_failures(result: CollectionResult) -> str:
    """Return how many complete groups could not be compared, the last reason, and the command that tries again."""
    messages = [failure.message for failure in result.store.failures() if failure.kind == "score_group_failed"]
    reason = messages[-1] if messages else "the collection was stopped before"
    return f"{_groups(result.groups_failed)} could not be compared: {reason}; try again with: {_resume(result)}"


def _groups(count: int) -> str:
    return f"{count} group{'' if count == 1 else 's'}"


def _resume(result: CollectionResult) -> str:
    """Return the command that continues the run: this one, with its output and --resume."""
    is_command = bool(sys.argv) and Path(sys.argv[0]).name in ("openreward-gym", "__main__.py")
    arguments = sys.argv[1:] if is_command else ["collect", "..."]
    if "--output" not in arguments and not any(argument.startswith("--output=") for argument in arguments):
        arguments = [*arguments, "--output", str(result.rows_path or result.path)]
    shown = shown_arguments(arguments)
    hint = f" (write what is hidden as {HIDDEN} again)" if shown != arguments else ""
    return shlex.join(["openreward-gym", *shown, *([] if "--resume" in arguments else ["--resume"])]) + hint
