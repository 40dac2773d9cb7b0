"""Pictures of the same rollouts in this viewer and in Inspect View, to compare them.

    python tests/viewer/browser/beside_inspect.py FOLDER [ROLLOUTS.jsonl ...]

The runs are the made-up training of the tests, and files of NeMo Gym rollouts. Each run becomes an Inspect
log with the same messages, calls and scores.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import chromium
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSample, EvalScore, EvalSpec, write_eval_log
from inspect_ai.log._log import EvalMetric
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    ModelOutput,
)
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall as InspectCall
from playwright.sync_api import Browser, sync_playwright
from viewer_runs import training
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.types import Message, ReasoningItem, Rollout, TextBlock, ToolCall

WIDTHS = (1440, 1280, 400)


def log_of(run: str, rollouts: list[Rollout]) -> EvalLog:
    """Return a run as an Inspect log: a sample for each rollout."""
    samples = [sample_of(rollout, number) for number, rollout in enumerate(rollouts)]
    rewards = [rollout.reward or 0.0 for rollout in rollouts]
    mean = EvalMetric(name="mean", value=sum(rewards) / len(rewards))
    spec = EvalSpec(
        created="2026-03-02T09:00:00+00:00", task=run, model=str((rollouts[0].model or {}).get("name", "none/none")),
        dataset=EvalDataset(name=run, samples=len(samples)), config=EvalConfig(),
    )  # fmt: skip
    results = EvalResults(
        total_samples=len(samples), completed_samples=len(samples),
        scores=[EvalScore(name="reward", scorer="reward", metrics={"mean": mean})],
    )  # fmt: skip
    return EvalLog(status="success", eval=spec, results=results, samples=samples)


def sample_of(rollout: Rollout, number: int) -> EvalSample:
    messages = [message_of(message) for message in rollout.messages]
    prompt = next((message for message in messages if message.role == "user"), None)
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    return EvalSample(
        id=number + 1, epoch=1, input=prompt.text if prompt else "", target=str(rollout.task.golden_answer or ""),
        messages=messages,
        output=ModelOutput.from_content("none", last.text if last else ""), metadata=dict(rollout.metrics or {}),
        scores={"reward": Score(value=rollout.reward if rollout.reward is not None else "none")},
    )  # fmt: skip


def message_of(message: Message) -> ChatMessage:
    content: list[Any] = []
    calls = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            content.append(ContentText(text=block.text))
        elif isinstance(block, ReasoningItem):
            content.append(ContentReasoning(reasoning=block.content or block.summary or ""))
        elif isinstance(block, ToolCall):
            calls.append(InspectCall(id=block.call_id or "call", function=block.name, arguments=dict(block.arguments or {})))
    if message.role == "assistant":
        return ChatMessageAssistant(content=content, tool_calls=calls or None)
    if message.role == "tool":
        return ChatMessageTool(content=content, tool_call_id=message.call_id, function=message.name)
    return ChatMessageSystem(content=content) if message.role == "system" else ChatMessageUser(content=content)


@contextmanager
def inspect_view(logs: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "inspect"), "view", "start", "--log-dir", str(logs), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(base, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait(10)


def take(browser: Browser, url: str, file: Path, scheme: str, width: int, click: str = "") -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)
    if click:
        page.get_by_text(re.compile(click)).first.click(timeout=5000)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)
    page.screenshot(path=file)
    context.close()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        runs, logs = Path(place) / "runs", Path(place) / "logs"
        training(runs)
        for file in sys.argv[2:]:
            name = Path(file).name.split(".")[0]
            importing = ["import", "nemo-gym", file, "--output", str(runs / name)]
            subprocess.run([sys.executable, "-m", "openreward_gym.cli", *importing], check=True)
        names = sorted(path.name for path in runs.iterdir())
        for name in names:
            rollouts = list(RolloutStore(runs / name))
            write_eval_log(log_of(name, rollouts), logs / f"2026-03-02T09-00-00_{name}_{name}.eval")
        with inspect_view(logs) as inspect, viewing(runs) as ours, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.flags())
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    end = f"{width}-{scheme}.png"
                    take(browser, inspect, folder / f"inspect-logs-{end}", scheme, width)
                    take(browser, f"{ours}/#/", folder / f"ours-runs-{end}", scheme, width)
                    for name in names:
                        log = f"{inspect}/#/logs/2026-03-02T09-00-00_{name}_{name}.eval"
                        rollout = next(iter(RolloutStore(runs / name)))
                        take(browser, log, folder / f"inspect-{name}-samples-{end}", scheme, width)
                        take(
                            browser, f"{log}/samples/sample/1/1/messages", folder / f"inspect-{name}-sample-{end}", scheme, width
                        )
                        take(browser, f"{ours}/#/rollouts?run={name}", folder / f"ours-{name}-samples-{end}", scheme, width)
                        address = f"{ours}/#/rollouts?run={name}&sample={rollout.id}"
                        take(browser, address, folder / f"ours-{name}-sample-{end}", scheme, width)
            browser.close()


if __name__ == "__main__":
    main()
