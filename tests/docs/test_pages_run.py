"""Each Python and shell block of the site's reference pages runs, and prints the output that the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import DOCS, Stage, blocks_of, pages, tiny_model

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(600)]

SERVER = "openreward-gym serve weather ctf reasoning --port 8080 &"
# Commands that run before a page: they start a server or make a run that the page uses.
PREPARATIONS = {
    "collecting.md": SERVER,
    "protocol.md": SERVER,
    "fast-wire.md": SERVER,
    "export.md": "openreward-gym demo --output demo && mkdir -p runs && cp -r demo/weather runs/my-run",
    "record.md": "openreward-gym demo --output demo && openreward-gym export demo/ctf --format nemo_gym --output . "
    "&& cp nemo_gym/*.jsonl rollouts.jsonl "
    """&& echo '{"messages": [{"role": "user", "content": "Hi"}], "metadata": {"prompt_id": 1}}' | gzip > chats.jsonl.gz""",
    "viewer.md": "openreward-gym demo --output demo && mkdir -p runs && cp -r demo/weather runs/first",
}
TRAINED = "Qwen/Qwen3-0.6B"
TYPED = ("index.md", "tutorial.md")
"""Pages that test_pages_typed.py types into one shell, as it does with those of how-to/."""
PAGES = [page for page in pages() if blocks_of(page) and page.name not in TYPED and page.parent.name != "how-to"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    replaced = {}
    if TRAINED in page.read_text(encoding="utf-8"):
        replaced[TRAINED] = request.getfixturevalue("model")
    with Stage(tmp_path, replaced) as stage:
        if page.name in PREPARATIONS:
            stage.prepare(PREPARATIONS[page.name])
        for block in blocks_of(page):
            stage.play(block)
