"""The tasks of environments as examples of TRL."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.chat import to_openai
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.images import parse_data_url
from openreward_gym.integrations.episode import openai_tools
from openreward_gym.integrations.trl.play import PlaySource, pillow_image
from openreward_gym.types import ImageBlock
from openreward_gym.types.messages import text_separator

logger = logging.getLogger("openreward_gym")


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

    def read(index: int, env: OpenRewardEnv[Any]) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
        return index, to_openai(env.messages), openai_tools(env.tools)

    sessions = await source.aread_tasks(read, limit, tasks=tasks)
    if not sessions:
        raise ConfigurationError(f"no tasks of {source.name!r} were chosen: give other values of `tasks` or `limit`")
    groups: dict[str, ToolGroup] = {}
    for index, prompt, tools in sessions:
        name = source.name if not groups else f"{source.name}#{len(groups) + 1}"
        of_tools = groups.setdefault(json.dumps(tools, sort_keys=True), ToolGroup(name, source, tools, []))
        row = {"environment": of_tools.name, "split": source.options.split, "task_index": index}
        of_tools.rows.append({**row, "prompt": [*map(_plain, prompt)] or [{"role": "user", "content": ""}]})
    return list(groups.values())


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of several texts with one text: the templates of text models render no lists.

    Parts that are neither text nor image are left out, with a warning: chat templates do not render them.
    """
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    unknown = sorted({str(part.get("type"))[:50] for part in parts} - {"text", "image_url"})
    if unknown:
        logger.warning("a prompt has parts that TRL cannot show to a model, which are left out: %s", ", ".join(unknown))
        parts = [part for part in parts if part.get("type") in ("text", "image_url")]
    if any(part["type"] == "image_url" for part in parts):
        return {**message, "content": parts}
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
            else:
                parts.append({"type": "text", "text": part.get("text") or ""})
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
