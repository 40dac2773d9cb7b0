"""The command `demo`: serve, collect, report, export and load, all on this machine."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from openreward_gym.cli.parameters import INCOMPLETE, check_folder
from openreward_gym.types import Task

if TYPE_CHECKING:
    from openreward_gym.collect import CollectionResult
    from openreward_gym.policies import Policy

ENVIRONMENTS = ("weather", "ctf")
SAMPLES = 2
WRONG_SHARE = 0.3
WRONG_STEPS: dict[str, list[Any]] = {
    "weather": ["I would rather not talk about the weather."],
    "ctf": [{"name": "submit_answer", "arguments": {"answer": f"flag{{guess-{n}}}"}} for n in range(3)],
}


class UnreliablePolicy:
    """Plays an example's solution, and in a share of the episodes, chosen by their seed, a wrong answer."""

    name = "demo: a script that is sometimes wrong"

    def __init__(self, environment: str) -> None:
        self.environment = environment

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        """Return the policy of one episode."""
        from openreward_gym.policies import play_steps
        from openreward_gym.serve.examples import solution

        steps: list[Any] = list(solution(self.environment, task.spec or {}))
        if random.Random(seed).random() < WRONG_SHARE:
            steps = [*steps[:-1], *WRONG_STEPS[self.environment]]
        return play_steps(steps)


def demo(
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the runs and the dataset. [default: runs/demo-TIME]")
    ] = None,
) -> None:
    """Run everything once on this machine, from serve to export.

    Example: openreward-gym demo
    """
    check_folder("--output", output)
    from openreward_gym import export, serve
    from openreward_gym.collect import collect
    from openreward_gym.store.store import RolloutStore

    console = Console()
    folder = output or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    start = time.perf_counter()
    console.print(f"1. Serving {' and '.join(ENVIRONMENTS)} with the OpenReward SDK's server ...")
    with serve.local(list(ENVIRONMENTS)) as base_url:
        console.print(f"2. Collecting {SAMPLES} rollouts of every task at {base_url} ...", highlight=False)
        results = []
        for name in ENVIRONMENTS:
            policy = UnreliablePolicy(name)
            results.append(collect(name, policy, base_url=base_url, repeats=SAMPLES, output=folder / name, progress=False))
            if results[-1].interrupted:
                raise typer.Exit(INCOMPLETE)
    console.print(_table(results))
    console.print("3. Exporting the ones with reward 1.0 as an SFT dataset ...")
    store = RolloutStore.open([result.path for result in results])
    report = export.write(store, folder / "dataset", formats=["sft"], select=export.Select(min_reward=1.0))
    console.print(str(report), markup=False, highlight=False)
    # Imported only now, because it takes seconds and the tables above should not wait for it.
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(folder / "dataset" / "sft"), split="train")
    console.print("4. Loading the dataset with datasets.load_dataset. Its first row:")
    console.print(_shortened(rows[0]), markup=False, highlight=False, soft_wrap=True)
    _print_next_steps(console, results, folder, time.perf_counter() - start)


def _table(results: list[CollectionResult]) -> Table:
    table = Table("environment", "task", "sample", "reward", "steps", "seconds", "stop reason")
    for column in table.columns[2:6]:
        column.justify = "right"
    for result in results:
        for rollout in sorted(result.store, key=lambda r: (r.task.index or 0, r.sample or 0)):
            reward = "-" if rollout.reward is None else f"{rollout.reward:.1f}"
            colour = "green" if rollout.reward == 1.0 else "red"
            table.add_row(
                rollout.environment.name,
                str(rollout.task.index),
                str(rollout.sample),
                f"[{colour}]{reward}[/]",
                str(rollout.num_turns),
                f"{rollout.duration_s or 0:.2f}",
                rollout.stop_reason,
            )
    return table


def _shortened(row: dict[str, Any]) -> str:
    """Format a row for reading: one message per line, long texts cut."""

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return value if len(value) <= 60 else value[:60] + " ..."
        if isinstance(value, dict):
            return {key: cut(inner) for key, inner in value.items()}
        return [cut(inner) for inner in value] if isinstance(value, list) else value

    lines: list[str] = []
    for column, value in cut(row).items():
        rows = value if isinstance(value, list) else [value]
        lines += [f"   {column}:", *(f"     {json.dumps(item, ensure_ascii=False)}" for item in rows)]
    return "\n".join(lines)


def _print_next_steps(console: Console, results: list[CollectionResult], folder: Path, seconds: float) -> None:
    runs = " ".join(os.path.relpath(result.path) for result in results)
    here = os.path.relpath(folder)
    # `make demo` runs the command from its virtual environment, which may not be on the PATH.
    command = "openreward-gym" if shutil.which("openreward-gym") else os.path.relpath(sys.argv[0])
    console.print(f"\nDone in {seconds:.1f} s. The runs are in {runs},", highlight=False, soft_wrap=True)
    console.print(f"the dataset in {here}/dataset/sft. Next:", highlight=False, soft_wrap=True)
    for line in (
        f"{command} report {runs}",
        f"{command} export {os.path.relpath(results[0].path)} --format sft --output out/",
        f"{command} serve weather ctf --port 8080",
        f"{command} collect ctf --base-url http://127.0.0.1:8080 --policy random --max-steps 8",
    ):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
