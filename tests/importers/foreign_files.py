"""A good file of each system that is imported, and what can be wrong with a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from test_atif import FOREIGN as ATIF
from test_chats import TURNS
from test_damage import COMPLETION, EPISODE, TRIAL
from test_nemo_gym import LINE
from test_openhands import EVENTS
from test_openhands import SDK as SDK_EVENTS
from test_swe_agent import MINI, TRAJ
from test_tau_bench import RESULTS, STOP, entry
from test_verifiers import ROW

THOUGHT = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "Deep.", "signature": "s"}, {"type": "text", "text": "12 m"}],
}
CALLED = {"from": "function_call", "value": '{"name": "measure", "arguments": {"what": "well"}}'}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "How deep?"},
        CALLED,
        {"from": "observation", "value": "12"},
        {"from": "gpt", "value": "12 m"},
    ]
}
LOG = {
    "version": 2,
    "status": "success",
    "eval": {"created": "2026-01-01T00:00:00+00:00", "task": "wells", "dataset": {}, "model": "m", "config": {}},
    "plan": {},
    "stats": {"started_at": "", "completed_at": ""},
    "samples": [
        {
            "id": 1,
            "epoch": 1,
            "input": "How deep?",
            "target": "12 m",
            "messages": [
                {"role": "user", "content": "How deep?"},
                {"role": "assistant", "content": "12 m", "source": "generate"},
            ],
        }
    ],
}


def lines(*records: Any) -> bytes:
    """Return records as JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


FILES: Mapping[str, tuple[str, bytes]] = {
    "nemo-gym": ("rollouts.jsonl", lines(LINE, LINE)),
    "openai-chat": ("chats.jsonl", lines({"messages": TURNS}, {"messages": TURNS})),
    "anthropic-chat": ("claude.jsonl", lines({"messages": [{"role": "user", "content": "Deep?"}, THOUGHT]})),
    "sharegpt": ("sharegpt.json", json.dumps([SHAREGPT, SHAREGPT], indent=2).encode()),
    "trl": ("completions_00001.jsonl", lines(COMPLETION)),
    "verifiers": ("traces.jsonl", lines(EPISODE)),
    "verifiers results": ("results.jsonl", lines(ROW, ROW)),
    "inspect": ("2026-01-01T00-00-00_wells_x.json", json.dumps(LOG, indent=2).encode()),
    "firehorse": ("trial_1.jsonl", lines(*TRIAL)),
    "atif": ("trajectory.json", json.dumps(ATIF, indent=2).encode()),
    "tau-bench": ("tau.json", json.dumps([entry(1, 0, STOP)]).encode()),
    "tau-bench results": ("results.json", json.dumps(RESULTS).encode()),
    "swe-agent": ("pump__1.traj", json.dumps(TRAJ, indent=2).encode()),
    "swe-agent mini": ("pump__2.traj.json", json.dumps(MINI).encode()),
    "openhands": ("output.jsonl", lines({"history": EVENTS})),
    "openhands events": ("events.json", json.dumps(EVENTS).encode()),
    "openhands sdk": ("sdk.jsonl", lines(*SDK_EVENTS)),
}
"""Names and contents of files, by the importer that reads them and, behind a space, the kind of file."""

WHOLE_FILES_DAMAGED: Mapping[str, bytes] = {
    "binary": bytes(range(256)) * 8,
    "picture": bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(64),
    "torn gzip": gzip.compress(lines({"messages": TURNS}) * 50)[:60],
    "gzip in name only": b"\x1f\x8b\x08\x00plain text",
    "torn zstd": bytes.fromhex("28b52ffd2480") + b"text",
    "torn parquet": b"PAR1" + bytes(40) + b"PAR1",
    "web page": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
    "yaml": b"messages:\n- role: user\n  content: Hi\n",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "deep array": b"[" * 10_000,
    "deep closed array": b"[" * 10_000 + b"]" * 10_000,
    "deep object": b'{"messages":' * 10_000 + b"1" + b"}" * 10_000,
    "number": b"12\n",
    "text": b'"text"\n',
    "null": b"null\n",
    "not utf-8": b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}\n',
    "utf-16": '{"messages": [{"role": "user", "content": "Hi"}]}\n'.encode("utf-16"),
}
"""Files that no importer can read."""


def importer_of(kind: str) -> str:
    return kind.partition(" ")[0]
