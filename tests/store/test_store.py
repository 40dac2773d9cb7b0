from __future__ import annotations

import base64
import gc
import json
import os
import pickle
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.errors import ConfigurationError, RecordError, SchemaVersionError, StoreError
from openreward_gym.store.records import Failure
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import ImageBlock, Message, Rollout, TextBlock


def make(name: str = "r", reward: float | None = None, **fields: Any) -> Rollout:
    message = Message(role="user", blocks=(TextBlock(text="hello " * 10),))
    return Rollout(name=name, status=fields.pop("status", "completed"), messages=[message], reward=reward, **fields)


def shard_of(path: Path) -> Path:
    (shard,) = (path / "rollouts").glob("*.jsonl")
    return shard


@given(rollout=rollouts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_is_written_is_what_is_read(rollout: Rollout) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with RolloutStore(folder) as store:
            store.append(rollout)
        again = RolloutStore(folder)
        assert len(again) == 1
        assert again.with_images(again[0]) == rollout
        assert again.get(rollout.id) == again[0]
        assert again.damage() == []


def test_opening_creates_nothing_and_reading_what_is_no_run_says_so(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "none")
    with pytest.raises(StoreError, match=r"none does not exist: check the path"):
        len(store)
    assert list(tmp_path.iterdir()) == []
    with RolloutStore(tmp_path / "runs" / "a") as inner:
        inner.append(make())
    with pytest.raises(StoreError, match=r"runs in it \(a\): name one"):
        list(RolloutStore(tmp_path / "runs"))
    (tmp_path / "file").write_text("{}\n")
    with pytest.raises(StoreError, match=r"is a file, not a run's folder"):
        RolloutStore(tmp_path / "file")[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"is not a run: it has neither"):
        RolloutStore(tmp_path / "empty").get("x")


def test_a_run_without_rollouts_yet_is_empty(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    store = RolloutStore(tmp_path)
    assert len(store) == 0
    assert list(store) == []
    with pytest.raises(IndexError, match=r"has 0 rollouts"):
        store[0]


def test_sequence(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "a-run") as store:
        rollouts_written = [make(f"r{n}") for n in range(10)]
        for rollout in rollouts_written:
            store.append(rollout)
        assert store[0].name == "r0"
        assert store[-1].name == "r9"
        assert [r.name for r in store] == [f"r{n}" for n in range(10)]
        assert [r.name for r in store[2:8:2]] == ["r2", "r4", "r6"]
        assert [r.name for r in store[2:8][1:3]] == ["r3", "r4"]
        assert len(store[5:]) == 5
        assert {r.run for r in store} == {"a-run"}
        assert rollouts_written[0].run == ""
        assert store.get(rollouts_written[4].id).name == "r4"
        with pytest.raises(KeyError, match="no rollout 'nope'"):
            store.get("nope")
        for index in (10, -11):
            with pytest.raises(IndexError, match=f"has 10 rollouts: there is no number {index}"):
                store[index]


def test_filter(tmp_path: Path) -> None:
    with RolloutStore(tmp_path) as store:
        for n in range(6):
            store.append(make(f"r{n}", reward=n / 5, status="completed" if n % 2 else "truncated"))
        store.append(make("unrewarded"))
        assert [r.name for r in store.filter(status="completed", min_reward=0.5)] == ["r3", "r5"]
        assert [r.name for r in store.filter(lambda r: r.name == "unrewarded")] == ["unrewarded"]
        assert len(store.filter(status=["completed", "truncated"])) == 7
        assert len(store.filter(max_reward=0.0)) == 1
        assert [r.name for r in store.filter(status="completed").filter(max_reward=0.3)] == ["r1"]
        with pytest.raises(ConfigurationError, match=r"filter\(\) has no criterion .colour.: the criteria are run, environment"):
            store.filter(colour="red")


def test_several_runs_read_as_one_in_the_order_given(tmp_path: Path) -> None:
    for run in ("a", "b"):
        with RolloutStore(tmp_path / run) as store:
            for n in range(2):
                store.append(make(f"{run}{n}"))
    both = RolloutStore.open([tmp_path / "b", tmp_path / "a"])
    assert [r.name for r in both] == ["b0", "b1", "a0", "a1"]
    assert both[2].name == "a0"
    assert both.run == "b, a"
    with pytest.raises(ConfigurationError, match="several runs can only be read"):
        both.append(make())
    with pytest.raises(ConfigurationError, match="no run was named"):
        RolloutStore.open([])
    assert [r.name for r in pickle.loads(pickle.dumps(both))] == ["b0", "b1", "a0", "a1"]


def test_reading_while_others_write(tmp_path: Path) -> None:
    with RolloutStore(tmp_path) as writer:
        writer.append(make("first"))
        reader = RolloutStore(tmp_path)
        view = reader[:]
        assert len(reader) == 1
        writer.append(make("second"))
        assert reader[1].name == "second"
        assert [r.name for r in reader] == ["first", "second"]
        with RolloutStore(tmp_path) as other:
            other.append(make("third"))
        assert [r.name for r in reader] == ["first", "second", "third"]
        assert [r.name for r in view] == ["first"]


def test_a_rollout_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    store.append(make("here"))
    assert json.loads(shard_of(tmp_path).read_text())["name"] == "here"
    store.close()


def test_a_torn_last_line_is_passed_over_and_the_next_writer_cuts_it(tmp_path: Path) -> None:
    with RolloutStore(tmp_path) as store:
        store.append(make("whole"))
        store.append(make("torn"))
    shard = shard_of(tmp_path)
    content = shard.read_bytes()
    keep = content.index(b"\n") + 1
    for cut in (keep + 1, keep + 30, len(content) - 1):
        shard.write_bytes(content[:cut])
        assert [r.name for r in RolloutStore(tmp_path)] == ["whole"]
    with RolloutStore(tmp_path) as store:
        store.append(make("next"))
        assert [r.name for r in store] == ["whole", "next"]
    assert shard.read_bytes() == content[:keep]


def test_the_line_a_living_writer_is_writing_is_not_cut(tmp_path: Path) -> None:
    with RolloutStore(tmp_path) as living:
        living.append(make("one"))
        shard = shard_of(tmp_path)
        with shard.open("ab") as file:
            file.write(b'{"half')
        with RolloutStore(tmp_path) as other:
            other.append(make("two"))
        assert shard.read_bytes().endswith(b'{"half')


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b'{"schema":"openreward-gym/rol\n', "not JSON"),
        (b"\x00\x00\x00\n", "not JSON"),
        (b"\xff\xfe{}\n", "not JSON"),
        (b"[1, 2]\n", "a JSON list, not an object"),
        (b'{"id":"x","status":"completed"}\n', 'it has no "schema"'),
        (b'{"schema":"openreward-gym/rollout/1","status":"odd"}\n', "status: must be one of"),
        (b'{"schema":"openreward-gym/rollout/%s"}\n' % (b"9" * 5000), "has no version number"),
        (b'{"schema":["x"]}\n', "its schema is ['x']"),
        (
            b'{"schema":"openreward-gym/rollout/1","status":"completed","messages":[{"role":"user","blocks":[{"type":["x"]}]}]}\n',
            "messages.0.blocks.0",
        ),
        (b'{"schema":"openreward-gym/rollout/1","status":"completed","metadata":' + b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"schema":"other/rollout/1"}\n', "its schema is 'other/rollout/1'"),
    ],
)
def test_other_damage_is_named_by_file_line_and_byte_and_nothing_is_touched(tmp_path: Path, damage: bytes, reason: str) -> None:
    with RolloutStore(tmp_path) as store:
        for name in ("a", "b"):
            store.append(make(name))
    shard = shard_of(tmp_path)
    first, second = shard.read_bytes().splitlines(keepends=True)
    broken = first + b"\n" + damage + second
    shard.write_bytes(broken)
    reader = RolloutStore(tmp_path)
    assert len(reader) == 3
    assert (reader[0].name, reader[2].name) == ("a", "b")
    with pytest.raises(RecordError, match=rf"{shard.name}: line 3 \(byte {len(first) + 1}\)") as caught:
        reader[1]
    assert reason in str(caught.value)
    with pytest.raises(RecordError):
        list(reader)
    (entry,) = reader.damage()
    assert (entry.line, entry.byte, entry.path) == (3, len(first) + 1, str(shard))
    assert reason in entry.reason
    with RolloutStore(tmp_path) as store:
        store.append(make("c"))
    assert shard.read_bytes() == broken


