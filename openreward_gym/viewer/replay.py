"""The viewer's replay check: a rollout's calls made again in a new session of its task, and what is different now."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ToolFailedError
from openreward_gym.protocol.client import Client, RemoteEnvironment
from openreward_gym.protocol.secrets import read_secrets
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.wire import Secret, hide
from openreward_gym.types import Block, ToolOutput, text_of
from openreward_gym.types.conversion import block_of
from openreward_gym.types.rollout import MessageRecord, Rollout, ToolCallPart
from openreward_gym.viewer.pictures import images_compared

STEP_TIMEOUT_S = 120.0
MAX_SHOWN = 20_000


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A call of the record and its result; `arguments` None: they were no JSON object and reached no environment."""

    turn: int
    name: str
    arguments: dict[str, Any] | None
    plain: str | None
    result: MessageRecord


class ReplayCheck:
    """Runs rollouts again on a server; one at a time.

    Args:
        base_url: The environment's server. Never the address that a record names: a record may come from anybody.
        secrets_env: The secrets that a session is given: their names to the names of the environment variables that hold
            them. They are read when a check begins, and stand in no answer, even where the environment repeats them.
    """

    def __init__(self, base_url: str, secrets_env: Mapping[str, str] | None = None) -> None:
        self.base_url = base_url
        self.secrets_env = dict(secrets_env or {})
        self._running = threading.Lock()

    def __call__(self, rollout: Rollout) -> dict[str, Any]:
        """Make the calls again.

        Returns:
            `prompt`: `{"recorded", "now", "images", "same"}`. `calls`: for each `{"turn", "name", "arguments", "recorded",
            "now", "images", "recorded_reward", "now_reward", "recorded_finished", "now_finished", "same"}`; a call that was
            not made again has `now` None. `images`: see `images_compared`. `same`: whether all is. `error`: why it ended
            early; None where it did not.

        Raises:
            ConfigurationError: The record does not say of which task it is, another check is running, or a secret's variable
                is not set.
            OpenRewardGymError: The session could not be opened.
        """
        if not self._running.acquire(blocking=False):
            raise ConfigurationError("another replay check is running: wait until it has ended")
        try:
            return asyncio.run(self._replay(rollout))
        finally:
            self._running.release()

    async def _replay(self, rollout: Rollout) -> dict[str, Any]:
        async with Client(self.base_url) as client:
            screen = _Screen(read_secrets(self.secrets_env, client.api_key()).values())
            environment = client.environment(rollout.environment.name, rollout.environment.variant)
            async with _session_of(environment, rollout, self.secrets_env) as session:
                now = [block for message in await session.messages() for block in message.blocks]
                before = [block for message in _beginning(rollout) for block in _blocks(message)]
                images = images_compared(before, now)
                prompt = {
                    "recorded": screen(text_of(before)),
                    "now": screen(text_of(now)),
                    "images": images,
                    "same": text_of(before) == text_of(now) and all(image["same"] for image in images),
                }
                calls, error = await _calls_again(session, rollout, screen)
        return {"prompt": prompt, "calls": calls, "error": error,
                "same": error is None and prompt["same"] and all(call["same"] for call in calls)}  # fmt: skip


class _Screen:
    """A text as it is shown: without the secrets, as they are and as JSON writes them, and not longer than is shown."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._secrets = [form for secret in secrets for form in (secret, Secret(json.dumps(secret.reveal())[1:-1]))]

    def __call__(self, text: str) -> str:
        return hide(text, self._secrets)[:MAX_SHOWN]  # hidden first: half a secret is not found


def _session_of(environment: RemoteEnvironment, rollout: Rollout, secrets_env: Mapping[str, str]) -> Session:
    task, split = rollout.task, rollout.environment.split
    if task.spec is not None:
        return environment.session(task_spec=task.spec, step_timeout_s=STEP_TIMEOUT_S, secrets_env=secrets_env)
    if split is None or task.index is None:
        raise ConfigurationError("the record has neither a task's spec nor its split and index: it cannot be run again")
    return environment.session(split=split, index=task.index, step_timeout_s=STEP_TIMEOUT_S, secrets_env=secrets_env)


def _beginning(rollout: Rollout) -> list[MessageRecord]:
    first = next((n for n, message in enumerate(rollout.messages) if message.role == "assistant"), len(rollout.messages))
    return rollout.messages[:first]


async def _calls_again(session: Session, rollout: Rollout, screen: _Screen) -> tuple[list[dict[str, Any]], str | None]:
    made: list[dict[str, Any]] = []
    for call in _recorded_calls(rollout):
        output: ToolOutput | None = None
        error = None
        try:
            if call.plain is not None:
                output = await session.call_terminal(call.plain)
            elif call.arguments is not None:
                output = await session.call(call.name, call.arguments)
        except ToolFailedError as failed:
            error = str(failed)
        except OpenRewardGymError as problem:
            return made, screen(str(problem))
        made.append(_compared(call, output, error, screen))
        if error is not None or (output is not None and output.finished):
            break
    return made, None


def _recorded_calls(rollout: Rollout) -> Iterator[_Recorded]:
    """The calls in the order in which they ran, which is that of their results."""
    turn = 0
    open_calls: list[ToolCallPart] = []
    said = ""
    for message in rollout.messages:
        if message.role == "assistant":
            turn += 1
            open_calls, said = message.tool_calls, message.text
        elif message.role == "tool":
            call = next((call for call in open_calls if call.id == (message.tool_call_id or "")), None)
            if call is not None:
                open_calls = [other for other in open_calls if other is not call]
                yield _Recorded(turn, call.name, call.input, None, message)
            elif not open_calls and said and rollout.terminal_tool is not None:
                yield _Recorded(turn, message.name or rollout.terminal_tool.name, None, said, message)


def _compared(call: _Recorded, output: ToolOutput | None, failed: str | None, screen: _Screen) -> dict[str, Any]:
    result, recorded = call.result, _blocks(call.result)
    before = text_of(recorded)
    now = failed if output is None else text_of(output.blocks)
    images = [] if output is None else images_compared(recorded, output.blocks)
    same = output is not None and (before, result.finished, result.is_error) == (now, output.finished, bool(output.error))
    same = same and all(image["same"] for image in images)
    not_sent = now is None
    return {
        "turn": call.turn,
        "name": call.name,
        "arguments": call.plain if call.plain is not None else call.arguments,
        "recorded": screen(before),
        "now": None if now is None else screen(now),
        "images": images,
        "recorded_reward": result.reward,
        "now_reward": None if output is None else output.reward,
        "recorded_finished": result.finished,
        "now_finished": output is not None and output.finished,
        "same": not_sent or (same and _equal(result.reward, output.reward if output is not None else None)),
    }


def _blocks(message: MessageRecord) -> Sequence[Block]:
    return [block_of(part) for part in message.blocks]


def _equal(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(before) and math.isnan(now))
