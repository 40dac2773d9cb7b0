"""What is shown is what is stored: every block of real rollouts and of generated text, in Chromium, compared by its characters.

`make browser` takes all of the shared data (../shared/data, where it lies beside the project) and 600 generated texts. With
OPENREWARD_GYM_LONG=1 there are 1,200 generated texts for each choice of options, and the shared data is read with each option
off as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from browser_pages import Opener
from hostile_texts import text, value
from shown_text import TOGGLES, choose, differences, show
from viewer_serving import viewing

from openreward_gym.importers import nemo_gym
from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Rollout, SystemMessage, TextBlock, ToolCall, ToolMessage, UserMessage

LONG = os.environ.get("OPENREWARD_GYM_LONG") == "1"
DATA = Path(__file__).parents[4] / "shared" / "data" / "nemo_gym_rollouts"
PER_PAGE = 100
PAGES = 12 if LONG else 6
OFF: list[tuple[str, ...]] = [(), *((name,) for name in TOGGLES), TOGGLES]


def generated(page: int) -> Rollout:
    """A rollout whose messages have texts of their own, in each role."""
    messages: list[Message] = []
    for place in range(PER_PAGE):
        seed = page * PER_PAGE + place
        said = [TextBlock(text(seed))]
        match seed % 4:
            case 0:
                call = ToolCall(
                    call_id=f"c{seed}",
                    name="look",
                    arguments={text(seed + 7)[:40] or "key": value(seed), "path": "a.py", "n": value(seed + 3)},
                )
                short = ToolCall(call_id=f"s{seed}", name=text(seed + 11)[:24] or "f", arguments=brief(seed))
                messages += [
                    AssistantMessage(content=[*said, call, short]),
                    ToolMessage(call_id=f"c{seed}", content=[TextBlock(text(seed + 5))]),
                ]
            case 1:
                messages.append(ToolMessage(call_id=f"c{seed}", content=said))
            case 2:
                messages.append(UserMessage(content=said))
            case _:
                messages.append(SystemMessage(content=said))
    return Rollout(
        id=f"generated-{page}", name=f"generated {page}", group="g", sample=page, status="completed", messages=messages
    )


def brief(seed: int) -> dict[str, object]:
    """Arguments that may fit into one line."""
    values = [value(seed + 13), text(seed + 17)[:30], text(seed + 19)[5:25], "two  blanks ", "שלום", "👩‍🚀", "<b>&amp;", seed]
    return {f"key{number}": values[(seed // 4 + number * 3) % len(values)] for number in range(seed // 4 % 4)}


def compare(opened: Opener, folder: Path, rollouts: list[Rollout], options: list[tuple[str, ...]]) -> int:
    """The number of blocks that were compared."""
    with RolloutStore(folder / "runs" / "r") as store:
        for rollout in rollouts:
            store.append(rollout)
    wrong: list[str] = []
    count = 0
    with viewing(folder / "runs") as base:
        page = opened("#/", base=base)
        for off in options:
            choose(page, base, off)
            for rollout in rollouts:
                show(page, base, rollout)
                compared, differing = differences(page, rollout)
                count += compared
                wrong += [f"{rollout.id}, off: {off}: {one}" for one in differing]
    assert wrong == [], f"{len(wrong)} of {count} blocks differ"
    print(f"{count} blocks compared")
    return count


@pytest.mark.skipif(not DATA.exists(), reason="no shared data beside the project")
def test_real_rollouts_are_shown_as_they_are_stored(opened: Opener, tmp_path: Path) -> None:
    rollouts = []
    for file in sorted(DATA.glob("*.rollouts.jsonl")):
        items = [item for item in nemo_gym.read(file) if isinstance(item, Rollout)]
        # The rollouts of a file one after the other on one page.
        messages = [message for item in items for message in item.messages]
        rollouts.append(Rollout(id=file.name.split(".")[0], group="g", status="completed", messages=messages))
    assert compare(opened, tmp_path, rollouts, OFF if LONG else [()]) > 300


@pytest.mark.parametrize("off", OFF, ids=lambda off: "without " + "+".join(off) if off else "default")
def test_hostile_texts_are_shown_as_they_are_stored(opened: Opener, tmp_path: Path, off: tuple[str, ...]) -> None:
    pages = range(PAGES) if not off or LONG else range(1)
    assert compare(opened, tmp_path, [generated(page) for page in pages], [off]) >= len(pages) * PER_PAGE * 0.9
