"""Datasets on the HuggingFace Hub: whether it is reached, its card and report, the commit, and its errors."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openreward_gym.errors import StoreError
from openreward_gym.export.card import picture_names
from openreward_gym.export.folder import REPORT
from openreward_gym.export.report import ExportReport
from openreward_gym.urls import without_credentials

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REACH_S = 5.0
"""Seconds to wait for the Hub's first answer. Its own library would go on trying for minutes."""


def check_reachable(endpoint: str) -> None:
    """Raise a StoreError with the address if no server answers at the Hub's address.

    Any answer is enough: whether the token is right, the Hub says itself. So is an error of TLS, for which the Hub's library may
    have other certificates.
    """
    errors: list[str] = []

    def connect() -> None:
        try:
            with urllib.request.urlopen(f"{endpoint}/api/whoami-v2", timeout=REACH_S):
                pass
        except urllib.error.HTTPError:
            pass
        except OSError as error:
            reason = getattr(error, "reason", error)
            # An SSLError is an answer, too.
            if isinstance(reason, (ConnectionError, TimeoutError, socket.gaierror)) or type(reason) is OSError:
                errors.append(str(getattr(reason, "strerror", None) or reason))
        except ValueError as error:
            errors.append(str(error))

    # The look-up of a name has no time limit of its own.
    thread = threading.Thread(target=connect, name="hub-probe", daemon=True)
    thread.start()
    thread.join(REACH_S + 1.0)
    if thread.is_alive():
        errors.append(f"no answer within {REACH_S:g} s")
    if errors:
        shown = without_credentials(endpoint)
        hint = "check the connection" + ("" if urlsplit(endpoint).hostname == "huggingface.co" else " and HF_ENDPOINT")
        raise StoreError(
            f"the Hub at {shown} is not reached ({errors[0]}): {hint}, or push to ./folder, which writes the same files locally"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of the Hub's library about each retry: the error at the end says what was wrong."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def commit(api: HfApi, repository: str, revision: str | None, message: str, folder: Path, report: ExportReport) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    existing = api.list_repo_files(repository, repo_type="dataset", revision=revision)
    pictures = {picture for name in report.formats for picture in picture_names(name)}
    stale = [file for file in existing if file not in files and (file.split("/")[0] in report.formats or file in pictures)]
    operations: list[Any] = [CommitOperationDelete(path_in_repo=file) for file in stale]
    operations += [CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(file)) for path, file in files.items()]
    api.create_commit(repository, operations, commit_message=message, repo_type="dataset", revision=revision)


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Raise every error on the way to the Hub as a StoreError of one line that says what to do."""
    try:
        yield
    except Exception as error:  # of the Hub, the network or the token
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        # For a broken connection, the message of the Hub's library does not say what broke.
        cause = f": {error.__cause__!r}" if error.__cause__ is not None else ""
        raise StoreError(
            f"{repository} was not pushed: {reason}{cause} (it needs a token that may write there: "
            "`hf auth login`, or HF_TOKEN; pushing to ./folder writes the same files locally)"
        ) from error


def download_card(api: HfApi, repository: str, revision: str | None, folder: Path) -> list[str]:
    """Copy the repository's card and report into `folder`, so that they can be kept up; return the repository's files."""
    from huggingface_hub.errors import RepositoryNotFoundError

    if not _download(api, repository, revision, folder, "README.md"):
        return []
    _download(api, repository, revision, folder, REPORT)
    try:
        return list(api.list_repo_files(repository, repo_type="dataset", revision=revision))
    except RepositoryNotFoundError:
        return []


def _download(api: HfApi, repository: str, revision: str | None, folder: Path, name: str) -> bool:
    """Copy a file of the repository into `folder`; return False if it is missing."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    for wait_s in (1.0, 3.0, None):
        try:
            path = api.hf_hub_download(repository, name, repo_type="dataset", revision=revision)
            shutil.copyfile(path, folder / name)
            return True
        except LocalEntryNotFoundError:
            # The Hub was not reached: there may be a file.
            if wait_s is None:
                raise
            time.sleep(wait_s)
        except (EntryNotFoundError, RepositoryNotFoundError):
            break
    return False
