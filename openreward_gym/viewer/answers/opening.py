"""One rollout, as it was written, and what is known about it while it is open."""

from __future__ import annotations

from typing import Any

import orjson

from openreward_gym.store import LabelChange
from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer.answers.pieces import LARGE_BYTES, LargeRecords, outline, piece, record_at
from openreward_gym.viewer.index import JOINED, NotFoundError, RolloutPlace, RunIndex
from openreward_gym.viewer.running import RUNNING_LENGTH, STOPPED


def rollout(index: RunIndex, run: str, rollout_id: str, large: LargeRecords | None = None) -> bytes:
    """Return a rollout as it was written: `{"run", "place", "label", "rollout"}`.

    Of a large rollout, and of one that is being recorded, `rollout` has the first messages; `next` is the number of the next one,
    or None, and `outline` has a line about each message. The latter has `running`, too.

    Args:
        index: The index.
        run: The run's key.
        rollout_id: The rollout's id.
        large: Where large rollouts are kept; None returns them whole.

    Raises:
        NotFoundError: The index does not have the rollout.
        StoreError: The file cannot be read.
        RecordError: The line is not a valid rollout.
    """
    place = index.find(run, rollout_id)
    answer = _about_row(index, run, rollout_id)
    if large is None and place.length == RUNNING_LENGTH:
        return orjson.dumps({**answer, "rollout": index.running(place).record()})
    if large is not None and (place.length == RUNNING_LENGTH or place.length > LARGE_BYTES):
        record = record_at(index, large, place, rollout_id)
        messages, following = piece(record, 0)
        if place.length == RUNNING_LENGTH:
            answer["running"] = running = _running(index, place)
            record = record if running["writing"] else {**record, "stop_reason": STOPPED}
        answer |= {"next": following, "outline": outline(record)}
        head = {**record, "messages": [orjson.Fragment(message) for message in messages]}
        return orjson.dumps({**answer, "rollout": head})
    line = index.read(place)
    index.remember(rollout_id, place, line)
    parsed = Rollout.from_line(line)  # validates the types that the page relies on
    try:
        orjson.loads(line)
    except ValueError:
        line = parsed.to_line().encode("utf-8", "backslashreplace")
    return orjson.dumps({**answer, "rollout": orjson.Fragment(line)})


def _about_row(index: RunIndex, run: str, rollout_id: str) -> dict[str, Any]:
    sql = f"SELECT r.step, r.grp, r.discarded, l.rating, l.tags, l.note FROM {JOINED} WHERE runs.key = ? AND r.id = ?"
    rows = index.rows(sql, (run, rollout_id))
    if not rows:
        raise NotFoundError("There is no such rollout in this run yet.")
    step, group, discarded, rating, tags, note = rows[0]
    return {
        "run": run,
        "place": {"step": step, "group": group, "discarded": bool(discarded)},
        "label": {"rating": rating, "tags": orjson.loads(tags or "[]"), "note": note or ""},
    }


def stamp(index: RunIndex, run: str, rollout_id: str) -> str:
    """Return a text that changes when the answer of `rollout` does; raise NotFoundError if the index does not have it."""
    place = index.find(run, rollout_id)
    state = str(_running(index, place)) if place.length == RUNNING_LENGTH else ""
    return f"{place} {_about_row(index, run, rollout_id)} {state}"


def place(index: RunIndex, run: str, rollout_id: str) -> dict[str, Any] | None:
    """Return the step and the group of a rollout; None if the index does not have it."""
    try:
        found: dict[str, Any] = _about_row(index, run, rollout_id)["place"]
    except NotFoundError:
        return None
    return found


def messages(index: RunIndex, large: LargeRecords, run: str, rollout_id: str, first: int, *, tokens: bool) -> bytes:
    """Return further messages of a rollout: `{"messages", "next", "running"}`; `running` is None if it is not being recorded."""
    try:
        place = index.find(run, rollout_id)
        record = record_at(index, large, place, rollout_id)
        running = _running(index, place) if place.length == RUNNING_LENGTH else None
    except NotFoundError:  # it has just ended
        return orjson.dumps({"messages": [], "next": None, "running": None})
    found, following = piece(record, first, tokens=tokens)
    figures = {name: record.get(name) for name in ("reward", "final_reward")}
    fragments = [orjson.Fragment(message) for message in found]
    return orjson.dumps({"messages": fragments, "next": following, "running": running, **figures})


def _running(index: RunIndex, place: RolloutPlace) -> dict[str, Any]:
    """Return whether a rollout is still being written, when it was last, and what changes with each write."""
    file = index.running(place)
    return {"writing": file.is_written, "written_at": file.written_at.isoformat(), "messages": len(file.messages)}


def about(index: RunIndex, run: str, rollout_id: str) -> dict[str, Any]:
    """Return what may change while a rollout is open: `{"label", "history", "problem"}`.

    `problem` says why it cannot be read again, in words, if it could before; None if it can.
    """
    try:
        answer = _about_row(index, run, rollout_id)
        history = [_told(change) for change in index.label_history(run, rollout_id)]
    except NotFoundError:
        return {"label": None, "history": [], "problem": index.why_gone(run, rollout_id)}
    return {"label": answer["label"], "history": history, "problem": index.problem_of(run, rollout_id)}


def _told(change: LabelChange) -> dict[str, Any]:
    told = change.to_dict()
    told.pop("seen", None)
    if (over := change.overwritten) is not None:
        told["overwritten"] = {"author": over.author, "time": over.time, "note": over.set["note"]}
    return told
