"""Start a server of the tests in a subprocess on a free loopback port, and always stop it."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

HERE = Path(__file__).parent
_RUN_SCRIPT = """
import os, runpy, sys
from openreward_gym.serve.child import skip_package_init
skip_package_init("openreward")
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def free_port() -> int:
    """Return a free port below those that a system gives to whoever asks for any, so that nobody gets it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def script_command(script: Path, *arguments: str) -> list[str]:
    """Return the command that runs a script with the SDK, without the five seconds in which it imports providers' clients."""
    return [sys.executable, "-c", _RUN_SCRIPT, str(script), *arguments]


@contextmanager
def served(
    script: Path = HERE / "environments.py",
    *,
    python: str | None = None,
    arguments: Sequence[str] = (),
    deadline_s: float = 60.0,
) -> Iterator[str]:
    """Run `script` with a port as its first argument; yield its base URL when `/health` answers.

    `python` is the interpreter of another environment.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    quiet = {"OPENREWARD_DISABLE_UPDATE_CHECK": "1", "OPENREWARD_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
    environ = {**os.environ, **quiet, "OPENREWARD_API_KEY": ""}
    with tempfile.TemporaryFile() as output:
        words = (str(port), *arguments)
        command = script_command(script, *words) if python is None else [python, str(script), *words]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
        try:
            _wait_for(f"{url}/health", process, deadline_s, output)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


class Restarted:
    """A server in a process of its own that can be killed and started again at the same port; see `served`."""

    def __init__(self, script: Path = HERE / "environments.py") -> None:
        self.script = script
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {
            **os.environ,
            "OPENREWARD_DISABLE_UPDATE_CHECK": "1",
            "OPENREWARD_LOG_LEVEL": "ERROR",
            "OPENREWARD_API_KEY": "",
        }
        with tempfile.TemporaryFile() as output:
            command = script_command(self.script, str(self.port))
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
            _wait_for(f"{self.url}/health", self._process, 60.0, output)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Restarted:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], deadline_s: float, output: object) -> None:
    opener = build_opener(ProxyHandler({}))
    ends = time.monotonic() + deadline_s
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        try:
            with opener.open(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    output.seek(0)  # type: ignore[attr-defined]
    raise RuntimeError(f"the server did not come up: {output.read()[-4000:]!r}")  # type: ignore[attr-defined]
