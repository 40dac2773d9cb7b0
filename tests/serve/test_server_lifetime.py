"""A server never outlives its owner, however the owner ends."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from echo_environments import Echo, NeverLetsGo, TearsDown

from openreward_gym import serve
from openreward_gym.serve import server as server_module

Owner = Callable[[str], "tuple[subprocess.Popen[str], str]"]


def answers(base_url: str) -> bool:
    address = urlsplit(base_url)
    try:
        socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=5.0).close()
    except ConnectionRefusedError:
        return False
    return True


def gone(base_url: str, within_s: float = 15.0) -> bool:
    """Return True as soon as nothing listens at the address, False after `within_s`."""
    return _becomes(lambda: not answers(base_url), within_s)


def dead(pid: int, within_s: float = 15.0) -> bool:
    """Return True as soon as the process has ended (a zombie counts), False after `within_s`."""

    def check() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    return _becomes(check, within_s)


def _becomes(check: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Run a script in its own process group; return the process and its first line, the base URL of its server."""
    running: list[subprocess.Popen[str]] = []

    def run(body: str) -> tuple[subprocess.Popen[str], str]:
        script = tmp_path / "owner.py"
        script.write_text(f"import os, signal, sys, time\nfrom openreward_gym import serve\n{textwrap.dedent(body)}")
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        assert base_url.startswith("http://"), process.communicate()[1]
        return process, base_url

    yield run
    for process in running:
        process.kill()
        process.communicate()


def test_an_exception_in_the_block_ends_it() -> None:
    server = serve.local(["weather"])

    def use() -> None:
        with server as base_url:
            assert answers(base_url)
            raise ZeroDivisionError(base_url)

    with pytest.raises(ZeroDivisionError) as caught:
        use()
    assert not answers(str(caught.value))


def test_a_collected_server_is_ended() -> None:
    server = serve.local(["weather"])
    base_url, log = server.start(), server._log_path
    assert log is not None
    assert log.exists()
    del server
    gc.collect()
    assert not answers(base_url)
    assert not log.exists()


def test_the_end_of_the_interpreter_ends_it(owner: Owner) -> None:
    process, base_url = owner("server = serve.local(['weather'])\nprint(server.start(), flush=True)\nsys.exit(3)")
    assert process.wait(15) == 3
    assert not answers(base_url)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_owner_takes_it_along(owner: Owner, how: signal.Signals) -> None:
    process, base_url = owner("server = serve.local(['weather'])\nprint(server.start(), flush=True)\ntime.sleep(300)")
    process.send_signal(how)
    assert process.wait(15) == -how
    assert gone(base_url)


