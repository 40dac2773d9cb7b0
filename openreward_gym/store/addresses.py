"""Where a rollout is to be seen: its run's name in the viewer, and the address of its page."""

from __future__ import annotations

from urllib.parse import quote

VIEWER = "http://127.0.0.1:7860"
"""Where `openreward-gym view` serves unless told otherwise."""


def run_key(folder: str, run: str) -> str:
    """What the viewer calls the run `run` of a folder of the name `folder`."""
    return run if run == folder else f"{folder}/{run}"


def viewer_address(folder: str, run: str, rollout_id: str, base: str = VIEWER) -> str:
    """The address of a rollout's page; it opens as soon as the rollout is written."""
    names = (("run", run_key(folder, run)), ("sample", rollout_id))
    return f"{base}/#/rollouts?" + "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in names)
