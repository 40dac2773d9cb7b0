"""Likely mistakes of the first hour, made for real: `python tests/docs/first_mistakes.py` writes docs/first-mistakes.md.

Each mistake is a command as it is typed. It runs in a terminal of 80 columns with NO_COLOR, which is what the page shows, and
once more with its output in a file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from openreward_gym import serve
from openreward_gym.cli.console import wrapped
from openreward_gym.collect import collect

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "servers"))  # where this file is a program, and pytest has not done it

from terminals import COLUMNS, Output, in_file, in_terminal  # noqa: E402

PAGE = ROOT / "docs" / "first-mistakes.md"
AT_ONCE = 4
"""Number of commands that run at the same time."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake: what it is, what is typed, and the exit code.

    A command that goes on trying is ended once it has printed what the pattern `until` finds. Its code is None.
    """

    title: str
    typed: str
    code: int | None = 2
    until: str = ""


# The addresses and the folder of the page stand for those of the run.
_SERVER, _LOCKED, _FREE, _HUB, _KEYED, _SILENT = (f"http://127.0.0.1:{port}" for port in (8080, 8081, 8090, 8095, 8082, 8096))
_COLLECT = f"openreward-gym collect weather --base-url {_SERVER}"

SECTIONS: Mapping[str, tuple[Mistake, ...]] = {
    "Typing": (
        Mistake("A command is misspelt", "openreward-gym colect weather"),
        Mistake("An option is misspelt", f"{_COLLECT} --policy random --max-step 3"),
        Mistake("An option has a value of the wrong kind", "openreward-gym serve weather --port eighty"),
        Mistake("A number is out of range", f"{_COLLECT} --policy random --repeats 0"),
        Mistake("A required option is missing", "openreward-gym merge runs/first"),
    ),
    "Servers": (
        Mistake("No server runs", f"openreward-gym tasks weather --base-url {_FREE}", 1),
        Mistake("The address is missing", "openreward-gym tasks weather", 1),
        Mistake("The scheme is missing", "openreward-gym tasks weather --base-url 127.0.0.1:8080"),
        Mistake("https for http", "openreward-gym tasks weather --base-url https://127.0.0.1:8080", 1),
        Mistake("The port is taken", "openreward-gym serve weather --port 8080", 1),
        Mistake("The server is another program", f"openreward-gym tasks weather --base-url {_HUB}", 1),
        Mistake("A key is missing", f"openreward-gym tasks weather --base-url {_KEYED}", 1),
        Mistake("The key is wrong", f"OPENREWARD_API_KEY=wrong openreward-gym tasks weather --base-url {_KEYED}", 1),
    ),
    "Environments and tasks": (
        Mistake("The environment's name is misspelt", f"openreward-gym tasks wether --base-url {_SERVER}"),
        Mistake("A built-in environment is misspelt", "openreward-gym serve wether"),
        Mistake("The module of an environment is missing", "openreward-gym serve my_envs:Weather"),
        Mistake("The file of an environment raises", "openreward-gym serve broken.py:Broken"),
        Mistake("The split does not exist", f"openreward-gym tasks weather --base-url {_SERVER} --split trian"),
        Mistake("The task does not exist", f"openreward-gym tasks weather --base-url {_SERVER} --task 99"),
        Mistake("A secret is missing", f"openreward-gym tasks locked --base-url {_LOCKED} --task 0", 1),
        Mistake(
            "The variable of a secret is not set",
            f"openreward-gym tasks locked --base-url {_LOCKED} --task 0 --secret api_key=MY_KEY",
        ),
    ),
    "Policies": (
        Mistake("The policy is misspelt", f"{_COLLECT} --policy randm"),
        Mistake("The model's name is missing", f"{_COLLECT} --policy openai:"),
        Mistake("The policy's module is missing", f"{_COLLECT} --policy my_policies:answer"),
        Mistake("The policy's module has no such function", f"{_COLLECT} --policy policies:anser"),
        Mistake("The script of a policy is missing", f"{_COLLECT} --policy scripted:steps.jsonl"),
        Mistake("The policy raises", f"{_COLLECT} --policy policies:broken --tasks 0 --output runs/raises", 1),
        Mistake("The policy returns nothing", f"{_COLLECT} --policy policies:answer --tasks 0 --output runs/nothing", 1),
        Mistake("The policy is not async (it works)", f"{_COLLECT} --policy policies:plain --tasks 0 --output runs/plain", 0),
        Mistake("The policy calls a tool that is missing", f"{_COLLECT} --policy policies:tool --tasks 0 --output runs/tool", 0),
    ),
    "Models": (
        Mistake("The key of the model is missing", f"{_COLLECT} --policy openai:gpt-5 --tasks 0", 2),
        Mistake(
            "The key of the model is wrong",
            f"OPENAI_API_KEY=wrong {_COLLECT} --policy openai:m --policy-url {_KEYED}/v1 --tasks 0",
            1,
        ),
        Mistake(
            "No model server runs",
            f"{_COLLECT} --policy openai:m --policy-url {_FREE}/v1 --tasks 0 --output runs/down",
            None,
            r"sent again in [\d.]+ s\]",
        ),
        Mistake(
            "The model server does not answer",
            f"{_COLLECT} --policy openai:m --policy-url {_SILENT}/v1 --tasks 0 --output runs/silent",
            None,
            r"no answer from .* waiting\)",
        ),
    ),
    "Runs and files": (
        Mistake("The output holds a run already", f"{_COLLECT} --policy random --output runs/first", 1),
        Mistake("There is nothing to resume", f"{_COLLECT} --policy random --output runs/new --resume", 1),
        Mistake("The output is a file", f"{_COLLECT} --policy random --output notes.txt"),
        Mistake("The run does not exist", "openreward-gym report runs/frist", 1),
        Mistake("The folder is empty", "openreward-gym report empty", 1),
        Mistake("Nothing is there to view", "openreward-gym view nothing", 1),
        Mistake("No rollout is left to export", "openreward-gym export runs/first --min-reward 2 --output out", 1),
        Mistake("The format is misspelt", "openreward-gym export runs/first --format sftt --output out"),
        Mistake(
            "The Hub is not reached",
            f"HF_ENDPOINT={_FREE} HF_HUB_OFFLINE=0 openreward-gym export runs/first --push me/rollouts",
            1,
        ),
        Mistake("A file of another kind is imported", "openreward-gym import inspect notes.txt --output runs/imported", 1),
        Mistake("No file matches", "openreward-gym import inspect 'logs/*.eval' --output runs/imported", 1),
        Mistake("The importer is misspelt", "openreward-gym import inspct logs --output runs/imported"),
    ),
    "In Python": (
        Mistake("The split is misspelt", "python split.py", 1),
        Mistake("A step before the reset", "python early.py", 1),
        Mistake("An option is misspelt", "python option.py", 1),
        Mistake("No server runs", "python server.py", 1),
    ),
}

_MAKE = "import gymnasium as gym\n\nimport openreward_gym\n\nBASE_URL = '" + _SERVER + "'\n"
_ENV = _MAKE + 'env = gym.make("OpenReward-v0", environment="weather", base_url=BASE_URL'
FILES = {
    "notes.txt": "hello\n",
    "broken.py": "from openreward.environments import Environment\n\nLIMIT = 1 / 0\n",
    "policies.py": "async def answer(transcript, tools): ...\n\n\n"
    "async def broken(transcript, tools):\n    return transcript[99]\n\n\n"
    "def plain(transcript, tools):\n    return 'It is cold.'\n\n\n"
    "def tool(transcript, tools):\n"
    "    return 'Done.' if len(transcript) > 2 else {'name': 'get_wether', 'arguments': {'city': 'Boston'}}\n",
    "split.py": f'{_ENV}, split="trian")\nenv.reset()\n',
    "early.py": f'{_ENV}).unwrapped\nenv.step("Hi.")\n',
    "option.py": f'{_MAKE}gym.make("OpenReward-v0", environment="weather", base_url=BASE_URL, max_stpes=3)\n',
    "server.py": _ENV.replace(_SERVER, _FREE) + ")\nenv.reset()\n",
    "locked.py": (
        "from openreward_gym.serve.examples.weather import Weather\n\n\nclass Locked(Weather):\n"
        "    def __init__(self, task_spec, secrets={}):\n        super().__init__(task_spec, secrets)\n"
        '        self.key = secrets["api_key"]\n'
    ),
}
"""The files of the folder in which the mistakes are made."""


class _Answers(BaseHTTPRequestHandler):
    """A web server that knows nothing of environments: every path is 404, or 401 on the server that wants a key."""

    status = 404

    def do_GET(self) -> None:
        body = b'{"detail":"Not Found"}' if self.status == 404 else b'{"detail":"Unauthorized"}'
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _Refuses(_Answers):
    status = 401


class Bench:
    """The folder and the servers on which the mistakes are made. Its addresses take the place of the page's."""

    def __init__(self, folder: Path, addresses: Mapping[str, str]) -> None:
        self.folder = folder
        self.addresses = addresses

    def make(self, mistake: Mistake, *, terminal: bool = True, variables: Mapping[str, str] | None = None) -> Output:
        """Make a mistake in a terminal of 80 columns, or with the output in a file, and return what was printed."""
        command = mistake.typed
        for shown, real in self.addresses.items():
            command = command.replace(shown, real)
        words = shlex.split(command)
        own = {"COLUMNS": str(COLUMNS), **(variables or {})}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            own[name] = value
        if "--output" in words and mistake in (*SECTIONS["Policies"], *SECTIONS["Models"]):
            shutil.rmtree(self.folder / words[words.index("--output") + 1], ignore_errors=True)  # of an earlier run
        program = {"openreward-gym": [sys.executable, "-m", "openreward_gym"], "python": [sys.executable]}
        arguments = [*program[words[0]], *words[1:]]
        if arguments[3:4] == ["serve"] and "--port" not in arguments:
            arguments += ["--port", "0"]  # another program may listen at 8080 on the machine of this run
        hidden = (
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENREWARD_API_KEY",
            "OPENREWARD_API_URL",
            "HF_TOKEN",
            "FORCE_COLOR",
            "NO_COLOR",
            "MY_KEY",
        )
        environ = {name: value for name, value in os.environ.items() if name not in hidden} | own
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        output = in_terminal if terminal else in_file
        printed = output(arguments, self.folder, environ, mistake.until)
        text = printed.text.replace(str(self.folder), "/home/you")
        for shown, real in self.addresses.items():
            text = text.replace(real, shown)
            if shown.startswith("http"):  # an error of the system names the port alone
                text = re.sub(rf"\b{real.rpartition(':')[2]}\b", shown.rpartition(":")[2], text)
        return Output(text, printed.code, printed.seconds)


