"""An export on the HuggingFace Hub: one dataset repository, a configuration for each format, private unless asked."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.export.options import options_of
from openreward_gym.export.pipeline import Progress
from openreward_gym.export.report import Report
from openreward_gym.export.select import Select
from openreward_gym.export.source import Rollouts
from openreward_gym.export.writing import write_files

# Formats that are of use only with what a public dataset must not show.
_WHOLE_RECORDS = ("rollouts", "nemo_gym")


def push(
    rollouts: Rollouts,
    repository: str,
    formats: Sequence[str] | str = ("sft",),
    select: Select | None = None,
    tokenizer: Any = None,
    compat: Literal["json", "string"] = "json",
    private: bool = True,
    revision: str | None = None,
    message: str = "Export of rollouts",
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Write rollouts and upload them as a dataset of several configurations, with card and report.

    Everything is written to a temporary folder first: what cannot be exported is told before anything is uploaded. The
    upload is one commit. What somebody wrote above our mark in the repository's card is kept; other files are left alone,
    those of the same formats are replaced. `load_dataset(repository, "sft")` loads a format.

    Args:
        rollouts, formats, select, tokenizer, compat, progress, **options: See `write`.
        repository: "owner/name" on the Hub, or the path of a local folder (absolute, or beginning with a dot), which gets
            the same files.
        private: Whether the repository is made private, where it does not exist yet. A public one gets no task specs,
            golden answers or metadata; the formats `rollouts` and `nemo_gym` need `answers=True` for it.
        revision: The branch; None for the main one.
        message: The commit's message.

    Raises:
        ConfigurationError: A public push of whole records was not confirmed, or a name is wrong.
        StoreError: The Hub refused, or was not reached.
    """
    names = [formats] if isinstance(formats, str) else list(formats)
    whole = [name for name in names if name in _WHOLE_RECORDS]
    if not private and whole and not options.get("answers"):
        raise ConfigurationError(
            f"{' and '.join(whole)} would publish task specs, golden answers and metadata: leave it out, "
            "push privately, or say answers=True"
        )
    chosen = options_of({"compat": compat, **options})
    if repository.startswith((".", os.sep)):
        folder = Path(repository)
        return write_files(rollouts, folder, names, select, tokenizer, progress, chosen, for_hub=True)
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory(prefix="openreward-gym-push-") as name:
        folder = Path(name)
        with _told(repository):
            _bring_card(api, repository, revision, folder)
        report = write_files(rollouts, folder, names, select, tokenizer, progress, chosen, for_hub=True)
        with _told(repository):
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            _commit(api, repository, revision, message, folder, report)
    report.output = f"{api.endpoint}/datasets/{repository}"
    return report


def _commit(api: Any, repository: str, revision: str | None, message: str, folder: Path, report: Report) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    there = api.list_repo_files(repository, repo_type="dataset", revision=revision)
    stale = [file for file in there if file.split("/")[0] in (*report.formats, "pictures") and file not in files]
    operations: list[Any] = [CommitOperationDelete(path_in_repo=file) for file in stale]
    operations += [CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(file)) for path, file in files.items()]
    api.create_commit(repository, operations, commit_message=message, repo_type="dataset", revision=revision)


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What goes wrong on the way to the Hub, as one line that says what to do."""
    try:
        yield
    except Exception as error:  # the Hub's, the network's, the token's
        said = (str(error).strip().splitlines() or [repr(error)])[0]
        # What the Hub's library says of a broken connection does not say what broke.
        cause = f": {error.__cause__!r}" if error.__cause__ is not None else ""
        raise StoreError(
            f"{repository}: not pushed: {said}{cause} (a token that may write there is needed: "
            "`hf auth login`, or HF_TOKEN; `push ./folder` writes what would be uploaded)"
        ) from error


def _bring_card(api: Any, repository: str, revision: str | None, folder: Path) -> None:
    """Copy the repository's card into `folder`, so that what somebody wrote in it is kept."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    for wait_s in (1.0, 3.0, None):
        try:
            path = api.hf_hub_download(repository, "README.md", repo_type="dataset", revision=revision)
        except LocalEntryNotFoundError:
            # The Hub was not reached: there may be a card.
            if wait_s is None:
                raise
            time.sleep(wait_s)
        except (EntryNotFoundError, RepositoryNotFoundError):
            return
        else:
            shutil.copyfile(path, folder / "README.md")
            return
