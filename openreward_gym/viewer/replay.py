"""The replay check: make a rollout's calls again in a new session of its task, and compare the outputs."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import itertools
import math
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ToolFailedError
from openreward_gym.hiding import Redactor, Secret
from openreward_gym.images import mime_type_of
from openreward_gym.protocol.addresses import resolve_addresses
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.protocol.secrets import read_secrets
from openreward_gym.protocol.session import Session
from openreward_gym.types import Block, ImageBlock, Message, Rollout, ToolCall, ToolOutput, text_of
from openreward_gym.urls import without_credentials

STEP_TIMEOUT_S = 120.0
MAX_TEXT = 20_000
"""Characters of an output that are shown."""

MAX_IMAGE_BYTES = 2_000_000
"""The largest image whose data is part of the answer; of a larger one only the size is."""

_SIZE_FIELDS = {"image/png": (">II", 16), "image/gif": ("<HH", 6), "image/bmp": ("<ii", 18)}
"""The `struct` format and position of the width and height."""

_JPEG_SIZE_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG's "start of frame" markers, which hold the size; the excluded markers between them begin tables."""


@dataclass(frozen=True, slots=True)
class _RecordedCall:
    """A recorded call and its result."""

    turn: int  # the number of the assistant message, from 1
    name: str
    arguments: Mapping[str, Any] | str | None  # a plain answer for the terminal tool; None if no environment received them
    result: Message


class ReplayCheck:
    """Replays rollouts on an environment server, one at a time.

    Args:
        base_url: The environment's server. A URL inside a record must not be used: records are not trusted.
        secrets_env: The environment variables of the sessions' secrets, by name of the secret. They are read when a check
            begins. Answers do not contain secrets, even if the environment repeats them.

    Raises:
        ConfigurationError: `base_url` is not a URL.

    Example:
        check = ReplayCheck("http://127.0.0.1:8080")
        check(store[0])["same"]
    """

    def __init__(self, base_url: str, secrets_env: Mapping[str, str] | None = None) -> None:
        resolve_addresses(base_url, {})
        self.base_url = base_url
        self.shown_url = without_credentials(base_url)
        self.secrets_env = dict(secrets_env or {})
        self._running = threading.Lock()

    def __call__(self, rollout: Rollout) -> dict[str, Any]:
        """Make the calls again and compare the outputs.

        Returns:
            `prompt`: `{"recorded", "now", "images", "same"}`. `calls`: for each `{"turn", "name", "arguments", "recorded",
            "now", "images", "recorded_reward", "now_reward", "recorded_finished", "now_finished", "same"}`; a call that
            was not made again has `now` None. `images`: see `compare_images`. `same`: whether everything is equal.
            `error`: the reason why the replay ended early, or None.

        Raises:
            ConfigurationError: The record does not name its task, another check is running, or a secret's environment
                variable is not set.
            OpenRewardGymError: The session could not be opened.
        """
        if not self._running.acquire(blocking=False):
            raise ConfigurationError("another replay check is running. Wait until it has ended.")
        try:
            return asyncio.run(self._replay(rollout))
        finally:
            self._running.release()

    async def _replay(self, rollout: Rollout) -> dict[str, Any]:
        async with Client(self.base_url) as client:
            redact = _redactor(read_secrets(self.secrets_env, client.api_key()).values())
            environment = client.environment(rollout.environment.name, rollout.environment.variant)
            async with _session_of(environment, rollout, self.secrets_env) as session:
                now = [block for message in await session.messages() for block in message.blocks]
                recorded = itertools.takewhile(lambda message: not _is_turn(message), rollout.messages)
                before = [block for message in recorded for block in message.blocks]
                images = compare_images(before, now)
                prompt = {
                    "recorded": redact(text_of(before)),
                    "now": redact(text_of(now)),
                    "images": images,
                    "same": text_of(before) == text_of(now) and all(image["same"] for image in images),
                }
                calls, error = await _repeat_calls(session, rollout, redact)
        same = error is None and prompt["same"] and all(call["same"] for call in calls)
        return {"prompt": prompt, "calls": calls, "error": error, "same": same}


def _redactor(secrets: Iterable[Secret]) -> Callable[[str], str]:
    """Return a function that removes secrets from a text, and cuts it to the length that is shown."""
    redact = Redactor(secrets)
    # Hidden first, so that none is cut in two.
    return lambda text: redact(text[: 2 * MAX_TEXT])[:MAX_TEXT]


def _session_of(environment: RemoteEnvironment, rollout: Rollout, secrets_env: Mapping[str, str]) -> Session:
    task, split = rollout.task, rollout.environment.split
    if task.spec is not None:
        return environment.session(task_spec=task.spec, step_timeout_s=STEP_TIMEOUT_S, secrets_env=secrets_env)
    if split is None or task.index is None:
        raise ConfigurationError("the record has neither the task's spec nor its split and index, so it cannot be run again")
    return environment.session(split=split, index=task.index, step_timeout_s=STEP_TIMEOUT_S, secrets_env=secrets_env)


def _is_turn(message: Message) -> bool:
    return message.role == "assistant" and message.origin in ("policy", None)


