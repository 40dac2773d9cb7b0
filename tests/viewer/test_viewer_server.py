"""The viewer's server over real sockets, and the requests that it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from viewer_runs import png, simple, training
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.types import Block, ImageBlock, Rollout, UserMessage
from openreward_gym.viewer.app import COOKIE, Others, ViewerExtensions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer") / "runs"
    training(folder, steps=3)
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def url(runs: Path) -> Iterator[str]:
    with viewing(runs) as address:
        yield address


def test_it_lists_and_opens(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        (run,) = client.get("/api/runs").json()["runs"]
        assert (run["key"], run["rollouts"], run["last_step"]) == ("training", 48, 2)
        steps = client.get("/api/steps", params={"run": "training"}).json()
        assert [step["step"] for step in steps] == [0, 1, 2]
        listed = client.get("/api/list", params={"run": "training", "step": 1}).json()
        card = listed["groups"][0]["cards"][0]
        opened = client.get("/api/rollout", params={"run": "training", "id": card["id"]}).json()
        assert opened["rollout"]["id"] == card["id"]
        assert opened["place"]["group"] == listed["groups"][0]["group"]
        assert client.get("/api/rollout", params={"run": "training", "id": "nobody"}).status_code == 404


def test_what_has_not_changed_is_not_sent_again(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        first = client.get("/api/list?run=training&step=1")
        again = client.get("/api/list?run=training&step=1", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_wrong_parameters_are_explained(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        for request, message in [
            ("steps?run=training&filter=reward+<", "the filter ends"),
            ("list?run=training&step=one", "must be an integer"),
            ("list?run=training&step=99999999999999999999", "too large"),
            ("steps", "'run' is missing"),
            ("search?query=(&regex=1", "regular expression"),
            ("lens?run=training&id=x&format=sft", "without the export lens"),
        ]:
            answer = client.get(f"/api/{request}")
            assert answer.status_code in {400, 404}
            assert message in answer.json()["error"]


def test_the_page_runs_under_its_own_hashes_alone(url: str) -> None:
    answer = httpx.get(url)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/=]+';", policy)
    assert not re.search(
        r"""(?:src|href)=["']?(?:https?:)?//""", re.sub(r"<script.*?</script>", "", answer.text, flags=re.DOTALL)
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "", "10.0.0.1"]
)
def test_other_hosts_are_refused(url: str, host: str) -> None:
    for path in ("/", "/api/runs"):
        assert httpx.get(url + path, headers={"Host": host}).status_code == 403


def test_localhost_is_this_machine(url: str) -> None:
    assert httpx.get(url, headers={"Host": "localhost:1"}).status_code == 200