def test_a_newer_major_version_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "x.jsonl").write_text('{"schema":"openreward-gym/rollout/2","id":"x"}\n')
    with pytest.raises(SchemaVersionError, match=r"x\.jsonl: line 1 \(byte 0\).*pip install --upgrade 'openreward-gym>=2'"):
        RolloutStore(tmp_path)[0]


def test_foreign_lines_are_found_by_id_and_unknown_fields_are_kept(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    record = {"new_field": [1], "status": "completed", "id": "x", "schema": "openreward-gym/rollout/1.7"}
    (tmp_path / "rollouts" / "x.jsonl").write_text("\n" + json.dumps(record, indent=None) + "\r\n   \n")
    store = RolloutStore(tmp_path)
    assert len(store) == 1
    assert store.get("x").to_dict()["new_field"] == [1]


def test_images_are_kept_once_and_given_back(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 100
    data = base64.b64encode(png).decode()
    part = ImageBlock(mime_type="image/png", data=data)
    rollout = Rollout(
        status="completed",
        messages=[
            Message(
                role="tool",
                blocks=(
                    part,
                    part,
                ),
            )
        ],
    )
    with RolloutStore(tmp_path) as store:
        store.append(rollout)
        store.append(Rollout(status="completed", messages=rollout.messages))
    assert part.data == data
    (file,) = (tmp_path / "images").iterdir()
    assert file.read_bytes() == png
    assert file.suffix == ".png"
    block = store[0].messages[0].blocks[0]
    assert isinstance(block, ImageBlock)
    assert block.data == ""
    assert block.sha256 is not None
    assert store.image(block.sha256) == png
    assert RolloutStore.open([tmp_path, tmp_path]).image(block.sha256) == png
    assert store.with_images(store[0]).messages == rollout.messages
    file.write_bytes(b"other")
    with pytest.raises(StoreError, match="damaged: its bytes are not those of its name"):
        store.image(block.sha256)
    file.unlink()
    with pytest.raises(StoreError, match="copy the run's images/ folder"):
        store.with_images(store[0])


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "", "0" * 63, "0" * 64 + "\n"])
def test_an_image_name_that_is_no_sha256_reads_nothing(tmp_path: Path, name: str) -> None:
    with RolloutStore(tmp_path) as store:
        store.append(make())
        with pytest.raises(StoreError, match="is not a SHA-256"):
            store.image(name)


