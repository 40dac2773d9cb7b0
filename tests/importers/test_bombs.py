"""Packed files that unpack to something much larger than they are: named, and not read further; the rest is imported."""

from __future__ import annotations

import gzip
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from openreward_gym.errors import StoreError
from openreward_gym.importers import read
from openreward_gym.importers.archives import Archive
from openreward_gym.store import Damage, RolloutStore

CHAT = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}).encode() + b"\n"


@pytest.mark.parametrize("form", ["gzip", "zstd"])
@pytest.mark.parametrize("filler", [b" ", b"[", b"x"])
def test_a_packed_bomb_is_named_and_what_is_before_it_is_read(form: str, filler: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl.packed"
    if form == "gzip":
        path.write_bytes(gzip.compress(CHAT * 3 + filler * 300_000_000, 1))
    else:
        with pyarrow.output_stream(str(path), compression="zstd") as stream:
            stream.write(CHAT * 3)
            for _ in range(30):
                stream.write(filler * 10_000_000)
    tracemalloc.start()
    items = list(read("openai-chat", path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000
    assert len(items) == 4
    last = items[-1]
    assert isinstance(last, Damage)
    assert "only bombs do" in last.reason


def test_a_parquet_file_of_equal_values_is_not_unpacked(tmp_path: Path) -> None:
    column = pyarrow.array(["x" * 1000] * 300_000)
    pyarrow.parquet.write_table(
        pyarrow.table({"messages": column}), tmp_path / "x.parquet", compression="zstd", use_dictionary=False
    )
    (item,) = read("openai-chat", tmp_path / "x.parquet")
    assert isinstance(item, Damage)
    assert "only bombs do" in item.reason


def test_a_member_is_measured_and_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside", b"a" * 100_000_000)
        archive.writestr("header.json", b"{}")
    data = path.read_bytes()
    # The archive says that the member has a hundred bytes.
    path.write_bytes(data.replace(struct.pack("<I", 100_000_000), struct.pack("<I", 100)))
    archive_ = Archive(path)
    assert "only bombs do" in str(archive_.reason_against("../../outside"))
    assert archive_.reason_against("header.json") is None
    (item,) = read("inspect", path)
    assert isinstance(item, Damage)
    assert "only bombs do" in item.reason
    assert not (tmp_path.parents[1] / "outside").exists()


def test_a_file_that_is_no_archive_and_a_pipe_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.eval").write_bytes(b"PK\x05\x06 not an archive")
    (item,) = read("inspect", tmp_path / "x.eval")
    assert isinstance(item, Damage)
    assert "BadZipFile" in item.reason
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="not a file but a named pipe"):
        list(read("openai-chat", tmp_path / "pipe"))


def test_a_packed_shard_of_a_run_is_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    with pyarrow.output_stream(str(tmp_path / "rollouts" / "x.jsonl.zst"), compression="zstd") as stream:
        for _ in range(10):
            stream.write(b"x" * 10_000_000)
    (damage,) = RolloutStore(tmp_path).damage()
    assert "only bombs do" in damage.reason