LABEL = {"run": "training", "rollout": "training-0-0-0", "rating": 3, "tags": ["good"], "note": "n"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "OWN", "Content-Type": "text/plain"}, 415),
        ({"Origin": "OWN", "Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_sites_cannot_write(url: str, runs: Path, headers: dict[str, str], status: int) -> None:
    request_headers = {"Content-Type": "application/json", **{key: value.replace("OWN", url) for key, value in headers.items()}}
    assert httpx.post(f"{url}/api/label", content=json.dumps(LABEL), headers=request_headers).status_code == status
    assert not (runs / "training" / "labels.jsonl").exists()


def test_other_sites_cannot_read(url: str) -> None:
    assert httpx.get(f"{url}/api/runs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert httpx.get(f"{url}/api/runs", headers={"Origin": "http://evil.example"}).status_code == 403
    assert "access-control-allow-origin" not in httpx.get(f"{url}/api/runs").headers


def test_labels_are_kept_and_wrong_ones_refused(tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=1)
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url, headers={"Origin": url}) as client:
        assert client.post("/api/label", json=LABEL).status_code == 200
        opened = client.get("/api/rollout", params={"run": "training", "id": "training-0-0-0"}).json()
        assert opened["label"] == {"rating": 3, "tags": ["good"], "note": "n"}
        assert client.get("/api/steps", params={"run": "training", "filter": "rating == 3"}).json()[0]["rollouts"] == 1
        wrongs: list[Any] = [{}, [], {**LABEL, "rating": 9}, {**LABEL, "run": "../../etc"}, {**LABEL, "rollout": "nobody"}]
        for wrong in wrongs:
            assert client.post("/api/label", json=wrong).status_code == 400
        assert client.post("/api/label", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
        long = {**LABEL, "note": "x" * 70_000}
        assert client.post("/api/label", json=long).status_code == 413
        assert client.put("/api/label", json=LABEL).status_code == 405
    assert len((tmp_path / "runs" / "training" / "labels.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "path",
    ["/..%2f..%2fsecret.txt", "/../secret.txt", "/static/..%2f..%2fsecret.txt", "/%2e%2e/%2e%2e/secret.txt", "//etc/passwd",
     "/api/image?run=training&sha256=..%2f..%2fsecret.txt", "/api/image?run=..%2f..&sha256=" + "a" * 64,
     "/api/image?run=training&sha256=%00", "/api/..%2fimage", "/index.py", "/web/package.json"],
)  # fmt: skip
def test_no_path_leads_out(url: str, path: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.split()[1] in {b"404", b"400"}, answer[:200]
    assert b"secret" not in answer.split(b"\r\n\r\n", 1)[1]
    assert b"root:" not in answer


def test_images_are_shown_as_what_they_are_and_never_as_pages(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    contents = {"image/png": png(), "image/svg+xml": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
                "text/html": b"<script>alert(1)</script>"}  # fmt: skip
    parts: list[Block] = [ImageBlock(mime_type=kind, data=base64.b64encode(data).decode()) for kind, data in contents.items()]
    store.append(Rollout(id="a", status="completed", messages=[UserMessage(content=parts)]))
    expected = ["image/png", "image/svg+xml", "application/octet-stream"]
    with viewing(tmp_path / "runs") as url:
        for data, kind in zip(contents.values(), expected, strict=True):
            answer = httpx.get(f"{url}/api/image?run=one&sha256={hashlib.sha256(data).hexdigest()}")
            assert answer.content == data
            assert answer.headers["content-type"] == kind
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]


def test_elsewhere_it_needs_the_token(runs: Path) -> None:
    with viewing(runs, token="the-token") as url:
        assert httpx.get(f"{url}/api/runs").status_code == 401
        assert httpx.get(f"{url}/").status_code == 401
        assert httpx.get(f"{url}/?token=another").status_code == 401
        assert httpx.get(f"{url}/api/runs?token=the-token").status_code == 401, "only the page takes it from the address"
        assert httpx.get(f"{url}/api/runs", headers={"Authorization": "Bearer the-token"}).status_code == 200
        with httpx.Client(base_url=url, follow_redirects=True) as client:
            assert client.get("/?token=the-token").status_code == 200
            assert client.cookies[COOKIE] == "the-token"
            assert client.get("/api/runs", headers={"Host": "viewer.lab:7860"}).status_code == 200
            assert client.post("/api/label", json=LABEL, headers={"Origin": "http://evil.example"}).status_code == 403


def test_what_grows_is_seen(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", "x"))
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        assert client.get("/api/rollout?run=one&id=b").status_code == 404
        store.append(simple("b", "x"))
        waited = threading.Event()
        for _ in range(100):
            if client.get("/api/rollout?run=one&id=b").status_code == 200:
                break
            waited.wait(0.1)
        else:
            pytest.fail("the new rollout was not seen within 10 s")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one" / "rollouts"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_bytes(
        b'{"schema":"openreward-gym/rollout/1","id":"a","status":"completed","messages":[{"role":"wizard"}]}\n'
        b'{"schema":"openreward-gym/rollout/1","id":"b","status":"completed","messages":3,"reward":[],"metrics":"x","step":"y"}\n'
        b'{"schema":"openreward-gym/rollout/1","id":"c","status":"completed","name":"\\ud800"}\n'
        b'{"schema":"openreward-gym/rollout/1","id":"d","status":"completed","name":"\xff\xfe"}\n'
        b'{"schema":"openreward-gym/rollout/1","id":"e","status":"completed","reward":NaN,"seed":1e400}\n'
    )
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        overview = client.get("/api/runs").json()
        assert overview["runs"][0]["rollouts"] + sum(damage["lines"] for damage in overview["damage"]) == 5
        assert client.get("/api/rollout?run=one&id=a").status_code == 422
        assert client.get("/api/rollout?run=one&id=b").status_code == 422
        assert client.get("/api/rollout?run=one&id=c").json()["rollout"]["name"] == "\ud800"


def test_lens_and_replay_are_given_from_outside(runs: Path) -> None:
    def lens(rollout: Rollout, others: Others, name: str) -> dict[str, Any]:
        return {"rows": [{"row": {"format": name, "id": rollout.id, "others": [other.id for other in others()]}}]}

    extensions = ViewerExtensions(
        lens=lens, lens_formats=(("sft", "chat"),), replay=lambda rollout: {"same": False}, replay_url="http://x"
    )
    with viewing(runs, extensions=extensions) as url, httpx.Client(base_url=url, headers={"Origin": url}) as client:
        assert client.get("/api/extensions").json() == {"lens": [["sft", "chat"]], "replay": "http://x", "tokens": False}
        row = client.get("/api/lens?run=training&id=training-0-0-0&format=sft").json()["rows"][0]["row"]
        assert row == {"format": "sft", "id": "training-0-0-0", "others": [f"training-0-0-{n}" for n in (1, 2, 3)]}
        assert client.post("/api/replay", json={"run": "training", "id": "training-0-0-0"}).json() == {"same": False}
