"""The command `demo`: serve, collect, report, export and load, all on this machine."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import socket
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openreward_gym.cli.console import make_console, make_table, output_width, print_json
from openreward_gym.cli.parameters import INCOMPLETE, AsJson, check_folder
from openreward_gym.cli.wording import as_typed
from openreward_gym.types import Task

if TYPE_CHECKING:
    from openreward_gym.collect import CollectionResult
    from openreward_gym.policies import Policy

ENVIRONMENTS = ("weather", "ctf")
SAMPLES = 2
ROW_WIDTH = 74
"""Number of characters shown of a value of a row, which fits a terminal of 80 columns with its indent."""
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
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the runs and the dataset. [default: runs/demo, runs/demo-2, ...]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run everything once on this machine, from serve to export.

    Example: openreward-gym demo
    """
    check_folder("--output", output)
    from openreward_gym import export, serve
    from openreward_gym.collect import collect
    from openreward_gym.store.store import RolloutStore

    console = make_console()
    console.quiet = as_json
    folder = output or new_folder()
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
    exporting = context.find_root().command.commands["export"]  # type: ignore[attr-defined]
    options = {param.name: param for param in exporting.params}
    console.print(report.to_text(lambda hint: as_typed(hint, options), output_width()), markup=False, highlight=False)
    # Imported only now, because it takes seconds and the tables above should not wait for it.
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(folder / "dataset" / "sft"), split="train")
    console.print("4. Loading the dataset with datasets.load_dataset. Its first row:")
    console.print(_shortened(rows[0]), markup=False, highlight=False, soft_wrap=True)
    if as_json:
        runs = [str(result.path) for result in results]
        print_json({"runs": runs, "dataset": str(folder / "dataset" / "sft"), "export": report.to_dict()})
    _print_next_steps(console, results, folder, time.perf_counter() - start)


def _table(results: list[CollectionResult]) -> Table:
    table = make_table("environment", "task#", "sample#", "reward#", "steps#", "seconds#", "stop reason")
    for result in results:
        for rollout in sorted(result.store, key=lambda r: (r.task.index or 0, r.sample or 0)):
            reward = "-" if rollout.reward is None else f"{rollout.reward:.1f}"
            colour = "green" if rollout.reward == 1.0 else "red"
            table.add_row(
                rollout.environment.name,
                str(rollout.task.index),
                str(rollout.sample),
                Text(reward, style=colour),
                str(rollout.num_turns),
                f"{rollout.duration_s or 0:.2f}",
                rollout.stop_reason,
            )
    return table


def new_folder() -> Path:
    """Return the first of runs/demo, runs/demo-2, ... that does not exist."""
    names = (f"demo-{number}" if number > 1 else "demo" for number in count(1))
    return next(folder for folder in (Path("runs") / name for name in names) if not os.path.lexists(folder))


def _shortened(row: dict[str, Any]) -> str:
    """Format a row for reading: one message per line, each cut to the width of a terminal."""
    lines: list[str] = []
    for column, value in row.items():
        rows = value if isinstance(value, list) else [value]
        lines += [f"   {column}:", *(f"     {_cut(json.dumps(item, ensure_ascii=False))}" for item in rows)]
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= ROW_WIDTH else f"{text[: ROW_WIDTH - 4]} ..."


def _print_next_steps(console: Console, results: list[CollectionResult], folder: Path, seconds: float) -> None:
    """Print commands that go on from here. They work when they are typed one after the other into one shell."""
    runs = [shlex.quote(os.path.relpath(result.path)) for result in results]
    here = shlex.quote(os.path.relpath(folder))
    base_url = f"http://127.0.0.1:{(port := _free_port())}"
    activate, command = _program()
    lines = (
        f"Done in {seconds:.1f} s. The runs are in {' and '.join(runs)},",
        f"the dataset is in {here}/dataset/sft. Next:",
        *activate,
        f"  {command} report {runs[-1]}",
        f"  {command} export {runs[-1]} --format sft --min-reward 1",
        f"  {command} serve {' '.join(ENVIRONMENTS)} --port {port} &",
        f"  {command} collect {ENVIRONMENTS[-1]} --base-url {base_url} --policy random",
        "  kill %%         # stops the server",
    )
    console.print()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _free_port() -> int:
    """Return 8080, or if it is taken another free port."""
    for port in (8080, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return 8080


def _program() -> tuple[list[str], str]:
    """Return how to begin a command of this installation: a line to type before, and the name of the program.

    `make demo` runs the command from a virtual environment that is not activated.
    """
    if shutil.which("openreward-gym"):
        return [], "openreward-gym"
    programs = Path(sys.executable).parent
    if (programs / "openreward-gym").exists():
        if (programs / "activate").exists():
            return [f"  . {shlex.quote(os.path.relpath(programs / 'activate'))}"], "openreward-gym"
        return [], shlex.quote(os.path.relpath(programs / "openreward-gym"))
    return [], f"{shlex.quote(sys.executable)} -m openreward_gym.cli"
