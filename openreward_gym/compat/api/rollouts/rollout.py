"""`RolloutAPI` and `Rollout`: the official client's recording, into `runs/<run_name>` and, if there is a key, to the platform."""

from __future__ import annotations

import dataclasses
import logging
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from openreward_gym.chat.plain import shown
from openreward_gym.compat.api.rollouts.serializers.base import UploadType, recorded_message
from openreward_gym.compat.models import RolloutConfig, RolloutInfo, RunInfo, SendLoopConfig, send_loop_config
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, StoreError
from openreward_gym.hiding import Secret
from openreward_gym.logs import set_up_logging
from openreward_gym.options import RetryLimits
from openreward_gym.platform import Platform
from openreward_gym.recording.log import RolloutLog, mapping_of
from openreward_gym.recording.printing import print_start
from openreward_gym.recording.recorder import Recorder
from openreward_gym.store.store import viewer_address
from openreward_gym.variables import rollout_logging_format

__all__ = ["Rollout", "RolloutAPI", "rollout_api"]

logger = logging.getLogger("openreward_gym.upload")

_WEB = "https://openreward.ai"
_SHUTDOWN_S = 10.0


def rollout_api(
    *,
    api_key: Secret | None,
    api_url: str,
    web_base_url: str = _WEB,
    run_info: RunInfo | None = None,
    upload: bool | None = None,
    shutdown_timeout: float = _SHUTDOWN_S,
) -> RolloutAPI:
    """Return the `rollout` of a client.

    Args:
        api_key: The key of the platform. None for a client without one.
        api_url: The address of the platform's API.
        web_base_url: The address of the platform's pages, which are named when messages are printed.
        run_info: Facts about every rollout.
        upload: Send rollouts to the platform. None sends them if there is a key.
        shutdown_timeout: Seconds that `close` waits for the platform.

    Raises:
        ConfigurationError: The address is not valid, or the key is missing or cannot be sent.

    Example:
        >>> api = rollout_api(api_key=None, api_url="https://api.openreward.ai")
        >>> api.run_info is None
        True
    """
    api = RolloutAPI(send_loop_config(api_url, api_key), shutdown_timeout, web_base_url, run_info)
    if upload is not None:
        api.use_platform(upload)
    return api


