"""`run.json`: what a run was told, so that it can be told again and refuses to become another."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openreward_gym.errors import StoreError
from openreward_gym.types.rollout import check_schema, now_iso

SCHEMA = "openreward-gym/run/1"
PACKAGES = ("openreward-gym", "gymnasium", "httpx", "openreward", "openai", "anthropic", "google-genai", "transformers", "torch")


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def describe_run(behaviour: Mapping[str, Any], tasks_digest: str, elsewhere: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `run.json`.

    Args:
        behaviour: What decides how the rollouts come out: environment, policy, sampling, seed, limits.
        tasks_digest: The inventory's digest.
        elsewhere: What does not (addresses without keys, concurrency): kept to be read, not compared.
    """
    return {
        "schema": SCHEMA,
        **behaviour,
        **elsewhere,
        "behaviour": dict(behaviour),
        "digests": {"tasks": tasks_digest, "behaviour": digest_of(behaviour)},
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "created_at": now_iso(),
        "changes": [],
    }


def keep_run(folder: Path, run: dict[str, Any], *, resume: bool, allow_changed: bool) -> None:
    """Write `run.json`, or see that the one that is there is of the same run.

    Raises:
        StoreError: The folder holds a run and `resume` is False; or data or behaviour changed, and `allow_changed` is False.
    """
    path = folder / "run.json"
    before = _read(path)
    if before is None and not (folder / "tasks.jsonl").exists():
        write_json(path, run)
        return
    if not resume:
        raise StoreError(f"{folder} already holds a run: choose another output, or resume it (resume=True, --resume)")
    changed = _changed(before or {}, run)
    if not changed:
        return
    if not allow_changed:
        raise StoreError(
            f"{folder} is another run: {'; '.join(changed)}. Choose another output, or say that this is meant "
            "(allow_changed=True, --allow-changed)"
        )
    old = before or {}
    note = {"time": now_iso(), "changed": changed, "digests": old.get("digests"), "versions": old.get("versions")}
    changes = [*old.get("changes", []), note]
    write_json(path, {**run, "created_at": old.get("created_at", run["created_at"]), "changes": changes})


def _changed(before: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """What of data and behaviour is not as it was, in words."""
    found = []
    digests = before.get("digests") or {}
    if digests.get("tasks") != run["digests"]["tasks"]:
        found.append("its tasks.jsonl lists other tasks")
    old, new = before.get("behaviour") or {}, run["behaviour"]
    if digests.get("behaviour") != run["digests"]["behaviour"]:
        names = sorted(name for name in {*old, *new} if digest_of(old.get(name)) != digest_of(new.get(name)))
        found += [f"{name} was {_short(old.get(name))} and is {_short(new.get(name))}" for name in names]
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _read(path: Path) -> dict[str, Any] | None:
    try:
        run = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if not isinstance(run, dict):
        raise StoreError(f"{path} is not a run's: it holds a JSON {type(run).__name__}")
    check_schema(run.get("schema"), SCHEMA, "run")
    return run


def write_json(path: Path, value: Any) -> None:
    """Write a small file, whole or not at all.

    Raises:
        StoreError: It cannot be written.
    """
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _git_commit() -> str | None:
    """The commit of the folder one stands in, with "-dirty" where files differ; None outside of a repository."""
    try:
        ran = [
            subprocess.run(["git", *command], capture_output=True, text=True, timeout=5, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return ran[0] + ("-dirty" if ran[1] else "")
