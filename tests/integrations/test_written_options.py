"""What trainers write to their files has no secrets: such options are refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.errors import ConfigurationError
from openreward_gym.integrations import nemo_gym, skyrl, verl

PASSWORD = "pw-77-secret"
WRITERS: dict[str, Callable[..., Any]] = {
    "skyrl": lambda folder, **options: skyrl.write_dataset(folder / "rows.parquet", "weather", **options),
    "nemo_gym": lambda folder, base_url, **options: nemo_gym.write_servers(
        folder, environment="weather", base_url=base_url, options=options
    ),
    "verl": lambda folder, **options: verl.prepare("weather", folder, **options),
}


@pytest.mark.parametrize("trainer", WRITERS)
def test_a_place_that_cannot_be_written_is_named(trainer: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if trainer == "skyrl":
        (place / "rows.parquet").mkdir(parents=True)
    else:
        place.touch()
    with pytest.raises(ConfigurationError, match=r"must be a (file|folder)"):
        WRITERS[trainer](place, base_url="http://127.0.0.1:9")


def test_rows_of_nemo_gym_are_written_to_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="must be a file"):
        nemo_gym.write_dataset(tmp_path, "weather", base_url="http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="output is an option of write_servers"):
        nemo_gym.write_dataset(tmp_path / "rows.jsonl", "weather", base_url="http://127.0.0.1:9", output=tmp_path / "run")


@pytest.mark.parametrize("trainer", WRITERS)
@pytest.mark.parametrize(
    "options",
    [
        {"base_url": f"http://me:{PASSWORD}@127.0.0.1:9"},
        {"base_url": "http://127.0.0.1:9", "env_overrides": {"TOKEN": PASSWORD}},
    ],
    ids=["password", "env_overrides"],
)
def test_options_with_secrets_are_refused(trainer: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"base_url|env_overrides") as caught:
        WRITERS[trainer](tmp_path, **options)
    assert PASSWORD not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