@contextmanager
def bench() -> Iterator[Bench]:
    """Make the folder, and start the servers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="first-hour-"))).resolve()
        addresses = {
            _SERVER: stack.enter_context(serve.local(["weather"])),
            _HUB: stack.enter_context(_web_server(_Answers)),
            _KEYED: stack.enter_context(_web_server(_Refuses)),
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            addresses[_FREE] = f"http://127.0.0.1:{free.getsockname()[1]}"
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        addresses[_SILENT] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, text in FILES.items():
            for shown, real in addresses.items():
                text = text.replace(shown, real)
            (folder / name).write_text(text)
        addresses[_LOCKED] = stack.enter_context(serve.local([f"{folder / 'locked.py'}:Locked"]))
        # Where a command names the port alone, it is that of the server.
        addresses["127.0.0.1:8080"] = addresses[_SERVER].removeprefix("http://")
        addresses["--port 8080"] = "--port " + addresses[_SERVER].rpartition(":")[2]
        (folder / "empty").mkdir()
        collect("weather", "random", base_url=addresses[_SERVER], output=folder / "runs" / "first", progress=False)
        yield Bench(folder, addresses)


@contextmanager
def _web_server(handler: type[_Answers]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def all_mistakes() -> list[Mistake]:
    """Return the mistakes in the order of the page."""
    return [mistake for mistakes in SECTIONS.values() for mistake in mistakes]


def shown(mistake: Mistake, text: str) -> str:
    """Return what the page shows: of a program's traceback, only the error."""
    if mistake.typed.startswith("python ") and "Traceback" in text:
        text = wrapped(re.split(r"\n(?=[\w.]+(?:Error|Exception))", text)[-1], width=COLUMNS)
    return text.rstrip()