async def _repeat_calls(
    session: Session, rollout: Rollout, redact: Callable[[str], str]
) -> tuple[list[dict[str, Any]], str | None]:
    calls: list[dict[str, Any]] = []
    for call in _recorded_calls(rollout):
        output: ToolOutput | None = None
        error = None
        try:
            if isinstance(call.arguments, str):
                output = await session.call_terminal(call.arguments)
            elif call.arguments is not None:
                output = await session.call(call.name, call.arguments)
        except ToolFailedError as failure:
            error = str(failure)
        except OpenRewardGymError as failure:
            return calls, redact(str(failure))
        calls.append(_compare(call, output, error, redact))
        if error is not None or (output is not None and output.finished):
            break
    return calls, None


def _recorded_calls(rollout: Rollout) -> Iterator[_RecordedCall]:
    """Yield the calls in the order in which they ran, which is that of their results."""
    turn = 0
    open_calls: Sequence[ToolCall] = ()
    text = ""
    for message in rollout.messages:
        if _is_turn(message):
            turn += 1
            open_calls, text = message.tool_calls, message.text
        elif message.role == "tool":
            call = next((call for call in open_calls if call.call_id == (message.call_id or "")), None)
            if call is not None:
                open_calls = [other for other in open_calls if other is not call]
                yield _RecordedCall(turn, call.name, call.arguments, message)
            elif not open_calls and text and rollout.terminal_tool is not None:
                yield _RecordedCall(turn, message.name or rollout.terminal_tool.name, text, message)


def _compare(call: _RecordedCall, output: ToolOutput | None, error: str | None, redact: Callable[[str], str]) -> dict[str, Any]:
    """Compare a recorded result with a new output; None if the call was not made, or failed with `error`."""
    result = call.result
    before = text_of(result.blocks)
    now, images, reward, finished = error, [], None, False
    same = error is None
    if output is not None:
        now, reward, finished = text_of(output.blocks), output.reward, output.finished
        images = compare_images(result.blocks, output.blocks)
        same = (before, result.finished, result.is_error) == (now, finished, bool(output.error))
        same = same and all(image["same"] for image in images) and _equal_numbers(result.reward, reward)
    return {
        "turn": call.turn,
        "name": call.name,
        "arguments": call.arguments,
        "recorded": redact(before),
        "now": None if now is None else redact(now),
        "images": images,
        "recorded_reward": result.reward,
        "now_reward": reward,
        "recorded_finished": result.finished,
        "now_finished": finished,
        "same": same,
    }


def _equal_numbers(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(before) and math.isnan(now))


def compare_images(recorded: Sequence[Block], now: Sequence[Block]) -> list[dict[str, Any]]:
    """Compare the images of a recorded output with those of a new one, in their order.

    Returns:
        For each pair `{"recorded", "now", "same"}`. An image is `{"mime_type", "bytes", "width", "height", "data"}`: unknown
        sizes are None, and so is `data` (base64) if the two are equal or it is too large. An image that only the other
        output has is None.
    """
    pairs = []
    images = ([block for block in blocks if isinstance(block, ImageBlock)] for blocks in (recorded, now))
    for before, after in itertools.zip_longest(*images):
        same = before is not None and after is not None and _digest(before) == _digest(after)
        pairs.append({"recorded": _describe(before, not same), "now": _describe(after, not same), "same": same})
    return pairs


def _bytes(image: ImageBlock) -> bytes:
    """Return the image's bytes; data that is not base64 is returned as it is, so that it can still be compared."""
    try:
        return base64.b64decode("".join(image.data.split()), validate=True)
    except (binascii.Error, ValueError):
        return image.data.encode("utf-8", "surrogatepass")


def _digest(image: ImageBlock) -> str:
    # A record whose images are files beside it has the hash only.
    return image.sha256 if image.sha256 and not image.data else hashlib.sha256(_bytes(image)).hexdigest()


def _describe(image: ImageBlock | None, with_data: bool) -> dict[str, Any] | None:
    if image is None:
        return None
    content = _bytes(image)
    width, height = size_in_pixels(content) or (None, None)
    data = image.data if with_data and 0 < len(content) <= MAX_IMAGE_BYTES else None
    return {"mime_type": image.mime_type, "bytes": len(content) or None, "width": width, "height": height, "data": data}


def size_in_pixels(content: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a PNG, JPEG, GIF, WebP or BMP file; None for other or truncated files."""
    mime_type = mime_type_of(content)
    try:
        if mime_type == "image/jpeg":
            return _jpeg_size(content)
        if mime_type == "image/webp":
            return _webp_size(content)
        if mime_type in _SIZE_FIELDS:
            fields, position = _SIZE_FIELDS[mime_type]
            width, height = struct.unpack_from(fields, content, position)
            return width, abs(height)  # a negative height means rows from top to bottom
    except (struct.error, IndexError):
        pass
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    position = 2
    while content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", content, position + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", content, position + 2)
            position += 2 + length
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", content, 24)
        return 1 + width + (width_high << 16), 1 + height + (height_high << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
