"""The files that verl's trainer reads: tasks as Parquet, and the file that names the agent loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from openreward_gym import jsonio
from openreward_gym.checks import integer, writable_folder
from openreward_gym.errors import ConfigurationError
from openreward_gym.integrations.episode import EpisodeOptions, Episodes
from openreward_gym.integrations.written_options import refuse_secrets
from openreward_gym.types import Json

AGENT_LOOP = "openreward_gym.integrations.verl.EpisodeAgentLoop"


@dataclass(frozen=True)
class VerlFiles:
    """The files of a training with verl, as `prepare` wrote them.

    Attributes:
        train: The tasks to train on.
        validation: The tasks to validate on. The same as `train` where no split for them was named.
        agent_loops: The file of agent loops, with the options of the episodes.

    Example:
        >>> files = VerlFiles(Path("/data/train.parquet"), Path("/data/test.parquet"), Path("/data/agent_loops.yaml"))
        >>> files.overrides[0]
        "data.train_files='/data/train.parquet'"
    """

    train: Path
    validation: Path
    agent_loops: Path

    @property
    def overrides(self) -> list[str]:
        """Arguments of `python -m verl.trainer.main_ppo` that name the files."""
        return [
            f"data.train_files='{self.train}'",
            f"data.val_files='{self.validation}'",
            f"actor_rollout_ref.rollout.agent.agent_loop_config_path='{self.agent_loops}'",
        ]


def prepare(
    environment: str,
    folder: str | os.PathLike[str],
    *,
    validation_split: str | None = None,
    limit: int | None = None,
    max_turns: int | None = None,
    attempts: int = 2,
    chat_template_kwargs: Mapping[str, Json] | None = None,
    agent_name: str = "openreward",
    **options: Unpack[EpisodeOptions],
) -> VerlFiles:
    """Write the files for a training with verl: `train.parquet`, `validation.parquet` and `agent_loops.yaml`.

    A row has the columns of verl's datasets: `prompt`, `data_source` (the environment), `ability`, `reward_model`,
    `extra_info` (with `split` and `task_index`) and `agent_name`. The prompt is there for verl's filters and logs: the one
    that the model sees comes from the session that the agent loop opens, with the tools and images of the task.

    Args:
        environment: Name of the environment.
        folder: Folder of the files. It is created if it does not exist.
        validation_split: Split of the tasks to validate on. None validates on the tasks of the training.
        limit: Largest number of tasks of a split. None takes all.
        max_turns: Largest number of messages of the model in an episode. None takes `max_assistant_turns` of verl's
            configuration.
        attempts: Number of times that an episode which infrastructure spoils is played, before it is left out.
        chat_template_kwargs: Further arguments of the chat template, such as `{"enable_thinking": False}`. None takes
            `data.apply_chat_template_kwargs` of verl's configuration.
        agent_name: Name of the agent loop in the rows and in the file of agent loops.
        **options: Options of `Episodes`: `base_url`, `output`, `split`, `max_steps`, ... They are written to
            `agent_loops.yaml`, from which verl's workers read them.

    Raises:
        ConfigurationError: An option is wrong, cannot be written as JSON, or may hold secrets.
        TransportError, ServerError, SessionLostError: As `Episodes.rows`.

    Example:
        >>> import tempfile
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url, tempfile.TemporaryDirectory() as folder:
        ...     files = prepare("weather", folder, base_url=base_url, limit=2)
        ...     files.train.name, files.agent_loops.name
        ('train.parquet', 'agent_loops.yaml')
    """
    writable_folder("folder", folder)
    refuse_secrets(options, "they are written to agent_loops.yaml")
    written = {"environment": environment, **_as_data(options)}
    loop: dict[str, Json] = {
        "name": agent_name,
        "_target_": AGENT_LOOP,
        "episodes": written,
        "attempts": integer(1)("attempts", attempts),
    }
    if max_turns is not None:
        loop["max_turns"] = integer(1)("max_turns", max_turns)
    if chat_template_kwargs is not None:
        loop["chat_template_kwargs"] = dict(chat_template_kwargs)
    # Sessions are opened for the prompts alone, and nothing of them is recorded.
    unrecorded: EpisodeOptions = {**options, "output": None}
    rows = {"train": Episodes(environment, **unrecorded).rows(limit)}
    if validation_split is not None:
        of_validation: EpisodeOptions = {**unrecorded, "split": validation_split}
        rows["validation"] = Episodes(environment, **of_validation).rows(limit)
    target = Path(folder).resolve()
    target.mkdir(parents=True, exist_ok=True)
    files = {name: target / f"{name}.parquet" for name in rows}
    for name, file in files.items():
        _write(file, [verl_row(row, number, agent_name) for number, row in enumerate(rows[name])])
    agent_loops = target / "agent_loops.yaml"
    agent_loops.write_bytes(jsonio.dumps([loop]))  # JSON is YAML
    return VerlFiles(files["train"], files.get("validation", files["train"]), agent_loops)


def _as_data(options: Mapping[str, Any]) -> dict[str, Json]:
    """Return options as JSON; paths become absolute, because the workers may run in another folder."""
    data: dict[str, Json] = {}
    for name, value in options.items():
        if name == "output" and isinstance(value, (str, os.PathLike)):
            value = os.fspath(value)
            value = value if "://" in value else str(Path(value).resolve())
        try:
            jsonio.dumps(value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{name} is a {type(value).__name__}, which cannot be written to agent_loops.yaml: pass text, numbers, lists or "
                "mappings of them"
            ) from error
        data[name] = value
    return data


def verl_row(row: Mapping[str, Any], number: int, agent_name: str) -> dict[str, Any]:
    """Return a row of `Episodes.rows` with the columns of verl's datasets.

    Example:
        >>> row = {"environment": "weather", "split": "train", "task_index": 3, "prompt": [{"role": "user", "content": "Hi"}]}
        >>> verl_row(row, 0, "openreward")["extra_info"]["task_index"]
        3
    """
    return {
        "prompt": [{"role": message["role"], "content": _text(message.get("content"))} for message in row["prompt"]],
        "data_source": row["environment"],
        "ability": "agent",
        "reward_model": {"style": "environment", "ground_truth": ""},
        "agent_name": agent_name,
        "extra_info": {
            "index": number,
            "split": row["split"],
            "environment": row["environment"],
            "task_index": row["task_index"],
        },
    }


def _text(content: Any) -> str:
    """Return the text of a message. The files hold no images: the session sends them."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), file)
