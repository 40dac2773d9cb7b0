"""Facts about runs and rollouts, with the fields of the official client."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from openreward_gym.hiding import Secret
from openreward_gym.jsonio import Json
from openreward_gym.processes import NotPicklableError

__all__ = ["Config", "RolloutConfig", "RolloutInfo", "RunInfo", "RunType", "SendLoopConfig", "TrainingStage"]

TrainingStage: TypeAlias = Literal["pretrained", "sft", "rl"]
RunType: TypeAlias = Literal["train", "eval", "adhoc"]


@dataclass
class RunInfo:
    """Facts about every rollout of a run. None where a fact is not known.

    Example:
        >>> RunInfo("my-model", run_type="eval").model_name
        'my-model'
    """

    model_name: str
    run_type: RunType | None = None
    model_params: int | None = None
    model_active_params: int | None = None
    training_stage: TrainingStage | None = None
    initial_step: int | None = None
    checkpoint: str | None = None
    peft_type: str | None = None
    peft_rank: int | None = None
    rl_algorithm: str | None = None
    batch_size: int | None = None
    lr: float | None = None
    optimizer: str | None = None
    framework: str | None = None
    framework_version: str | None = None


@dataclass
class RolloutInfo:
    """Facts about one rollout, given with any of its messages. None where a fact is not known.

    Example:
        >>> RolloutInfo(3, temperature=0.7).task_index
        3
    """

    task_index: int
    env_version: str | None = None
    current_step: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    num_compactions: int | None = None
    duration_ms: int | None = None
    harness: str | None = None


@dataclass(kw_only=True)
class RolloutConfig:
    """What a rollout was created with: the value of `rollout.config`.

    Example:
        >>> RolloutConfig(run_name="my-run", split="train").model_dump()["split"]
        'train'
    """

    run_name: str
    rollout_name: str | None = None
    environment: str | None = None
    variant: str | None = None
    split: str | None = None
    metadata: dict[str, Any] | None = None
    task_spec: dict[str, Any] | None = None
    run_info: dict[str, Any] | None = None

    def model_dump(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return dataclasses.asdict(self)


@dataclass
class SendLoopConfig:
    """Settings of the upload. `base_url` and `api_key` have an effect; the others are those of the official client's own queue.

    The key is kept as a `Secret`: it is shown nowhere, and the object cannot be pickled.

    Example:
        >>> "sk-12345678" in repr(send_loop_config("https://api.example.org", Secret("sk-12345678")))
        False
    """

    max_items: int
    max_bytes: int
    max_age: float
    jitter: float
    ring_capacity: int
    max_batch_items: int
    max_batch_bytes: int
    max_retries: int
    backoff_base: float
    backoff_factor: float
    backoff_cap: float
    max_upload_concurrency: int
    api_key: str | Secret = field(repr=False)
    base_url: str

    def __setattr__(self, name: str, value: Json | Secret) -> None:
        is_key = name == "api_key" and isinstance(value, str)
        object.__setattr__(self, name, Secret(value) if is_key else value)  # type: ignore[arg-type]

    def __reduce__(self) -> Any:
        raise NotPicklableError("the settings of an upload hold a key and cannot be pickled: make a client in the other process")


@dataclass
class Config:
    """Settings of a client.

    Attributes:
        shutdown_timeout: Seconds that closing waits for the platform.
        send_loop_config: Settings of the upload.

    Example:
        >>> Config(10.0, send_loop_config("https://api.example.org", None)).shutdown_timeout
        10.0
    """

    shutdown_timeout: float
    send_loop_config: SendLoopConfig


def send_loop_config(base_url: str, api_key: Secret | None) -> SendLoopConfig:
    """Return the official client's settings of an upload."""
    return SendLoopConfig(
        max_items=128,
        max_bytes=4_000_000,
        max_age=1.0,
        jitter=0.05,
        ring_capacity=100_000,
        max_batch_items=128,
        max_batch_bytes=1_000_000,
        max_retries=4,
        backoff_base=0.5,
        backoff_factor=2.0,
        backoff_cap=30.0,
        max_upload_concurrency=32,
        api_key=Secret("") if api_key is None else api_key,
        base_url=base_url,
    )
