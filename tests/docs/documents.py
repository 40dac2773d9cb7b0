"""The code blocks of a page, and a runner for them.

The blocks of a page run in order, in one empty folder. A text block that follows a code block shows its output: each of its lines
must be printed, apart from values that change from run to run. Ports of the page (`127.0.0.1:8080`) are replaced by free ports.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hub_stand_in import hub
from launch import free_port
from providers import providing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROVIDER_PORT = "8000"
"""The port of a model's server on the pages. Here an OpenAI-compatible stand-in answers."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?P<rest>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
_COMMANDS = ("openreward-gym", "orwd", "pip", "cd", "make", "python", "git", "export", "curl")
_SERVERS = re.compile(r"openreward-gym (serve|view)\b(?!.*--html)")
# Commands that a reader runs and a test skips: extras are installed, `make lint` builds the viewer's page, and there is no GPU.
_SKIPPED = re.compile(r"^(pip install|vllm serve|git clone|cd |npm |git diff|python tests/)")


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
    """Return the Python and shell blocks of a page. A block without a language is a shell block if it begins with a command."""
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    ended = 0
    for fence in _FENCE.finditer(text):
        code = re.sub(f"^{fence['indent']}", "", fence["code"], flags=re.M)
        language = fence["language"]
        if not language and code.split(maxsplit=1)[:1] and code.split()[0] in _COMMANDS:
            language = "bash"
        line = text.count("\n", 0, fence.start()) + 1
        if language in ("python", "bash", "sh", "shell", "console"):
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
    return [line for line in plain(shown).splitlines() if line.removesuffix("...").strip() not in normalized]


class Stage:
    """A folder in which the blocks of a page run.

    Args:
        folder: An empty folder.
        replace: Texts of the page -> their replacements here, such as a local folder for a model that a reader downloads.
    """

    def __init__(self, folder: Path, replace: Mapping[str, str]) -> None:
        self.folder = folder
        self.replace = dict(replace)
        self._ports: dict[str, str] = {}
        self._stack = ExitStack()
        self._provider = self._hub = ""
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._provider = self._stack.enter_context(providing()).url
        self._hub = self._stack.enter_context(hub()).url
        self._ports[PROVIDER_PORT] = self._provider.rpartition(":")[2]
        return self

    def __exit__(self, *exception: object) -> None:
        for process in reversed(self._running):
            self._stop(process)
        self._stack.close()

    def play(self, block: Block) -> None:
        """Run a block; write a block with a title to a file."""
        code = self._localized(block.code)
        if block.title:
            (self.folder / block.title).write_text(code, encoding="utf-8")
            return
        printed = self._python(code, block) if block.language == "python" else self._shell(code, block)
        if block.output is not None:
            missing = missing_lines(block.output, printed)
            assert not missing, f"{where(block)} shows lines that it did not print: {missing}\nprinted:\n{printed}"

    def prepare(self, commands: str) -> None:
        """Run shell commands before the first block of a page."""
        self._shell(self._localized(commands), Block("preparation", 1, "bash", "", commands))

    def _localized(self, code: str) -> str:
        for text, replacement in self.replace.items():
            code = code.replace(text, replacement)
        return re.sub(r"(127\.0\.0\.1:|localhost:|--port[ =])(\d{4})\b", lambda match: match[1] + self._port(match[2]), code)

    def _port(self, documented: str) -> str:
        if documented not in self._ports:
            self._ports[documented] = str(free_port())
        return self._ports[documented]

    def _environment(self) -> dict[str, str]:
        local = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OPENAI_BASE_URL": f"{self._provider}/v1",
            "OPENAI_API_KEY": "not-a-key",
            "NO_PROXY": "127.0.0.1",
            "COLUMNS": "120",
            "HF_ENDPOINT": self._hub,
            "HF_TOKEN": "hf_test",
            # Other tests of this process may have set it.
            "HF_HUB_OFFLINE": "0",
            # Keep what a page trains, uploads or views in this folder.
            "HF_HOME": str(self.folder / ".hub"),
            "HF_HUB_DISABLE_XET": "1",
            "XDG_CACHE_HOME": str(self.folder / ".cache"),
        }
        return {**os.environ, **local}

    def _python(self, code: str, block: Block) -> str:
        # run_block.py allows `await` at the top level, as a notebook does.
        program = self.folder / "block.py"
        program.write_text(code, encoding="utf-8")
        return self._run([sys.executable, str(Path(__file__).with_name("run_block.py")), "block.py"], block)

    def _shell(self, code: str, block: Block) -> str:
        printed = ""
        for command in re.sub(r"\\\n\s*", " ", code).splitlines():
            line = command.strip().removeprefix("$ ")
            if not line or line.startswith("#") or _SKIPPED.match(line):
                continue
            if line.endswith("&") or _SERVERS.match(line):
                self._start(line.removesuffix("&").strip(), block, stays=line.endswith("&"))
            else:
                printed += self._run(["bash", "-c", line], block)
        return printed

    def _run(self, command: list[str], block: Block) -> str:
        ran = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, timeout=280, check=False
        )
        assert ran.returncode == 0, f"{where(block)}: {command[-1]} ended with {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr, f"{where(block)}\n{ran.stderr}"
        return ran.stdout

    def _start(self, command: str, block: Block, *, stays: bool) -> None:
        """Start a server and wait until its port answers. Stop it again if the command has no `&`, as a reader would."""
        command = re.sub(r"\s#.*", "", command)
        port = re.search(r"--port[ =](\d+)", command)
        if port is None:
            default = {"serve": "8080", "view": "7860"}[command.split()[1]]
            command += f" --port {self._port(default)}"
        number = int(port[1] if port else command.rpartition(" ")[2])
        with open(self.folder / f".server-{number}.log", "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self._environment(), stdout=log, stderr=log, text=True
            )
        self._running.append(process)
        ends = time.monotonic() + 120
        while not _answers(number):
            log_text = (self.folder / f".server-{number}.log").read_text(encoding="utf-8")
            assert process.poll() is None, f"{where(block)}: {command} ended\n{log_text}"
            assert time.monotonic() < ends, f"{where(block)}: {command} does not answer\n{log_text}"
            time.sleep(0.05)
        if not stays:
            self._stop(process)

    def _stop(self, process: subprocess.Popen[str]) -> None:
        self._running.remove(process)
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def where(block: Block) -> str:
    """Return the page and line of a block."""
    return f"{block.page}:{block.line}"


def tiny_model(folder: Path) -> str:
    """Save the model and tokenizer of `examples/tiny_model.py`, which are small enough for any CPU; return the folder."""
    sys.path.insert(0, str(ROOT / "examples"))
    import tiny_model as maker

    model: Any
    model, tokenizer = maker.model_and_tokenizer("tiny")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
