"""The pictures of docs/viewer.md: every page of the viewer, light and dark, and some on a narrow screen.

python tests/viewer/browser/screenshots.py docs/images
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import chromium
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright
from viewer_episodes import weather_episode
from viewer_runs import training
from viewer_serving import viewing

from openreward_gym import serve
from openreward_gym.store import Label, RolloutStore, write_label
from openreward_gym.types import TextBlock
from openreward_gym.viewer.server import make_extensions

WIDTH, NARROW, HEIGHT = 1280, 400, 800

GROUP = "#/rollouts?run=training&step=5&group=step5-task0"
SAMPLE = f"{GROUP}&sample=training-5-0-0"
PAGES = {
    "runs": ("#/", ".runs tbody tr"),
    "rollouts": ("#/rollouts?run=training&step=5", ".row"),
    "group": (GROUP, ".completion .said"),
    "divergence": (f"{GROUP}&view=divergence", ".branches li"),
    "sample": (SAMPLE, ".ending"),
    "lens": (f"{SAMPLE}&view=lens&format=sft", ".span"),
    "replay": ("#/rollouts?run=played&sample=changed&view=replay", ".replay button"),
    "discarded": ("#/discarded?run=training&step=5", ".row .badge"),
    "metrics": ("#/metrics?run=training&runs=baseline&step=5", "canvas"),
    "compare": ("#/compare?runs=training,baseline", ".tasks tbody tr"),
    "pair": ("#/pair?left=training/training-0-0-0&right=training/training-0-0-1", ".turn-pair"),
    "task": ("#/task?run=training&task={task}", ".attempt"),
    "search": ("#/search?run=training&query=%22No%20such%20file%22", ".hits li"),
}
ON_NARROW = ("runs", "rollouts", "group", "sample", "lens", "metrics", "compare", "pair", "task")


def make_runs(folder: Path, server: str) -> str:
    """Runs to be seen; gives the id of a task."""
    task = training(folder)[0].task.id
    training(folder, name="baseline", seed=5)
    with RolloutStore(folder / "played") as store:
        store.append(weather_episode(server, identity="as it was"))
        changed = weather_episode(server, identity="changed")
        number = next(number for number, message in enumerate(changed.messages) if message.role == "tool")
        changed.messages[number] = changed.messages[number].replace(blocks=(TextBlock("Snow, 2 degrees."),))
        store.append(changed)
    write_label(folder / "training", Label("training-5-0-0", 4, ("careful",), "Counts twice before it answers."))
    return task


def take(browser: Browser, base: str, task: str, folder: Path, name: str, scheme: str, width: int) -> None:
    """One picture."""
    place, ready = PAGES[name]
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{base}/{place.format(task=task)}")
    expect(page.locator(ready).first).to_be_attached()
    if name == "replay":
        page.get_by_role("button", name="Make the calls again").click()
        expect(page.locator(".verdict")).to_be_visible()
    if name in ("rollouts", "metrics") and width == WIDTH:
        expect(page.locator(".chart canvas").first).to_be_visible()
    expect(page.get_by_text("Opening…")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    end = scheme if width == WIDTH else f"narrow-{scheme}"
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        # Few colours make a small file; this way of choosing them leaves out none of the small dots'.
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(folder / f"viewer-{name}-{end}.png", optimize=True)
    context.close()


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    path = chromium.find()
    with tempfile.TemporaryDirectory() as place, serve.local(["weather"], port=8123) as server:
        task = make_runs(Path(place) / "runs", server)
        with viewing(Path(place) / "runs", extensions=make_extensions(server)) as base, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=chromium.flags())
            for name in PAGES:
                for scheme in ("light", "dark"):
                    take(browser, base, task, folder, name, scheme, WIDTH)
                if name in ON_NARROW:
                    take(browser, base, task, folder, name, "light", NARROW)
            browser.close()


if __name__ == "__main__":
    main()
