"""The tasks of environments as examples of TRL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.images import parse_data_url
from openreward_gym.integrations.episode import PROMPTS_AT_ONCE
from openreward_gym.integrations.trl.play import PlaySource, pillow_image
from openreward_gym.types import ImageBlock
from openreward_gym.types.messages import text_separator


@dataclass(frozen=True)
class ToolGroup:
    """The tasks of an environment that have the same tools. TRL shows tools by environment, not by task.

    Attributes:
        name: Value of the column `environment`: the environment's name, and a number where tools differ between tasks.
        source: Source of the episodes.
        tools: The tools in OpenAI's format.
        rows: The examples.
    """

    name: str
    source: PlaySource
    tools: list[dict[str, Any]]
    rows: list[dict[str, Any]]


async def tool_groups(source: PlaySource, tasks: Sequence[int] | None, limit: int | None) -> list[ToolGroup]:
    """Open a session for each task, and return the tasks by their tools.

    Raises:
        ConfigurationError: There are no tasks, or a task does not exist.
        TransportError, ServerError, SessionLostError, ...: A session could not be opened.
    """
    chosen: Sequence[int] = range(await source.anum_tasks()) if tasks is None else tasks
    chosen = chosen if limit is None else chosen[:limit]
    if not chosen:
        raise ConfigurationError(f"no tasks of {source.name!r} were chosen: give other values of `tasks` or `limit`")
    at_once = asyncio.Semaphore(PROMPTS_AT_ONCE)

    async def opened(index: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with at_once:
            episode = source.episode()
            try:
                await episode.begin(index)
                return episode.prompt, episode.tools
            finally:
                await episode.aclose()

    try:
        async with asyncio.TaskGroup() as group:
            tasks_opened = [group.create_task(opened(index)) for index in chosen]
    except* OpenRewardGymError as errors:
        raise errors.exceptions[0] from None
    sessions = [task.result() for task in tasks_opened]
    groups: dict[str, ToolGroup] = {}
    for index, (prompt, tools) in zip(chosen, sessions, strict=True):
        name = source.name if not groups else f"{source.name}#{len(groups) + 1}"
        of_tools = groups.setdefault(json.dumps(tools, sort_keys=True), ToolGroup(name, source, tools, []))
        row = {"environment": of_tools.name, "split": source.options.split, "task_index": index}
        of_tools.rows.append({**row, "prompt": [*map(_plain, prompt)] or [{"role": "user", "content": ""}]})
    return list(groups.values())


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of several texts with one text: the templates of text models render no lists."""
    parts = message.get("content")
    if not isinstance(parts, list) or any(part.get("type") != "text" for part in parts):
        return message
    return {**message, "content": text_separator(str(message.get("role"))).join(str(part.get("text") or "") for part in parts)}


def examples(groups: Iterable[ToolGroup]) -> list[dict[str, Any]]:
    """Return the rows for TRL's dataset. Images of prompts are in a column of their own, with marks in the messages."""
    rows = [row for group in groups for row in group.rows]
    if not any(isinstance(message.get("content"), list) for row in rows for message in row["prompt"]):
        return rows
    return [_with_images(row) for row in rows]


def _with_images(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose messages are lists of parts, as a dataset needs it if any row has images."""
    images: list[Any] = []
    prompt = []
    for message in row["prompt"]:
        content = message.get("content")
        given: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        parts: list[dict[str, Any]] = []
        for part in given:
            if part.get("type") == "image_url":
                images.append(_image(part["image_url"]["url"]))
                parts.append({"type": "image", "text": None})
            elif part.get("type") == "text":
                parts.append({"type": "text", "text": part.get("text") or ""})
            else:
                raise ConfigurationError(f"a prompt has a part that TRL cannot show to a model: {str(part.get('type'))[:50]!r}")
        prompt.append({**message, "content": parts})
    return {**row, "prompt": prompt, "images": images}


def _image(url: str) -> Any:
    parsed = parse_data_url(url)
    if parsed is None:
        raise ConfigurationError(f"a prompt has an image by address, which TRL does not load: {url[:100]}")
    mime_type, data = parsed
    try:
        return pillow_image(ImageBlock(data=data, mime_type=mime_type))
    except ValueError as error:
        raise ConfigurationError(f"an image of a prompt cannot be read: {error}") from None
