"""The code blocks of a page.

A text block that follows a code block shows its output: each of its lines must be printed, apart from values that change from run
to run.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?P<rest>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
_COMMANDS = ("openreward-gym", "orwd", "pip", "cd", "make", "python", "git", "export", "curl")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: File name of the page.
        line: Line of the block's fence, from 1.
        language: "python" or "bash".
        title: Name of the file that the block shows; empty for a block to run.
        code: The text of the block.
        output: The text block directly after it; None if there is none.
    """

    page: str
    line: int
    language: str
    title: str
    code: str
    output: str | None = None


def pages() -> list[Path]:
    """Return all pages of the site."""
    return sorted(DOCS.rglob("*.md"))


def blocks_of(page: Path) -> list[Block]:
    """Return the Python and shell blocks of a page. A block without a language is a shell block if it begins with a command.

    Blocks of the language "console" show mistakes with what is printed, and are not typed.
    """
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    ended = 0
    for fence in _FENCE.finditer(text):
        code = re.sub(f"^{fence['indent']}", "", fence["code"], flags=re.M)
        language = fence["language"]
        if not language and code.split(maxsplit=1)[:1] and code.split()[0] in _COMMANDS:
            language = "bash"
        line = text.count("\n", 0, fence.start()) + 1
        if language in ("python", "bash", "sh", "shell"):
            title = re.search(r'title="([^"]+)"', fence["rest"])
            language = "python" if language == "python" else "bash"
            blocks.append(Block(page.name, line, language, title[1] if title else "", code))
        elif language == "text" and blocks and not text[ended : fence.start()].strip():
            last = blocks[-1]
            blocks[-1] = Block(last.page, last.line, last.language, last.title, last.code, code)
        ended = fence.end()
    return blocks


def plain(text: str) -> str:
    """Remove what changes from run to run: decimals, seconds, dates, ports, digests, blanks and the frames of tables."""
    text = re.sub(r"\d{8}-\d{6}|127\.0\.0\.1:\d+|\b[0-9a-f]{32,64}\b", "X", text)
    text = re.sub(r"\d+\.\d+\b", "N", text)
    return "\n".join(re.sub(r"[\s━─┃│┏┓┡┩┳╇└┘┴]+", " ", line).strip() for line in text.splitlines())


def missing_lines(shown: str, printed: str) -> list[str]:
    """Return the lines of `shown` that were not printed; "..." stands for omitted lines, or the omitted end of a line."""
    normalized = plain(printed)
    unwrapped = normalized.replace("\n", " ")
    lines = [line.removesuffix("...").strip() for line in plain(shown).splitlines()]
    return [line for line in lines if line not in normalized and line not in unwrapped]


def where(block: Block) -> str:
    """Return the page and line of a block."""
    return f"{block.page}:{block.line}"


def tiny_model(folder: Path) -> str:
    """Save the model and tokenizer of `examples/tiny_model.py`, which are small enough for any CPU; return the folder.

    The chat template is Qwen3's, as that of the model which the pages name: TRL parses the calls of templates that it knows.
    """
    sys.path.insert(0, str(ROOT / "examples"))
    import tiny_model as maker
    from trl.chat_template_utils import qwen3_chat_template

    model: Any
    model, tokenizer = maker.model_and_tokenizer("tiny")
    tokenizer.chat_template = qwen3_chat_template
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