class RolloutAPI:
    """The value of `client.rollout`: `create(...)` begins a rollout, `close()` writes and sends the rest.

    Each run is a folder `runs/<run_name>`, sent or not. A rollout is written, and then sent, when nothing can
    be logged to it any more: when it is closed, at the next call once the program holds it no longer, and at the latest when the
    API is closed or the program ends.

    Args:
        send_loop_config: The address and the key of the platform. Without a key nothing is sent.
        shutdown_timeout: Seconds that `close` waits for the platform. What is not sent by then stays in the run's folder.
        web_base_url: The address of the platform's pages.
        run_info: Facts about every rollout. Another value applies to the rollouts that are created afterwards.

    Example:
        >>> from openreward_gym.compat.api.rollouts.serializers.base import AssistantMessage, UserMessage
        >>> with rollout_api(api_key=None, api_url="https://api.openreward.ai") as api:
        ...     rollout = api.create(run_name="compat", rollout_name="episode-0")
        ...     rollout.log(UserMessage("2 + 2?"))
        ...     rollout.log(AssistantMessage("4"), reward=1.0, is_finished=True)
        >>> from openreward_gym import RolloutStore
        >>> [(one.name, one.reward) for one in RolloutStore("runs/compat")]
        [('episode-0', 1.0)]
    """

    def __init__(
        self,
        send_loop_config: SendLoopConfig,
        shutdown_timeout: float = _SHUTDOWN_S,
        web_base_url: str = _WEB,
        run_info: RunInfo | None = None,
    ) -> None:
        self.send_loop_config = send_loop_config
        self.shutdown_timeout = shutdown_timeout
        self.web_base_url = web_base_url
        self.run_info = run_info
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        self._dropped: SimpleQueue[RolloutLog] = SimpleQueue()
        self._platform: Platform | None = None
        set_up_logging()
        key = send_loop_config.api_key
        self.use_platform(bool(key.reveal() if isinstance(key, Secret) else key))

    def use_platform(self, upload: bool) -> None:
        """Send the rollouts that are created from now on, or do not."""
        config = self.send_loop_config
        key = config.api_key if isinstance(config.api_key, Secret) else Secret(config.api_key)
        # The upload retries by its own rule, and an id is looked up once.
        limits = RetryLimits(attempts=1, starting_s=0.0)
        self._platform = Platform(config.base_url, api_key=key, retry_limits=limits) if upload else None

    def create(
        self,
        run_name: str,
        rollout_name: str | None = None,
        environment: str | None = None,
        variant: str | None = None,
        split: str | None = None,
        metadata: dict[str, Any] | None = None,
        task_spec: dict[str, Any] | None = None,
        run_info: RunInfo | None = None,
        print_messages: bool = False,
    ) -> Rollout:
        """Begin a rollout.

        Args:
            run_name: The run that it belongs to.
            rollout_name: Its own name.
            environment: The environment: `owner/name`, or a server's own name.
            variant, split, task_spec: The task.
            metadata: Free data, kept with the rollout.
            run_info: Facts about this rollout's run. Values that are not None replace those of the API.
            print_messages: Print each message as it is logged, in the format of `OPENREWARD_ROLLOUT_LOGGING_FORMAT`.

        Raises:
            ConfigurationError: There is no format of that name, `run_name` is empty, or a name is not a string.
            MessageError: `metadata` or `task_spec` is not JSON data.
        """
        self._write_dropped()
        texts = {"rollout_name": rollout_name, "environment": environment, "variant": variant, "split": split}
        for name, value in texts.items():
            if not isinstance(value, str | None):
                raise ConfigurationError(f"{name} must be a string or None, not {shown(value)}")
        if not isinstance(run_name, str) or not run_name:
            raise ConfigurationError(f"run_name must name the run, not {shown(run_name)}: its folder is runs/<run_name>")
        merged = self._merge_run_info(run_info)
        log = self._recording().create(
            run_name,
            rollout_name,
            environment,
            variant,
            split,
            metadata,
            task_spec,
            run_info=merged,
            print_messages=print_messages,
        )
        log.ends_when_finished = False
        config = RolloutConfig(
            run_name=run_name,
            rollout_name=rollout_name,
            environment=environment,
            variant=variant,
            split=split,
            metadata=metadata,
            task_spec=task_spec,
            run_info=merged or None,
        )
        rollout = Rollout(config, log, self._platform, print_messages)
        weakref.finalize(rollout, self._dropped.put, log).atexit = False
        if print_messages and (self._platform is not None or rollout_logging_format() == "structured"):
            print_start(log.rollout_id, self._page(log, run_name))
        return rollout

    def _page(self, log: RolloutLog, run_name: str) -> str:
        if self._platform is None:
            return viewer_address(Path(log.store.path).resolve().name, run_name, log.rollout_id)
        return f"{self.web_base_url.rstrip('/')}/rollout/{log.rollout_id}"

    def _merge_run_info(self, override: RunInfo | None = None) -> dict[str, Any]:
        """Return the facts of a rollout's run: those of the API, replaced by the rollout's own."""
        shared, own = mapping_of(self.run_info), mapping_of(override)
        if not (shared or own):
            return {}
        names = dict.fromkeys(field.name for field in dataclasses.fields(RunInfo))
        return {**names, **shared, **own}

    def _recording(self) -> Recorder:
        with self._lock:
            if self._recorder is None:
                is_sent = self._platform is not None
                self._recorder = Recorder(upload=is_sent, platform=self._platform, close_timeout_s=self.shutdown_timeout)
            return self._recorder

    def _write_dropped(self) -> None:
        """Write the rollouts that the program holds no longer."""
        while True:
            try:
                log = self._dropped.get_nowait()
            except Empty:
                return
            try:
                log.close()
            except StoreError as error:
                logger.warning("rollout %s could not be written: %s", log.rollout_id, error)

    def close(self) -> None:
        """Write the open rollouts, and wait at most `shutdown_timeout` seconds until all are sent."""
        self._write_dropped()
        recorder = self._recorder
        if recorder is not None:
            recorder.close()

    def __enter__(self) -> RolloutAPI:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Rollout:
    """A rollout that is being recorded, made by `RolloutAPI.create`.

    Messages may be logged until it is closed, also after one with `is_finished=True`.

    Attributes:
        config: What it was created with.
        print_messages: Whether messages are printed as they are logged.

    Example:
        >>> from openreward_gym.compat.api.rollouts.serializers.base import ReasoningItem, ToolCall
        >>> with rollout_api(api_key=None, api_url="https://api.openreward.ai") as api:
        ...     rollout = api.create(run_name="compat-turns")
        ...     rollout.log(ReasoningItem("A city."))
        ...     rollout.log(ToolCall("get_weather", '{"city": "Oslo"}', "c1"))
        ...     rollout.logged_messages
        2
    """

    def __init__(self, config: RolloutConfig, log: RolloutLog, platform: Platform | None, print_messages: bool) -> None:
        self.config = config
        self.print_messages = print_messages
        self._log = log
        self._platform = platform
        self._ids: tuple[str | None, str | None] | None = None

    @property
    def event_id(self) -> str:
        """The rollout's id, here and on the platform."""
        return self._log.rollout_id

    rollout_id = event_id

    @property
    def logged_messages(self) -> int:
        """The number of events that the logged messages are for the platform."""
        return self._log.logged_messages

    @property
    def environment_id(self) -> str | None:
        """The platform's id of the environment, looked up when it is read first. None if it has none, or cannot be asked."""
        return self._platform_ids()[0]

    @property
    def variant_id(self) -> str | None:
        """The platform's id of the variant, like `environment_id`."""
        return self._platform_ids()[1]

    def _platform_ids(self) -> tuple[str | None, str | None]:
        if self._ids is None:
            self._ids = None, None
            if self._platform is not None and self.config.environment:
                try:
                    self._ids = self._platform.environment_ids(self.config.environment, self.config.variant)
                except OpenRewardGymError as error:
                    logger.debug("the ids of %s are not known: %s", self.config.environment, error)
        return self._ids

    def log(
        self,
        message: UploadType,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Any] | None = None,
        rollout_info: RolloutInfo | None = None,
    ) -> None:
        """Log a UserMessage, AssistantMessage, SystemMessage, ReasoningItem, ToolCall or ToolResult.

        Args:
            message: The message.
            reward: The reward that came with it.
            is_finished: Whether the episode ended with it.
            metadata: Free data, kept with it.
            rollout_info: Facts about the rollout, which are kept with the rollout.

        Raises:
            MessageError: It is not one of these messages.
            ConfigurationError: The rollout is closed, or a reward or a fact about the rollout has a wrong type.
            StoreError: The rollout could not be written.
        """
        self._log.log(recorded_message(message), reward, is_finished, metadata, rollout_info)

    def log_openai_completions(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Any] | None = None,
        rollout_info: RolloutInfo | None = None,
    ) -> None:
        """Log an OpenAI chat message, a dictionary or an SDK's object; else as `log`."""
        self._log.log_openai_completions(message, reward, is_finished, metadata, rollout_info)

    def log_openai_response(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Any] | None = None,
        rollout_info: RolloutInfo | None = None,
    ) -> None:
        """Log an item of an OpenAI response, or a whole `Response`; else as `log`."""
        self._log.log_openai_response(message, reward, is_finished, metadata, rollout_info)

    def log_anthropic_message(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Any] | None = None,
        rollout_info: RolloutInfo | None = None,
    ) -> None:
        """Log an Anthropic message; else as `log`."""
        self._log.log_anthropic_message(message, reward, is_finished, metadata, rollout_info)

    def log_gdm_message(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Any] | None = None,
        rollout_info: RolloutInfo | None = None,
    ) -> None:
        """Log a Gemini `Content`; else as `log`."""
        self._log.log_gdm_message(message, reward, is_finished, metadata, rollout_info)

    def close(self) -> None:
        """Write the rollout now. Nothing may be logged to it afterwards."""
        self._log.close()

    def __enter__(self) -> Rollout:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._log.__exit__(kind, error, traceback)
