"""Each kind of environment on a real server in a subprocess."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import echo_environments
import httpx
import pytest
from echo_environments import Echo, Toolless, Unfinished, Words
from openreward.environments import TextBlock, ToolOutput, tool

from openreward_gym import serve
from openreward_gym.errors import ConfigurationError, MissingExtraError, TransportTimeoutError
from openreward_gym.protocol.client import Client

SCRIPT = """
    from __future__ import annotations
    import asyncio, sys
    from pydantic import BaseModel, Field
    from openreward.environments import Environment, TextBlock, Toolset, ToolOutput, tool
    from openreward_gym import serve
    from openreward_gym.protocol.client import Client

    GREETING = "hello"

    class Name(BaseModel):
        name: str = Field(min_length=2)

    class Politeness(Toolset):
        def __init__(self, env): pass

        @tool
        async def thank(self, name: Name) -> ToolOutput:
            return ToolOutput(blocks=[TextBlock(text=f"thank you {name.name}")])

    class Greeter(Environment):
        toolsets = [Politeness]

        @classmethod
        def list_splits(cls): return ["train"]

        @classmethod
        def list_tasks(cls, split): return [{}]

        def get_prompt(self): return [TextBlock(text=GREETING)]

        @tool
        async def greet(self, name: Name) -> ToolOutput:
            return ToolOutput(blocks=[TextBlock(text=f"{GREETING} {name.name}")])

    async def main(base_url):
        async with Client(base_url) as client, client.environment("greeter").session(split="train", index=0) as session:
            print((await session.call("greet", {"name": "ada"})).text)
            print((await session.call("thank", {"name": "ada"})).text)
            print((await session.call("greet", {"name": "x"})).error_kind)

    if __name__ == "__main__":
        with serve.local([Greeter]) as base_url:
            asyncio.run(main(base_url))
