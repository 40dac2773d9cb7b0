"""`collect`: a policy over tasks, every rollout recorded."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import openreward_gym
from openreward_gym.cli.options import (
    INCOMPLETE,
    BaseUrl,
    Environment,
    Secrets,
    Toolset,
    Variant,
    check_folder,
    check_url,
    secrets_of,
)
from openreward_gym.cli.runs import print_report
from openreward_gym.errors import ConfigurationError


def collect(
    environment: Environment,
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="openai:MODEL, anthropic:MODEL, google:MODEL, transformers:PATH, module:callable, random or scripted:FILE.",
            show_default=False,
        ),
    ],
    base_url: BaseUrl = None,
    policy_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The model's server. [default: its provider's]", show_default=False),
    ] = None,
    policy_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="NAME=VALUE of the policy, as JSON or text: temperature=0.7, api=responses.",
            show_default=False,
        ),
    ] = None,
    variant: Variant = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Where tasks come from.")] = "train",
    tasks: Annotated[
        str | None, typer.Option(metavar="INDEXES", help="Which ones: 3, 0:100, 1,4,9:12. [default: all]", show_default=False)
    ] = None,
    tasks_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="A JSONL of tasks, or of NeMo Gym's rows, instead.", show_default=False),
    ] = None,
    toolset: Toolset = None,
    secret: Secrets = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Rollouts a task.", min=1)] = 1,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first so many tasks.", min=1, show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", help="Episodes at once.", min=1)] = 16,
    prefetch: Annotated[int, typer.Option(metavar="N", help="Sessions opened ahead.", min=0)] = 0,
    output: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The run's folder. [default: runs/NAME-TIME]", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    allow_changed: Annotated[bool, typer.Option("--allow-changed", help="... though tasks or behaviour changed since.")] = False,
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Truncate an episode after so many steps.", min=1, show_default=False)
    ] = None,
    step_timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds a call may take.", min=0.001)] = 600.0,
    episode_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds an episode may take.", min=0.001, show_default=False)
    ] = None,
    run_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds to collect for.", min=0.001, show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the policies.")] = 0,
    score_groups: Annotated[bool, typer.Option("--score-groups", help="Let the environment compare a task's rollouts.")] = False,
    advantages: Annotated[
        str | None, typer.Option(metavar="KIND", help="Make advantages: group or leave_one_out.", show_default=False)
    ] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Send the rollouts to the OpenReward platform meanwhile.")] = False,
    engine: Annotated[str, typer.Option(metavar="ENGINE", help="local, or ray: episodes are played in Ray's actors.")] = "local",
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Ray's actors. [default: one a core]", min=1, show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be played, and play nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Run a policy over an environment's tasks and record every rollout, for whoever evaluates a model or makes training data.

    Ctrl-C ends what is under way and stops; again, it stops at once. Exit code 75: the run is not complete, go on with --resume.

    Example: openreward-gym collect weather --policy random --base-url http://127.0.0.1:8080 --output runs/first
    """
    given = dict(locals())
    _collect(given.pop("environment"), given.pop("policy"), given)


# The options whose names the function does not share.
_ARGUMENTS = {
    "tasks_file": "input",
    "step_timeout": "step_timeout_s",
    "episode_timeout": "episode_timeout_s",
    "run_timeout": "run_timeout_s",
}


def _collect(environment: str, policy: str, given: dict[str, Any]) -> None:
    dry_run, as_json = given.pop("dry_run"), given.pop("as_json")
    check_folder("--output", given["output"])
    check_url("--policy-url", given["policy_url"])
    options = _options(given.pop("policy_option") or [])
    given["secrets_env"] = secrets_of(given.pop("secret"))
    arguments = {_ARGUMENTS.get(name, name): value for name, value in given.items()}
    arguments["policy_options"] = options
    if dry_run:
        _print_estimate(environment, policy, arguments, as_json)
        return
    result = openreward_gym.collect(environment, policy, progress="json" if as_json else True, **arguments)
    coverage = result.coverage
    if as_json:
        print(
            json.dumps({"event": "result", "run": result.path, "coverage": asdict(coverage), "metrics": result.metrics.to_dict()})
        )
    else:
        print_report([result.path], False)
        print(f"\n{coverage.successful} of {coverage.expected} rollouts in {result.path}")
    if not coverage.complete:
        print(
            f"{coverage.failed} failed, {coverage.missing} missing; go on with: {_again(result.path)}",
            file=sys.stderr,
        )
        raise typer.Exit(INCOMPLETE)


def _options(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE`s as a dictionary; a value that is not JSON is text."""
    found: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"--policy-option takes NAME=VALUE (temperature=0.7), not {item!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _again(path: str) -> str:
    """The command that goes on with the run: the one that was given, with its output and --resume."""
    given = sys.argv[1:] if sys.argv and Path(sys.argv[0]).name in ("openreward-gym", "__main__.py") else ["collect", "..."]
    if "--output" not in given and not any(word.startswith("--output=") for word in given):
        given = [*given, "--output", path]
    return shlex.join(["openreward-gym", *given, *([] if "--resume" in given else ["--resume"])])


def _print_estimate(environment: str, policy: str, arguments: dict[str, Any], as_json: bool) -> None:
    from openreward_gym.collect import estimate

    found = estimate(environment, policy, **arguments)
    print(json.dumps(asdict(found)) if as_json else found.to_text())