def test_failures(tmp_path: Path) -> None:
    failure = Failure(
        source="environment", kind="timeout", stage="call", delivery="possibly_delivered", attempt=2, message="\ud800"
    )
    with RolloutStore(tmp_path) as store:
        store.append(make())
        store.append_failure(failure)
        assert list(store.failures()) == [failure]
        assert len(store) == 1
    (shard,) = (tmp_path / "failures").iterdir()
    shard.write_bytes(shard.read_bytes() + b'{"schema":"openreward-gym/failure/1"}\n')
    with pytest.raises(RecordError, match=r"line 2 .*not a failure: source"):
        list(store.failures())


def test_threads_share_a_store(tmp_path: Path) -> None:
    with RolloutStore(tmp_path) as store:

        def write(n: int) -> None:
            for k in range(50):
                store.append(make(f"{n}-{k}"))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(r.name for r in store) == sorted(f"{n}-{k}" for n in range(8) for k in range(50))
    assert len(list((tmp_path / "rollouts").iterdir())) == 1


def test_a_forked_child_opens_its_own_shard(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    store.append(make("parent"))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.append(make("child"))
            store.close()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(read)
    store.append(make("parent again"))
    store.close()
    assert sorted(r.name for r in store) == ["child", "parent", "parent again"]
    assert len(list((tmp_path / "rollouts").iterdir())) == 2


def test_a_fork_while_another_thread_appends_does_not_hang(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    store._lock.acquire()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            done = threading.Thread(target=lambda: store.append(make("child")))
            done.start()
            done.join(20)
            code = 1 if done.is_alive() else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store._lock.release()


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    import resource
    import signal

    store = RolloutStore(tmp_path)
    store.append(make("small"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        with pytest.raises(StoreError, match=r"a line was not written: File too large"):
            store.append(make("x" * 9000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert shard_of(tmp_path).read_bytes().endswith(b"\n")
    store.append(make("after"))
    assert [r.name for r in store] == ["small", "after"]
    store.close()


@pytest.mark.parametrize("fsync", ["always", "close", "never", 0.0])
def test_lines_are_forced_to_the_disk_when_the_policy_says(tmp_path: Path, fsync: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def watched(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fsync", watched)
    store = RolloutStore(tmp_path, fsync=fsync)
    store.append(make("a"))
    size = shard_of(tmp_path).stat().st_size
    assert (size in synced) == (fsync in ("always", 0.0))
    store.close()
    assert (size in synced) == (fsync != "never")


def test_a_line_that_cannot_be_taken_back_stays_the_last_of_its_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RolloutStore(tmp_path)
    store.append(make("a"))
    real = os.write

    def torn(fd: int, data: Any) -> int:
        real(fd, bytes(data)[:20])
        raise OSError(5, "Input/output error")

    def refused(fd: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", torn)
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(StoreError, match="a line was not written: Input/output error; append it again"):
            store.append(make("b"))
    store.append(make("c"))
    assert [r.name for r in store] == ["a", "c"]
    assert store.damage() == []
    assert len(list((tmp_path / "rollouts").iterdir())) == 2
    store.close()


def test_a_run_stays_where_it_is_when_the_program_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = RolloutStore("run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.append(make("a"))
    store.close()
    assert [r.name for r in store] == ["a"]
    assert [r.name for r in RolloutStore(tmp_path / "run")] == ["a"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_store_that_is_dropped_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        RolloutStore(tmp_path / str(number)).append(make())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