"""
SCRIPT_PRINTS = "hello ada\nthank you ada\ninput_validation\n"


def say(base_url: str, environment: str, words: str) -> str:
    async def run() -> str:
        async with Client(base_url) as client, client.environment(environment).session(task_spec={"n": 0}) as session:
            return (await session.call("say", {"words": words})).text

    return asyncio.run(run())


def python(*arguments: str, **keywords: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, **keywords
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_class_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    assert python("script.py", cwd=tmp_path) == SCRIPT_PRINTS


def test_a_class_typed_at_a_prompt(tmp_path: Path) -> None:
    assert python("-", input=textwrap.dedent(SCRIPT), cwd=tmp_path) == SCRIPT_PRINTS


def test_classes_of_a_module_of_a_function_and_of_an_unfindable_module(tmp_path: Path) -> None:
    closed_over = "from the function: "

    class Inner(Echo):
        @tool  # type: ignore[untyped-decorator]
        async def say(self, arguments: Words) -> ToolOutput:
            return ToolOutput(blocks=[TextBlock(text=closed_over + arguments.words)])

    source = (
        Path(echo_environments.__file__).read_text().replace("class Echo(", "class Elsewhere(").replace("(Echo)", "(Elsewhere)")
    )
    (tmp_path / "not_on_the_path.py").write_text(source)
    spec = importlib.util.spec_from_file_location("not_on_the_path", tmp_path / "not_on_the_path.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["not_on_the_path"] = module
    try:
        spec.loader.exec_module(module)
        annotations = dict(Inner.say.__annotations__)
        with serve.local([Echo, Inner, module.Elsewhere]) as base_url:
            assert say(base_url, "echo", "module") == "module"
            assert say(base_url, "inner", "hi") == "from the function: hi"
            assert say(base_url, "elsewhere", "by value") == "by value"
        assert Inner.say.__annotations__ == annotations
    finally:
        del sys.modules["not_on_the_path"]


def test_a_class_of_the_current_directory_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_environments.py").write_text(Path(echo_environments.__file__).read_text())
    monkeypatch.chdir(tmp_path)
    with serve.local("my_environments:Echo") as base_url:
        assert say(base_url, "Echo", "here") == "here"


def test_the_log_has_only_the_output_of_environments() -> None:
    server = serve.local(["weather", Echo])
    assert server.log == ""
    with server as base_url:
        assert say(base_url, "echo", "a line")
        assert "said a line" in server.log
        assert server.pid is not None
        assert repr(server) == f"LocalServer(['weather', 'Echo'], {base_url})"
    assert server.log == "said a line\n"
    assert repr(server) == "LocalServer(['weather', 'Echo'], not running)"


def test_a_subclass_is_not_served_its_parents_tasks() -> None:
    class Longer(Echo):
        @classmethod
        def list_splits(cls) -> list[str]:
            return ["train", "dev"]

        @classmethod
        def list_tasks(cls, split: str) -> list[Any]:
            return [{"n": n} for n in range(5)]

    async def run(base_url: str) -> list[Any]:
        async with Client(base_url) as client:
            echo, longer = client.environment("echo"), client.environment("longer")
            counts = [await echo.num_tasks("train"), await longer.num_tasks("train"), await echo.num_tasks("train")]
            return [*counts, [split.name for split in await longer.splits()], (await longer.task("dev", 4)).spec]

    with serve.local([Echo, Longer]) as base_url:
        assert asyncio.run(run(base_url)) == [2, 5, 2, ["train", "dev"], {"n": 4}]


def test_environments_find_an_empty_standard_input() -> None:
    async def run(base_url: str) -> str:
        async with Client(base_url) as client, client.environment("echo").session(split="train", index=0) as session:
            return (await session.call("read_input")).text

    with serve.local(Echo) as base_url:
        assert asyncio.run(run(base_url)) == "b''"


def test_start_stop_start_again_and_two_at_once() -> None:
    first, second = serve.local(["weather"]), serve.local(["ctf"])
    with pytest.raises(ConfigurationError, match="not running"):
        _ = first.base_url
    with pytest.raises(ConfigurationError, match="not running"):
        first.wait()
    try:
        one, two = first.start(), second.start()
        assert one != two
        assert first.start() == one == first.base_url
        assert httpx.get(f"{one}/list_environments").json() == ["weather"]
        assert httpx.get(f"{two}/list_environments").json() == ["ctf"]
        first.stop()
        first.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{one}/health")
        assert httpx.get(f"{two}/health").json() == {"status": "ok"}
        assert httpx.get(f"{first.start()}/health").json() == {"status": "ok"}
    finally:
        first.stop()
        second.stop()


def test_a_chosen_port_and_one_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
            serve.local(["weather"], port=port).start()
    with serve.local(["weather"], port=port) as base_url:
        assert base_url == f"http://127.0.0.1:{port}"
        with pytest.raises(ConfigurationError, match="in use"):
            serve.local(["ctf"], port=port).start()


def test_an_address_of_another_kind() -> None:
    with serve.local(["weather"], host="::1") as base_url:
        assert base_url.startswith("http://[::1]:")
        assert httpx.get(f"{base_url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"host": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"host": "no.such.host.invalid"}, "cannot listen"),
        ({"port": 99999}, "99999 is not a port"),
    ],
)
def test_an_invalid_address(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        serve.local(["weather"], **keywords).start()


@pytest.mark.parametrize(
    "environment",
    ["wether", "FrozenLake-v99", "", ":", "a b:C", "module:", ":Class", 3, None, object, Echo({"n": 0}), Client, dict],
)
def test_the_error_lists_what_can_be_served(environment: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"built-in names \(weather, ctf, bandit, reasoning\)"):
        serve.local([environment])


def test_nothing_and_abstract_classes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing to serve"):
        serve.local([])
    with pytest.raises(ConfigurationError, match="Unfinished: it does not define list_splits, list_tasks"):
        serve.local([Unfinished])


@pytest.mark.parametrize(
    ("environments", "words"),
    [
        ("no_such_module:X", "no module 'no_such_module'"),
        ("openreward_gym.nothing:X", "no module 'openreward_gym.nothing'"),
        ("echo_environments:Ecko", r"has no 'Ecko'; its environments: \['Echo'"),
        ("echo_environments:Words", "not a subclass of openreward.environments.Environment"),
        ("echo_environments:Unfinished", "Unfinished: it does not define list_splits, list_tasks"),
        ("gymnasium_environments:Odd", "Odd is a gymnasium.Env: register it"),
        ("json:loads", "function loads .* is not a subclass of openreward"),
        ("json:nothing", "json has no 'nothing', nor any subclass of openreward"),
        (Toolless, "'toolless' has no tools"),
        (["weather", "weather"], "duplicate env weather"),
    ],
)
def test_what_is_not_an_environment_is_named_in_a_sentence(environments: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        serve.local(environments).start()
    assert "Traceback" not in str(caught.value)


def test_a_module_that_raises_shows_the_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("print('before it broke')\nraise RuntimeError('the disk is made of cheese')\n")
    (tmp_path / "needy.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    server = serve.local(["broken:Environment"])
    with pytest.raises(ConfigurationError) as caught:
        server.start()
    for words in ("exit code 1", "before it broke", "RuntimeError: the disk is made of cheese", "broken.py"):
        assert words in str(caught.value)
    assert "made of cheese" in server.log
    with pytest.raises(ConfigurationError, match="No module named 'no_such_dependency'"):
        serve.local(["needy:Environment"]).start()


def test_a_class_that_cannot_travel_is_refused_with_what_to_do() -> None:
    held = socket.socket()

    class Holds(Echo):
        connection = held

    with held, pytest.raises(ConfigurationError, match=r"make them in setup\(\)"):
        serve.local([Holds]).start()


def test_a_server_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('thinking', flush=True)\ntime.sleep(300)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    server = serve.local(["slow:Environment"], start_timeout_s=2.0)
    with pytest.raises(TransportTimeoutError, match=r"(?s)within 2 s.*start_timeout_s.*The end of its log"):
        server.start()
    assert server.pid is None


@pytest.mark.parametrize(("package", "name"), [("openreward", "weather"), ("uvicorn", "ctf"), ("reasoning_gym", "reasoning")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str, name: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module, *rest: None if module == package else find(module, *rest))
    with pytest.raises(MissingExtraError, match=r"pip install 'openreward-gym\[server\]'"):
        serve.local([name])
    with pytest.raises(MissingExtraError):
        serve.app([name])
    if package == "reasoning_gym":
        serve.local(["weather"])


def test_naming_environments_imports_no_sdk() -> None:
    check = "import sys; from openreward_gym import serve; serve.local(['weather', 'ctf', 'reasoning', 'a:B'])"
    heavy = {"openreward", "uvicorn", "starlette", "reasoning_gym", "cloudpickle"}
    loaded = python("-c", f"{check}; print({{name.split('.')[0] for name in sys.modules}} & {heavy})")
    assert loaded == "set()\n"


def test_the_sdk_is_whole_in_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The server imports the SDK without its clients, but an environment can import them.
    source = Path(echo_environments.__file__).read_text()
    (tmp_path / "uses_the_client.py").write_text(
        f"{source}\nfrom openreward import OpenReward, UserMessage\nimport openreward.toolsets\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with serve.local(["uses_the_client:Echo"]) as base_url:
        assert say(base_url, "echo", "hello") == "hello"


def test_the_application_serves_in_this_process(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> Any:
        application = serve.app(["weather", Echo])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://here") as client:
            assert (await client.get("/health")).json() == {"status": "ok"}
            return (await client.get("/list_environments")).json()

    assert asyncio.run(run()) == ["weather", "echo"]
    with pytest.raises(ConfigurationError, match="no tools"):
        serve.app(Toolless)