def fit_for_page(text: str) -> str:
    """Return an output with the durations of one machine in place of those of this run."""
    text = re.sub(r"in \d:\d\d:\d\d, (?:[\d.]+/s|[\d.]+ s each), ", "in 0:00:00, 25.0/s, ", text)
    text = re.sub(r"in \d:\d\d:\d\d", "in 0:00:00", text)
    text = re.sub(r"again in \d\.\d s", "again in 0.8 s", text)
    text = re.sub(r"\b0\.\d\d\d( s each|\n)", r"0.020\1", text)
    return re.sub(r" for \d+ s \(", " for 7 s (", text)


def page(outputs: Mapping[Mistake, Output]) -> str:
    """Return the page."""
    lines = [
        "# First mistakes",
        "",
        "<!-- Written by tests/docs/first_mistakes.py. -->",
        "",
        "What is printed for likely mistakes, in a terminal of 80 columns. The commands were run to write this page; a server of",
        f"`weather` answers at {_SERVER}, and `runs/first` is a run. Errors go to stderr, on one line where it is no terminal.",
        "Exit codes are 0 for done, 1 for failed, 2 for wrong usage and 75 for incomplete; `--debug` shows tracebacks.",
    ]
    for title, mistakes in SECTIONS.items():
        lines += ["", f"## {title}"]
        for mistake in mistakes:
            typed = mistake.typed
            if typed.startswith("python "):
                typed = FILES[typed.removeprefix("python ")].rstrip()
            block = "python" if mistake.typed.startswith("python ") else "console"
            prompt = "" if block == "python" else "$ "
            text = fit_for_page(shown(mistake, outputs[mistake].text))
            lines += ["", f"### {mistake.title}", ""]
            if block == "python":
                lines += ["```python", typed, "```", "", "```text", text, "```"]
            else:
                lines += ["```console", f"{prompt}{typed}", text, "```", "", _ending(outputs[mistake])]
    return "\n".join(lines) + "\n"


def _ending(output: Output) -> str:
    return "It goes on trying until Ctrl-C." if output.code is None else f"Exit code {output.code}."


def outputs_of(place: Bench, *, terminal: bool = True) -> dict[Mistake, Output]:
    """Make all mistakes."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = pool.map(
            lambda one: place.make(one, terminal=terminal, variables={"NO_COLOR": "1"} if terminal else {}), all_mistakes()
        )
        return dict(zip(all_mistakes(), made, strict=True))


def main() -> None:
    """Write the page."""
    with bench() as place:
        PAGE.write_text(page(outputs_of(place)), encoding="utf-8")


if __name__ == "__main__":
    main()
