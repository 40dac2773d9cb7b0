"""One rollout, as it was written."""

from __future__ import annotations

import orjson

from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer.index import JOINED, RunIndex


def rollout(index: RunIndex, run: str, rollout_id: str) -> bytes:
    """Return a rollout as it was written: `{"run", "place", "label", "rollout"}`.

    Raises:
        NotFoundError: The index does not have the rollout.
        StoreError: The file cannot be read.
        RecordError: The line is not a valid rollout.
    """
    line = index.read(index.find(run, rollout_id))
    record = Rollout.from_line(line)  # validates the types that the page relies on
    sql = f"SELECT r.step, r.grp, r.discarded, l.rating, l.tags, l.note FROM {JOINED} WHERE runs.key = ? AND r.id = ?"
    step, group, discarded, rating, tags, note = index.rows(sql, (run, rollout_id))[0]
    try:
        orjson.loads(line)
    except ValueError:
        line = record.to_line().encode("utf-8", "backslashreplace")
    return orjson.dumps({
        "run": run,
        "place": {"step": step, "group": group, "discarded": bool(discarded)},
        "label": {"rating": rating, "tags": orjson.loads(tags or "[]"), "note": note or ""},
        "rollout": orjson.Fragment(line),
    })  # fmt: skip
