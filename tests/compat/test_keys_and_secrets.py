"""Keys and secrets that a program passes as values are sent as the official client sends them, and shown nowhere."""

from __future__ import annotations

import gc
import importlib
import json
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from gateway import KEY, Gateway, gateway

from openreward_gym import compat
from openreward_gym.compat import AsyncOpenReward, OpenReward
from openreward_gym.compat.api.environments.client import AsyncEnvironmentsAPI, EnvironmentsAPI
from openreward_gym.compat.api.environments.types import AuthenticationError
from openreward_gym.compat.api.errors import HTTPStatusError
from openreward_gym.compat.secrets import WELL_KNOWN_HOSTS
from openreward_gym.errors import OpenRewardGymError

SECRET = "the-judges-secret-0123"
SECRETS: Any = {"judge": (SECRET, ["judge.example.com"]), "openai_api_key": "an-openai-key-4567"}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENREWARD_DISABLE_UPDATE_CHECK", "1")
    for name in ("OPENREWARD_API_KEY", "OPENREWARD_URL", "OPENREWARD_API_URL", "OPENREWARD_SESSION_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()  # the SDK leaves connections to it


MAKERS: list[Callable[[str], Any]] = [
    lambda url: OpenReward(base_url=url),
    lambda url: AsyncOpenReward(base_url=url),
    lambda url: EnvironmentsAPI(url, KEY),
    lambda url: AsyncEnvironmentsAPI("http://127.0.0.1:1", KEY, url),
    lambda url: OpenReward().environments.get("n", base_url=url),
    lambda url: AsyncOpenReward().environments.get("n", base_url=url),
]
"""What takes the address of a server."""
URLS = [
    f"http://me:{SECRET}@",
    f"ftp://me:{SECRET}@host",
    f"http://me:{SECRET}@host:99999",
    f"https://me:{SECRET}@[::1",
    f"http://me:{SECRET}@host/\n",
    f"http://host/?k={SECRET}",
]


@pytest.fixture
def platform(server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with gateway(server_url) as platform:
        monkeypatch.setenv("OPENREWARD_SESSION_URL", platform.url)
        monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
        yield platform


def all_of(error: BaseException) -> str:
    """Return what a traceback, a debugger or a log can show of an error, the variables of our frames among it."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for one in _chain(shown) for frame in one.stack if "openreward_gym" in frame.filename]
    frames = "".join(f"{frame.filename} {frame.line} {frame.locals}" for frame in ours)
    return f"{error!r} {error} {vars(error)} {frames} {pickle.dumps(error)!r}"


def _chain(shown: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    while shown is not None:
        yield shown
        shown = shown.__cause__ or shown.__context__


def test_the_hosts_of_well_known_secrets_are_the_sdk_s() -> None:
    theirs = importlib.import_module("openreward.api.sandboxes.secrets").WELL_KNOWN_SECRETS
    assert {name: list(hosts) for name, hosts in WELL_KNOWN_HOSTS.items()} == theirs


def test_the_server_is_told_the_same(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for client in (importlib.import_module("openreward"), compat):
        with gateway(server_url) as platform:
            monkeypatch.setenv("OPENREWARD_SESSION_URL", platform.url)
            monkeypatch.setenv("OPENREWARD_API_URL", "https://api.openreward.example")
            with client.OpenReward(KEY) as official:
                environment = official.environments.get("owner/name")
                task = environment.get_task("train", 1)
                with environment.session(task, SECRETS, env_overrides={"MODE": "strict"}):
                    pass
                with environment.session(split="train", index=2, toolset=None):
                    pass
            # The SDK takes an IP address for a name with an inside.
            for one in (one for secrets in platform.secrets for one in secrets.values()):
                one["allowed_domains"] = [host for host in one["allowed_domains"] if host != "127.openreward.internal"]
            told.append((platform.secrets, platform.bodies))
    assert told[0] == told[1]
    assert len(told[0][0]) > 0


@pytest.mark.parametrize("cls", [OpenReward, AsyncOpenReward])
@pytest.mark.parametrize("given", [{"api_key": KEY}, {"api_key": KEY, "base_url": "https://platform.example"}])
def test_a_key_is_in_no_repr_and_in_no_pickle(cls: Any, given: dict[str, str]) -> None:
    client = cls(**given)
    assert client.api_key == KEY
    things = [
        client,
        client.environments,
        client.environments.get("owner/name"),
        client.environments.get("n").session(split="s", index=0),
    ]
    for thing in things:
        assert KEY not in repr(thing) + str(thing) + str(vars(thing))
        with pytest.raises(TypeError) as refused:
            pickle.dumps(thing)
        assert KEY not in str(refused.value)


def test_a_client_without_a_key_of_its_own_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    for cls in (OpenReward, AsyncOpenReward):
        data = pickle.dumps(cls(base_url="https://platform.example"))
        assert KEY.encode() not in data
        again = pickle.loads(data)
        assert type(again) is cls
        assert (again.session_base_url, again.api_key) == ("https://sessions.platform.example", KEY)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: OpenReward(KEY, base_url="not a url"),
        lambda: OpenReward(KEY + "\nX-Other: 1"),
        lambda: OpenReward(f"https://me:{KEY}@host"),
        lambda: EnvironmentsAPI("nowhere", KEY),
        lambda: AsyncEnvironmentsAPI("nowhere", KEY),
        lambda: OpenReward(KEY).environments.get(""),
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets={"judge": SECRET}),
        lambda: OpenReward(KEY).environments.get("n").session(split="s", secrets=SECRETS),
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets=SECRETS, toolset="x"),  # type: ignore[arg-type]
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets={"judge": (SECRET, 7)}).__enter__(),  # type: ignore[dict-item]
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets={"judge": [SECRET]}),  # type: ignore[dict-item]
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets=[("judge", SECRET)]),  # type: ignore[arg-type]
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets=SECRET),  # type: ignore[arg-type]
        lambda: OpenReward(KEY).environments.get("n").session(split="s", index=0, secrets={7: SECRET}),  # type: ignore[dict-item]
        lambda: AsyncOpenReward(KEY).environments.get("n").session(split="s", index=0, secrets=SECRET),  # type: ignore[arg-type]
        lambda: OpenReward(base_url=KEY),
        *(partial(make, url) for make in MAKERS for url in URLS),
    ],
)
def test_a_mistake_shows_no_key_and_no_secret(mistake: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_ANOTHER_SERVICE", SECRET)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        mistake()
    assert isinstance(caught.value, OpenRewardGymError)
    shown = all_of(caught.value)
    assert KEY not in shown
    assert SECRET not in shown


def test_a_server_that_repeats_everything_shows_no_key_and_no_secret(platform: Gateway) -> None:
    platform.spiteful = True
    client = OpenReward(KEY)
    environment = client.environments.get("owner/name")
    requests: list[Callable[[], Any]] = [
        environment.list_splits,
        environment.list_required_secrets,
        lambda: environment.get_task("train", 0),
        lambda: environment.session(split="train", index=0, secrets=SECRETS).__enter__(),
    ]
    for request in requests:
        with pytest.raises(HTTPStatusError, match="400") as caught:
            request()
        shown = all_of(caught.value)
        assert KEY not in shown
        assert SECRET not in shown
    client.close()


def test_a_refused_key_is_not_shown(platform: Gateway) -> None:
    wrong = "sk-wrong-89abcdef"
    with OpenReward(wrong) as client, pytest.raises(AuthenticationError) as caught:
        client.environments.get("owner/name").list_splits()
    assert wrong not in all_of(caught.value)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    "base_url", [None, "https://platform.example", "http://platform.example:8443", "https://a.b.example/path"]
)
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OPENREWARD_URL": "https://other.example"},
        {"OPENREWARD_API_URL": "http://127.0.0.1:1"},
        {"OPENREWARD_SESSION_URL": "http://127.0.0.1:2", "OPENREWARD_URL": "http://other.example:99"},
        {"OPENREWARD_API_KEY": "sk-in-the-environment"},
    ],
)
def test_addresses_and_keys_are_found_as_the_sdk_finds_them(
    base_url: str | None, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = []
    for client in (importlib.import_module("openreward"), compat):
        for cls in (client.OpenReward, client.AsyncOpenReward):
            one = cls(base_url=base_url)
            found.append(
                (one.base_url, one.session_base_url, one.api_key, cls("", base_url).api_key, cls("sk-x").api_key, one.run_info)
            )
    assert len(set(found)) == 1


def test_an_address_in_the_place_of_the_key_is_said() -> None:
    with pytest.raises(ValueError, match="base_url="):
        OpenReward("http://127.0.0.1:8080")


PROGRAM = """
import sys
sys.modules["openreward"] = None
from openreward_gym import compat
from openreward_gym.compat import OpenReward, api
for wanted in (lambda: compat.judging.Verdict, lambda: compat.SandboxSettings, lambda: OpenReward("sk-a-key-0123").sandbox(None)):
    try:
        wanted()
    except ImportError as error:
        print(error)
try:
    from openreward_gym.compat.api.sandboxes import SandboxSettings
except ImportError as error:
    print(error)
assert not {"aiohttp", "structlog"} & set(sys.modules)
"""


def test_without_the_sdk_its_own_names_say_how_to_install_it() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    lines = ran.stdout.splitlines()
    assert len(lines) == 4
    assert all("pip install 'openreward-gym[server]'" in line for line in lines), lines


def test_nothing_of_the_sdk_is_imported_with_the_names() -> None:
    uses = "import openreward_gym.compat as c, sys; c.OpenReward, c.Session, c.convert_messages"
    code = f"{uses}; print([m for m in sys.modules if m.startswith(('openreward.', 'aiohttp'))])"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == []
