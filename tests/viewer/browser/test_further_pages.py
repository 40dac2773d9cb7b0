"""Further pages in a real browser: export lens, replay check, calls as Python, comparison of runs, task history."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser_pages import Opener, until
from environments import PIXEL
from playwright.sync_api import expect
from viewer_episodes import weather_episode
from viewer_runs import png
from viewer_serving import viewing

from openreward_gym import Recorder
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Rollout,
    RolloutEnvironment,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openreward_gym.viewer.server import make_extensions

GROUP = "#/rollouts?run=training&step=0&group=step0-task0"
SAMPLE = f"{GROUP}&sample=training-0-0-0"


def test_the_lens_shows_what_is_trained_and_the_row(opened: Opener) -> None:
    page = opened(SAMPLE)
    page.get_by_role("button", name="Export lens").click()
    lens = page.get_by_role("region", name="Export lens")
    expect(lens.locator(".span.trained").first).to_contain_text("Let me look at both files.")
    expect(lens.locator(".span.context").first).to_contain_text("You are a careful assistant")
    assert lens.locator(".span.trained", has_text="12 b.txt").count() == 0
    lens.get_by_text("The row as JSON").click()
    expect(lens.locator(".json")).to_contain_text('"rollout_id": "training-0-0-0"')
    lens.get_by_label("Format").select_option("rollouts")
    expect(page).to_have_url(re.compile("view=lens&format=rollouts"))
    expect(lens.locator(".json")).to_contain_text('"schema"')


def test_the_lens_shows_a_pair_with_another_of_the_group(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=0&group=step0-task1&sample=training-0-1-0&view=lens&format=preference")
    lens = page.get_by_role("region", name="Export lens")
    expect(lens.get_by_label("Format")).to_have_value("preference")
    expect(lens).to_contain_text("Made with 3 other rollouts of its group")
    expect(lens.locator(".made")).to_have_count(2)
    expect(lens.locator(".made").first.locator(".span.trained")).to_contain_text('plot({"kind":"line"})')
    expect(lens.locator(".made").first.locator(".span.rejected")).to_contain_text('plot({"kind":"bar"})')


def test_the_lens_says_why_a_rollout_is_left_out(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&sample=training-0-3-2&view=lens&format=sft")
    expect(page.locator(".lens .problem")).to_have_text("Left out: status truncated.")


@pytest.fixture
def played(examples: str, tmp_path: Path) -> Path:
    with RolloutStore(tmp_path / "runs" / "played") as store:
        store.append(weather_episode(examples, identity="same"))
        changed = weather_episode(examples, identity="changed", city='"""); import os #')
        number = next(number for number, message in enumerate(changed.messages) if message.role == "tool")
        changed.messages[number] = changed.messages[number].replace(blocks=(TextBlock("Snow."),))
        store.append(changed)
    return tmp_path / "runs"


def test_a_replay_shows_where_outputs_and_rewards_differ(opened: Opener, played: Path, examples: str) -> None:
    with viewing(played, extensions=make_extensions(examples)) as base:
        page = opened("#/rollouts?run=played&sample=same", base=base)
        page.get_by_role("button", name="Replay check").click()
        page.get_by_role("button", name="Make the calls again").click()
        expect(page.locator(".verdict")).to_have_text("Everything is as it was recorded.")
        expect(page.locator(".pair-of.same")).to_have_count(2)
        page = opened("#/rollouts?run=played&sample=changed&view=replay", base=base)
        page.get_by_role("button", name="Make the calls again").click()
        expect(page.locator(".verdict")).to_have_text("1 of 2 calls differs.")
        differing = page.locator(".pair-of.differs")
        expect(differing).to_have_count(1)
        expect(differing).to_contain_text("Snow.")
        expect(differing).to_contain_text("weather_description")


