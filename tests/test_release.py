"""Tests of the release: the metadata, the contents of sdist and wheel, and the wheel installed into a fresh environment."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import installing
import pytest
from launch import free_port
from raw_server import RawRequest, RawServer

import openreward_gym
from openreward_gym import Client

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION: str = PROJECT["version"]


def test_the_version_stands_in_pyproject_alone() -> None:
    assert openreward_gym.__version__ == VERSION
    sources = (ROOT / "openreward_gym").rglob("*.py")
    assert [path.name for path in sources if f'{VERSION}"' in path.read_text(encoding="utf-8")] == []


@pytest.mark.anyio
async def test_requests_name_the_version() -> None:
    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        body = b'["weather"]' if "list_environments" in request.line else b"[]"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        return True

    async with RawServer(script) as server, Client(server.url) as client:
        await client.environment("weather").splits()
    assert {request.headers["user-agent"] for request in server.requests} == {f"openreward-gym/{VERSION}"}


def test_the_citation_has_the_version_of_the_project() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.M) == [VERSION]


def test_the_citation_describes_the_project() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for field in ("cff-version: 1.2.0", f"title: {PROJECT['name']}", f"license: {PROJECT['license']}", "message: "):
        assert f"\n{field}" in f"\n{citation}"
    assert all(f"- name: {author['name']}" in citation for author in PROJECT["authors"])
    assert PROJECT["description"].rstrip(".").split(";")[0] in citation.replace("\n  ", " ")


def test_the_release_takes_its_notes_from_the_changelog(tmp_path: Path) -> None:
    """The workflow's own command prints the section of a version, and nothing for an unknown version."""
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    command = re.search(r"awk .*CHANGELOG\.md", workflow)
    assert command is not None
    sections = ("[Unreleased]\n- later", "[0.2.0] - 2030-01-02\n\n### Added\n- this", "[0.1.0] - 2030-01-01\n- that")
    text = "# Changelog\n\n" + "".join(f"## {section}\n\n" for section in sections)
    (tmp_path / "CHANGELOG.md").write_text(text)
    for version, notes in (("0.2.0", "### Added\n- this"), ("0.1.0", "- that"), ("0.3.0", "")):
        shell = {**os.environ, "VERSION": version}
        ran = subprocess.run(["bash", "-c", command[0]], cwd=tmp_path, env=shell, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == notes
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or f"## [{VERSION}]" in changelog


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository, links as links, without what was made of them."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    assert (folder / "wrappers").is_symlink()
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from the sdist, as a user of a package index would."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(source)], check=True, capture_output=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.matrix
def test_twine_accepts_both_distributions(built: tuple[Path, Path]) -> None:
    ran = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("PASSED") == 2


@pytest.mark.matrix
def test_an_installed_package_is_typed(built: tuple[Path, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(built[1]).extractall(site)
    assert (site / "openreward_gym" / "py.typed").exists()
    program = tmp_path / "program.py"
    program.write_text('from openreward_gym import OpenRewardEnv\n\nOpenRewardEnv("weather").reset()[1]["task_idx"]\n')
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}/cache", str(program)]
    environment = {**os.environ, "MYPYPATH": str(site), "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=280, check=False)
    assert 'TypedDict "Info" has no key "task_idx"' in done.stdout


def test_the_contents_of_the_wheel(built: tuple[Path, Path], source: Path) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        page = wheel.read("openreward_gym/viewer/index.html")
    assert page == (ROOT / "openreward_gym" / "viewer" / "index.html").read_bytes()
    assert {"openreward_gym/py.typed", "openreward_gym/store/rollout.schema.json"} <= names
    # The package, and that which verifiers finds by its name. `wrappers` is a link that exists in the repository alone.
    packages = {"openreward_gym", "openreward_gym_verifiers"}
    assert {name.split("/")[0] for name in names} == {*packages, f"openreward_gym-{VERSION}.dist-info"}
    assert not [name for name in names if "test_" in name or "/web/" in name or "node_modules" in name]
    modules = {str(path.relative_to(source)) for package in packages for path in (source / package).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


@pytest.mark.matrix
def test_the_contents_of_the_sdist(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "openreward_gym/viewer/index.html"} <= names
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"wrappers", "tests", "docs", "node_modules", "runs"}, tops


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with the extras for serving and viewing into a fresh environment, and return its `bin`."""
    return installing.environment(tmp_path_factory.mktemp("fresh") / "venv", f"{built[1]}[server,viewer]").parent


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_the_installed_wheel_runs_the_demo_and_the_viewer(installed: Path, tmp_path: Path) -> None:
    # Hide the checkout and its environment from the installed command.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PATH": f"{installed}{os.pathsep}/usr/bin{os.pathsep}/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = str(installed / "openreward-gym")
    version = subprocess.run([command, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert version.stdout.strip() == f"openreward-gym {VERSION}"
    demo = subprocess.run([command, "demo", "--output", "runs"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stderr
    assert "Done in" in demo.stdout
    port = free_port()
    with _running([command, "view", "runs", "--port", str(port)], tmp_path, environment) as view:
        page = _page(f"http://127.0.0.1:{port}/", view)
        assert b"<title>" in page
        view.send_signal(signal.SIGTERM)
        _, stderr = view.communicate(timeout=30)
    assert "Traceback" not in stderr
    assert view.returncode in (0, -signal.SIGTERM)


@contextmanager
def _running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _page(url: str, process: subprocess.Popen[str]) -> bytes:
    opener, ends = build_opener(ProxyHandler({})), time.monotonic() + 60
    while True:
        try:
            with opener.open(url, timeout=10) as answer:
                content: bytes = answer.read()
                return content
        except (URLError, ConnectionError):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < ends, f"{url} does not answer"
            time.sleep(0.05)
