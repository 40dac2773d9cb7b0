"""The viewer from Python: serve, show and write_html, with a real server."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from viewer_runs import simple, training

from openreward_gym import RolloutStore, viewer
from openreward_gym.errors import ConfigurationError, StoreError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the index of these runs out of the user's cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    training(tmp_path / "runs", steps=1)
    return tmp_path / "runs"


def keys(url: str) -> list[str]:
    """Wait until the viewer has read all runs; return their keys."""
    while True:
        overview = httpx.get(f"{url}api/runs").json()
        if overview["runs"] and overview["progress"]["done"] == overview["progress"]["total"]:
            return sorted(run["key"] for run in overview["runs"])


def refuses_connections(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.ConnectError:
        return True
    return False


def test_a_context_manager_gives_the_url_and_stops_the_server(runs: Path) -> None:
    with viewer.serve(runs, port=0) as url:
        assert httpx.get(url).status_code == 200
        assert keys(url) == ["training"]
        assert {"sft", "preference"} <= {name for name, _ in httpx.get(f"{url}api/extensions").json()["lens"]}
    assert refuses_connections(url)


def test_runs_are_folders_or_stores_one_or_several(runs: Path) -> None:
    store = training(runs, name="second", steps=1)
    several: list[Path | RolloutStore] = [store, runs / "training"]
    for target in (str(runs), several, RolloutStore.open([runs / "training", runs / "second"])):
        with viewer.serve(target, port=0) as url:
            assert keys(url) == ["second", "training"]


def test_waiting_lasts_until_the_server_is_stopped(runs: Path) -> None:
    server = viewer.serve(runs, port=0)
    assert repr(server) == f"ViewerServer({server.url!r}, running)"
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    server.stop()
    waiting.join(20)
    assert not waiting.is_alive()
    assert repr(server).endswith("stopped)")
    server.stop()


def test_what_cannot_be_served_is_refused_at_once(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        viewer.serve(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="no run was given"):
        viewer.serve([])
    with pytest.raises(ConfigurationError, match="not a URL"):
        viewer.serve(runs, port=0, replay="nowhere")
    with pytest.raises(ConfigurationError, match="Check the host"):
        viewer.serve(runs, host="not.a.host", port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="Try port 0"):
        viewer.serve(runs, port=taken.getsockname()[1])


def test_an_address_that_others_reach_needs_a_token(runs: Path) -> None:
    with viewer.serve(runs, host="0.0.0.0", port=0) as url:
        server, _, token = url.partition("?token=")
        assert server.startswith("http://127.0.0.1:")
        assert httpx.get(server).status_code == 401
        assert httpx.get(server, params={"token": token}).status_code == 303
        assert httpx.get(f"{server}api/runs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def hosts() -> list[str]:
    """Return the addresses of all interfaces: of IPv6 where this machine has it."""
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6).close()
    except OSError:
        return ["0.0.0.0"]
    return ["0.0.0.0", "::"]


@pytest.mark.parametrize("host", hosts())
def test_an_address_that_is_none_is_never_given(runs: Path, host: str) -> None:
    server = viewer.serve(runs, host=host, port=0)
    try:
        assert server.url == server.urls[0]
        for url in server.urls:
            assert not re.search(r"//(0\.0\.0\.0|\[::\])", url)
            assert httpx.get(url).status_code == 303, "it can be opened"
    finally:
        server.stop()


def test_a_notebook_shows_a_frame_that_only_local_pages_may_embed(runs: Path) -> None:
    shown = viewer.show(runs, open_browser=False, height=500)
    served = viewer.serve(runs, port=0)
    try:
        assert f'<iframe src="{shown.url}"' in shown._repr_html_()
        assert 'height="500"' in shown._repr_html_()
        assert "<iframe" not in served._repr_html_()
        headers = httpx.get(shown.url).headers
        assert "frame-ancestors http://localhost:*" in headers["content-security-policy"]
        assert "x-frame-options" not in headers
        for url in (served.url, f"{served.url}api/runs", f"{shown.url}api/runs"):
            assert "frame-ancestors 'none'" in httpx.get(url).headers["content-security-policy"]
        assert httpx.get(served.url).headers["x-frame-options"] == "DENY"
    finally:
        shown.stop()
        served.stop()
    assert "stopped" in shown._repr_html_()


def test_a_rollout_is_shown_at_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    server = viewer.show(simple("a b", "Hello.", run="training"))
    try:
        assert opened == [server.url]
        base, _, address = server.url.partition("#")
        assert address == "/rollouts?run=rollout%2Ftraining&sample=a%20b"
        rollout = httpx.get(f"{base}api/rollout", params={"run": "rollout/training", "id": "a b"}).json()["rollout"]
        assert rollout["messages"][1]["blocks"][0]["text"] == "Hello."
    finally:
        server.stop()


def test_one_file_holds_the_rollouts_that_a_filter_selects(runs: Path, tmp_path: Path) -> None:
    assert viewer.write_html(runs, tmp_path / "all.html") == 16
    assert viewer.write_html(RolloutStore(runs / "training"), tmp_path / "some.html", filter="sample == 0") == 4
    assert "training-0-3-0" in (tmp_path / "some.html").read_text()
    with pytest.raises(ConfigurationError, match="no rollout"):
        viewer.write_html(runs, tmp_path / "none.html", filter="reward > 2")


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['regex'] = None\n"
        "from openreward_gym.errors import MissingExtraError\n"
        "try:\n    from openreward_gym.viewer import serve\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "openreward-gym[viewer]" in run.stdout


def test_a_server_is_complete_when_it_is_returned(runs: Path) -> None:
    """A program may end right after it: nothing of the startup is left for the interpreter's exit."""
    before = {thread.ident for thread in threading.enumerate()}
    with viewer.serve(runs / "training", port=0):
        assert "viewer-index" in {thread.name for thread in threading.enumerate() if thread.ident not in before}


def test_a_program_that_ends_without_stopping_its_servers_ends_well(runs: Path) -> None:
    """Threads that index and serve at the interpreter's exit are ended before SQLite's files and locks go."""
    code = (
        "import sys; from openreward_gym import RolloutStore, viewer\n"
        "store = RolloutStore(sys.argv[1])\n"
        "for _ in range(3):\n    viewer.show(store, open_browser=False); viewer.show(store[0], open_browser=False)\n"
        "import threading; threading.Event().wait(float(sys.argv[2]))"
    )
    for pause in (0, 0.01, 0.05, 0.1):  # the exit falls into another moment of the indexing each time
        command = [sys.executable, "-c", code, str(runs / "training"), str(pause)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stderr) == (0, "")