def test_a_replay_shows_images_that_are_different(opened: Opener, server_url: str, tmp_path: Path) -> None:
    other = ImageBlock(data=base64.b64encode(png(20, 10)).decode())
    messages = [
        UserMessage(content=[TextBlock('task {"number": 0}, asked 1 times')]),
        AssistantMessage(content=[ToolCall(call_id=str(n), name="image", arguments={}) for n in range(2)]),
        *(
            ToolMessage(call_id=str(n), reward=0.0, content=[TextBlock("look"), image])
            for n, image in enumerate([ImageBlock(data=PIXEL), other])
        ),
    ]
    rollout = Rollout(id="seen", status="completed", task=Task(spec={"number": 0}), messages=messages,
                      environment=RolloutEnvironment(name="echo"))  # fmt: skip
    with RolloutStore(tmp_path / "runs" / "seen") as store:
        store.append(rollout)
    with viewing(tmp_path / "runs", extensions=make_extensions(server_url)) as base:
        page = opened("#/rollouts?run=seen&sample=seen&view=replay", base=base)
        page.get_by_role("button", name="Make the calls again").click()
        expect(page.locator(".verdict")).to_have_text("1 of 2 calls differs.")
        different = page.locator(".pair-of.differs .image-pair")
        expect(different).to_contain_text("a different image")
        expect(different).to_contain_text(f"image/png, 20 × 10 pixels, {len(png(20, 10))} bytes")
        expect(different).to_contain_text("image/png, 1 × 1 pixels, 70 bytes")
        widths = different.locator("img").evaluate_all(
            "all => Promise.all(all.map((image) => image.decode().then(() => image.naturalWidth)))"
        )
        assert widths == [20, 1]
        page.locator(".pair-of.same summary").click()
        expect(page.locator(".pair-of.same .image-pair")).to_have_text("the same image: image/png, 1 × 1 pixels, 70 bytes")


def test_without_a_server_the_replay_check_says_how(opened: Opener) -> None:
    page = opened(f"{SAMPLE}&view=replay")
    expect(page.locator(".replay")).to_contain_text("--replay URL")
    expect(page.get_by_role("button", name="Make the calls again")).to_have_count(0)


@pytest.mark.parametrize("identity", ["same", "changed"])
def test_the_calls_are_copied_as_a_program_that_runs(opened: Opener, played: Path, identity: str) -> None:
    with viewing(played) as base:
        page = opened(f"#/rollouts?run=played&sample={identity}&view=replay", base=base)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy as Python").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        program = page.evaluate("navigator.clipboard.readText()")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ("The user knows what the weather is.\nreward 1.0, finished" in ran.stdout) is (identity == "same")
    assert ("was never looked up.\nreward 0.0, finished" in ran.stdout) is (identity == "changed")


def test_runs_are_compared_task_by_task(opened: Opener) -> None:
    page = opened()
    page.get_by_role("checkbox", name="Compare training").check()
    expect(page.get_by_text("Select two or more runs")).to_be_visible()
    page.get_by_role("checkbox", name="Compare baseline").check()
    page.get_by_role("link", name="Compare 2 runs").click()
    expect(page.get_by_role("heading", name="Compare runs")).to_be_visible()
    figures = page.locator(".compared table.figures tbody tr")
    expect(figures).to_have_count(2)
    expect(figures.first).to_contain_text("too few tasks for an interval")
    against = page.locator(".compared table.differences tbody tr")
    expect(against).to_have_count(1)
    expect(against).to_contain_text(re.compile(r"[+−]\d\.\d+"))
    expect(against).to_contain_text("too few tasks for an interval, which needs 5 common ones")
    sizes = [float(text) for text in page.locator(".tasks tbody td:last-child").all_text_contents()]
    assert len(sizes) == 4
    assert sizes == sorted(sizes, reverse=True)
    page.locator(".tasks tbody a.prompt").first.click()
    expect(page.locator(".attempt")).to_have_count(64)


def test_a_step_is_seen_at_once_as_cards(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=5")
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".card").first).to_contain_text("Task 0: how many lines")
    expect(page.locator(".card").first.locator(".dots i")).to_have_count(3)
    page.locator(".card").first.click()
    expect(page.locator(".completion")).to_have_count(3)


def test_o8_the_address_that_the_recorder_prints_opens(
    opened: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Recorder(tmp_path / "runs" / "my folder") as recorder:
        log = recorder.create("a run/of mine?", rollout_name="live")
        log.log(UserMessage("Hm?"))
        (said,) = capsys.readouterr().err.splitlines()
        address = re.fullmatch(r"Recording http://127\.0\.0\.1:7860/(#\S+)  \(openreward-gym view .*\)", said)
        assert address, said
        with viewing(tmp_path / "runs") as base:
            page = opened(address[1], base=base)
            expect(page.get_by_role("region", name="User")).to_contain_text("Hm?")
            log.log(AssistantMessage("There."), is_finished=True)
            expect(page.get_by_role("region", name="Turn 1")).to_contain_text("There.")


def test_a_run_without_steps_has_histograms(opened: Opener, played: Path) -> None:
    with viewing(played) as base:
        page = opened("#/rollouts?run=played", base=base)
        plot = page.locator('.chart[data-metric="reward"]')
        expect(plot.locator(".title")).to_contain_text("histogram")
        until(lambda: plot.locator("canvas").count() == 1)