def test_a_killed_owner_takes_it_along_though_a_forked_process_lives_on(owner: Owner) -> None:
    process, base_url = owner(
        """
        server = serve.local(['weather'])
        server.start()
        worker = os.fork()
        if worker == 0:
            time.sleep(300)
        print(server.base_url, flush=True)
        print(worker, flush=True)
        time.sleep(300)
        """
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        process.kill()
        assert gone(base_url)
        assert not dead(worker, within_s=0.0)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_process_ends_nothing_and_stops_without_waiting(owner: Owner) -> None:
    process, base_url = owner(
        """
        server = serve.local(['weather'])
        print(server.start(), flush=True)
        worker = os.fork()
        if worker == 0:
            server.stop()
            del server
            sys.exit(0)
        os.waitpid(worker, 0)
        idle = os.fork()
        if idle == 0:
            time.sleep(300)
        print("worker is gone", flush=True)
        sys.stdin.readline()
        child = server._process
        server.stop()
        print("killed after a wait" if child.returncode == -signal.SIGKILL else "asked", flush=True)
        os.kill(idle, signal.SIGKILL)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "worker is gone\n"
    assert answers(base_url)
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    assert process.stdout.readline() == "asked\n"
    assert process.wait(15) == 0
    assert not answers(base_url)


def test_the_server_survives_ctrl_c_until_the_owner_ends(owner: Owner) -> None:
    process, base_url = owner(
        """
        import urllib.request
        with serve.local(['weather']) as base_url:
            try:
                print(base_url, flush=True)
                time.sleep(300)
            except KeyboardInterrupt:
                print(urllib.request.urlopen(base_url + '/health').status, flush=True)
                raise
        """
    )
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "200\n"
    assert process.wait(15) == -signal.SIGINT
    assert not answers(base_url)


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    tell = "with open('pid', 'w') as file:\n    file.write(str(os.getpid()))\nos.rename('pid', 'started')\n"
    (tmp_path / "slow.py").write_text(f"import os, time\n{tell}time.sleep(300)\n")
    code = "from openreward_gym import serve\nserve.local(['slow:Environment']).start()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True) as process:
        started = tmp_path / "started"
        assert _becomes(started.exists, 30.0)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(15) == -signal.SIGINT
    assert dead(int(started.read_text()), within_s=0.0)


@contextmanager
def left_open(base_url: str, environment: str, task_spec: dict[str, Any]) -> Iterator[httpx.Client]:
    """Open a session that is never closed; return its client."""
    with httpx.Client(base_url=base_url, headers={"X-Session-ID": "left-open"}, trust_env=False) as client:
        client.post("/create", json={"env_name": environment, "task_spec": task_spec}).raise_for_status()
        client.get(f"/{environment}/prompt").raise_for_status()
        yield client


def test_sessions_are_torn_down(tmp_path: Path) -> None:
    left = tmp_path / "left"
    server = serve.local(TearsDown)
    with left_open(server.start(), "tearsdown", {"n": 0, "file": str(left)}):
        server.stop()
    assert left.read_text() == "torn down"


def test_a_server_that_does_not_end_is_killed_with_its_subprocesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GRACE_S", 0.2)
    server = serve.local(NeverLetsGo)
    base_url = server.start()
    with left_open(base_url, "neverletsgo", {"n": 0}) as client:
        answer = client.post("/neverletsgo/call", json={"name": "start", "input": {}}).text
        server.stop()
    assert not answers(base_url)
    assert dead(int(re.findall(r'"text":"(\d+)"', answer)[0]))


def test_a_server_that_dies_can_be_started_again() -> None:
    server = serve.local(Echo)
    try:
        base_url = server.start()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        assert not answers(base_url)
        assert answers(server.start())
    finally:
        server.stop()


RUN = "serve.run({environments}, port={port}, announce=lambda text: print(text, flush=True))"


def foreground(directory: Path, environments: str, port: int | None = None) -> subprocess.Popen[str]:
    # A proxy that does not exist: requests to a server on this machine must not use it.
    environment: dict[str, Any] = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    code = f"from openreward_gym import serve\n{RUN.format(environments=environments, port=port)}"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_server_in_the_foreground_announces_its_url_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    with foreground(tmp_path, "['weather', 'ctf']") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("Serving weather, ctf at http://127.0.0.1:")
        base_url = line.split()[4]
        assert process.stdout.readline().strip() == f"openreward-gym tasks weather --base-url {base_url}"
        assert process.stdout.readline().strip().startswith(f"openreward-gym collect weather --base-url {base_url}")
        assert answers(base_url)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "Stopping.\n"
        assert process.wait(15) == 0
        assert process.stderr.read() == ""
    assert not answers(base_url)


def test_a_server_in_the_foreground_reports_why_it_cannot_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, foreground(tmp_path, "['weather']", taken.getsockname()[1]) as process:
        assert "in use" in process.communicate(timeout=60)[1]
    (tmp_path / "broken.py").write_text("print('before it broke', flush=True)\nraise RuntimeError('made of cheese')")
    with foreground(tmp_path, "['broken:Environment']") as process:
        errors = process.communicate(timeout=60)[1]
    assert errors.startswith("before it broke\n")
    # The traceback of our error includes theirs.
    assert errors.rstrip().endswith("RuntimeError: made of cheese")
    (tmp_path / "ends.py").write_text("import os\nos._exit(3)")
    with foreground(tmp_path, "['ends:Environment']") as process:
        errors = process.communicate(timeout=60)[1]
    assert "ended before it was ready (exit code 3)" in errors
    assert "log is above" in errors
