"""What is done with many rollouts at once: they are labelled, exported, and written into one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.store import LabelChange
from openreward_gym.store.labels import write_change
from openreward_gym.viewer.answers import lists
from openreward_gym.viewer.answers.selecting import check_filter
from openreward_gym.viewer.filters import FilterOfIds
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import page_of

MAX_SHARED = 2_000
"""The largest number of rollouts in one file that the page writes."""


def selected(index: RunIndex, body: Any) -> tuple[str, list[str]]:
    """Return the run and the rollouts that a request names: `{"run", "rollouts": [id, ...]}`, or `{"run", "list": {...}}` with
    the `step`, `discarded` and `filter` of a list; with `every` the list has all steps.

    Raises:
        ConfigurationError: It names none, or the filter cannot be parsed.
    """
    if not isinstance(body, dict) or not isinstance(body.get("run"), str):
        raise ConfigurationError('the request must name the "run" of the rollouts')
    run, ids, query = body["run"], body.get("rollouts"), body.get("list")
    if isinstance(query, dict):
        step, filter_ = query.get("step"), query.get("filter") or ""
        if step is not None and (not isinstance(step, int) or isinstance(step, bool) or abs(step) >= 1 << 62):
            raise ConfigurationError(f'the "step" of a list must be an integer or null, not {str(step)[:40]!r}')
        step = ... if query.get("every") is True else step
        check_filter(index, run, str(filter_))
        ids = lists.ids(index, run, step, query.get("discarded") is True, str(filter_))
    if not isinstance(ids, list) or not ids or not all(isinstance(rollout_id, str) for rollout_id in ids):
        raise ConfigurationError('the request must name the "rollouts" by their ids, or a "list" that is not empty')
    return run, list(dict.fromkeys(ids))


def label(index: RunIndex, body: Any) -> dict[str, Any]:
    """Change the labels of many rollouts: `set` names a rating or a note, `add` and `remove` name tags.

    Returns:
        `{"labelled": number of rollouts}`.

    Raises:
        ConfigurationError: No rollout is named, one is not in the run, or the change is not valid.
        StoreError: A label cannot be written.
    """
    run, ids = selected(index, body)
    folder = index.folder(run)
    given, add, remove = body.get("set") or {}, body.get("add") or [], body.get("remove") or []
    if not isinstance(given, dict) or set(given) - {"rating", "note"} or not (given or add or remove):
        raise ConfigurationError('a change of many labels has "set" with a "rating" or a "note", or tags to "add" or "remove"')
    change = {"set": given, "add": add, "remove": remove, "author": body.get("author")}
    changes = [LabelChange.from_dict({"rollout": rollout_id, **change}) for rollout_id in ids]
    known = {rollout_id for (rollout_id,) in index.rows(
        "SELECT r.id FROM rollouts r JOIN runs ON runs.run = r.run WHERE runs.key = ?", (run,))}  # fmt: skip
    for rollout_id in ids:
        if rollout_id not in known:
            raise ConfigurationError(f"run {run!r} has no rollout {rollout_id[:80]!r}")
    for one in changes:
        write_change(folder, one)
    index.refresh()
    return {"labelled": len(ids)}


def share(index: RunIndex, body: Any) -> bytes:
    """Return one HTML file with the rollouts that a request names, which opens without a server.

    Raises:
        ConfigurationError: No rollout is named, or more than a file may hold.
    """
    run, ids = selected(index, body)
    return page_of(index, FilterOfIds.of(ids), MAX_SHARED, run=run)[0]


def export(index: RunIndex, body: Any, formats: Sequence[str]) -> dict[str, Any]:
    """Export the rollouts that a request names to the folder `export` of their run, as the command does.

    Returns:
        `{"folder", "rows", "report"}`: the report in words.

    Raises:
        ConfigurationError: No rollout is named, or the format is not one of `formats`.
    """
    from openreward_gym import export as exporter

    run, ids = selected(index, body)
    name = body.get("format")
    if name not in formats:
        raise ConfigurationError(f"the format must be one of {', '.join(formats)}, not {str(name)[:40]!r}")
    folder, chosen = index.folder(run), set(ids)
    output = folder / "export"
    report = exporter.write(str(folder), output, [name], exporter.Select(where=lambda rollout: rollout.id in chosen))
    return {"folder": str(output), "rows": dict(report.rows), "report": str(report)}
