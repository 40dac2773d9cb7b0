"""Types of the dicts that an env returns, for editors and type checkers. At run time they are plain dicts.

`gymnasium.make` returns an env of unknown types. `OpenRewardEnv(...)` has these types, and so has `env.unwrapped` after a check
with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from openreward_gym.types import ErrorKind, Json, Role, StopReason

__all__ = [
    "BlockElement",
    "BlocksObservation",
    "ChatFunction",
    "ChatMessage",
    "ChatToolCall",
    "ImageElement",
    "Info",
    "InfoDict",
    "InfoErrorKind",
    "InfoStopReason",
    "MessagesObservation",
    "TextElement",
    "ToolDescription",
    "VectorInfo",
]

InfoErrorKind: TypeAlias = ErrorKind | Literal["infrastructure"]
"""The kind of a step's first mistake; "" where there was none, "infrastructure" for a failed connection or server."""

InfoStopReason: TypeAlias = StopReason | Literal[""]
"""Why the episode ended; "" where it goes on. A wrapper of your own may give `env.unwrapped.truncate` another word."""


class _ElementFields(TypedDict):
    role: NotRequired[Role]
    is_error: NotRequired[bool]
    tool: NotRequired[str]
    tool_call_id: NotRequired[str]


class TextElement(_ElementFields):
    """A text of an observation with `obs_mode="blocks"`. The further keys are there only where they tell something.

    Keys:
        type: "text".
        text: The text.
        role: The role of its message; in the prompt of an episode that is more than a turn of the user.
        is_error: True for a tool's answer that is an error.
        tool, tool_call_id: The tool that answers, and the id of the call; in a step with several calls.

    Example:
        >>> element: TextElement = {"type": "text", "text": "It is 7 C."}
    """

    type: Literal["text"]
    text: str


class ImageElement(_ElementFields):
    """An image of an observation with `obs_mode="blocks"`. Further keys are those of `TextElement`.

    Keys:
        type: "image".
        data: The image file, as bytes. Empty where the server sent no base64.
        mime: Its media type, such as "image/png".

    Example:
        >>> element: ImageElement = {"type": "image", "data": b"GIF89a", "mime": "image/gif"}
    """

    type: Literal["image"]
    data: bytes
    mime: str


BlockElement: TypeAlias = TextElement | ImageElement
"""An element of an observation with `obs_mode="blocks"`, and of `info["blocks"]`."""


BlocksObservation: TypeAlias = tuple[BlockElement, ...]
"""An observation with `obs_mode="blocks"`: the elements of the prompt, or of the results of a step."""


class ChatFunction(TypedDict):
    """The function of a call in OpenAI's format: the tool's `name`, and its `arguments` as JSON text, as the model wrote it.

    Example:
        >>> function: ChatFunction = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    """

    name: str
    arguments: str


class ChatToolCall(TypedDict):
    """A call in OpenAI's format. `id` is empty where the model's call had none.

    Example:
        >>> function: ChatFunction = {"name": "look", "arguments": "{}"}
        >>> call: ChatToolCall = {"id": "call_1", "type": "function", "function": function}
    """

    id: str
    type: Literal["function"]
    function: ChatFunction


class ChatMessage(TypedDict):
    """A message of an observation with `obs_mode="messages"`, in OpenAI's chat format.

    `openreward_gym.chat.from_openai(observation)` makes the messages again, and `to_openai`, `to_anthropic` and the others write
    them for a server. OpenAI's own API refuses the last three keys.

    Keys:
        role: "system", "developer", "user", "assistant" or "tool".
        content: Text, or parts that each have a `type`; None in an assistant's message that is only calls.
        tool_calls: The calls of an assistant's message.
        tool_call_id: The call that a tool's message answers.
        name: The tool that answers, or the speaker.
        refusal: The text of a refusal.
        reasoning_content: The reasoning of an assistant's message, given or the policy's.
        is_error: True for a tool's message that is an error.
        openreward: What the format has no field for, such as the signature of a reasoning.

    Example:
        >>> message: ChatMessage = {"role": "user", "content": "How warm is it?"}
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None
    tool_calls: NotRequired[list[ChatToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    refusal: NotRequired[str]
    reasoning_content: NotRequired[str]
    is_error: NotRequired[bool]
    openreward: NotRequired[dict[str, Any]]


MessagesObservation: TypeAlias = tuple[ChatMessage, ...]
"""An observation with `obs_mode="messages"`: the transcript so far."""


class ToolDescription(TypedDict):
    """A tool of `info["tools"]`. `input_schema` is the JSON Schema of its arguments; None for a tool that takes none.

    Example:
        >>> tool: ToolDescription = {"name": "look", "description": "Look around.", "input_schema": None}
    """

    name: str
    description: str
    input_schema: Mapping[str, Json] | None


class Info(TypedDict):
    """The info of a step and of `reset`. Each key always has the same type, which is never None, an array or a dict.

    Keys:
        env: Name of the environment.
        split: The task's split; "" for a task given by its spec.
        task_index: The task's index in its split, from 0; -1 for a task given by its spec.
        tool: Name of the last tool that was called; "" where none was.
        tool_call_id: Id of that call; "" where it had none.
        n_calls: Number of calls in the message.
        error: Description of the first mistake in a call, or of a failed connection or server; "" for neither.
        error_kind: The kind of `error`.
        reward_is_null: True if the environment gave no reward, so that the 0.0 of the step stands for none.
        finished: True if the step ended the episode (`terminated`).
        stop_reason: Why the episode ended; "" where it goes on.
        obs_truncated_chars: Number of characters that `max_obs_chars` cut from the observation.
        metadata: JSON text of the metadata of the call; of several calls, a list; "null" for none.
        blocks: The observation as elements, whatever the `obs_mode`.
        tools: The tools of the session. Only in the info of `reset`, and of a step in a row that failed.
        action_mask: 1 for each tool, as Gymnasium's discrete spaces have masks. Where `tools` is.

    Example:
        >>> def is_lost(info: Info) -> bool:
        ...     return info["stop_reason"] in ("session_lost", "outcome_unknown")
    """

    env: str
    split: str
    task_index: int
    tool: str
    tool_call_id: str
    n_calls: int
    error: str
    error_kind: InfoErrorKind
    reward_is_null: bool
    finished: bool
    stop_reason: InfoStopReason
    obs_truncated_chars: int
    metadata: str
    blocks: tuple[BlockElement, ...]
    tools: NotRequired[tuple[ToolDescription, ...]]
    action_mask: NotRequired[tuple[int, ...]]


InfoDict: TypeAlias = dict[str, Any]
"""An info as wrappers pass it on: other wrappers may have added keys."""


class VectorInfo(TypedDict, total=False):
    """The infos of a vector environment: for each key of `Info` an array with one element per row.

    Texts, `blocks` and `tools` are arrays of objects. A bool array under the key with `_` before it marks the rows that have the
    key, e.g. `_tools`. The other keys:

    Keys:
        env_id: Index of each row's env.
        final_obs: With SAME_STEP, the last observations of the episodes that ended; None for the other rows.
        final_info: With SAME_STEP, the infos of these steps, merged likewise.

    Example:
        >>> def failed(infos: VectorInfo) -> list[int]:
        ...     return [int(env) for env, error in zip(infos["env_id"], infos["error"]) if error]
    """

    env: NDArray[np.object_]
    split: NDArray[np.object_]
    task_index: NDArray[np.int64]
    tool: NDArray[np.object_]
    tool_call_id: NDArray[np.object_]
    n_calls: NDArray[np.int64]
    error: NDArray[np.object_]
    error_kind: NDArray[np.object_]
    reward_is_null: NDArray[np.bool_]
    finished: NDArray[np.bool_]
    stop_reason: NDArray[np.object_]
    obs_truncated_chars: NDArray[np.int64]
    metadata: NDArray[np.object_]
    blocks: NDArray[np.object_]
    tools: NDArray[np.object_]
    action_mask: NDArray[np.object_]
    env_id: NDArray[np.int64]
    final_obs: NDArray[np.object_]
    final_info: dict[str, Any]
    _env: NDArray[np.bool_]
    _split: NDArray[np.bool_]
    _task_index: NDArray[np.bool_]
    _tool: NDArray[np.bool_]
    _tool_call_id: NDArray[np.bool_]
    _n_calls: NDArray[np.bool_]
    _error: NDArray[np.bool_]
    _error_kind: NDArray[np.bool_]
    _reward_is_null: NDArray[np.bool_]
    _finished: NDArray[np.bool_]
    _stop_reason: NDArray[np.bool_]
    _obs_truncated_chars: NDArray[np.bool_]
    _metadata: NDArray[np.bool_]
    _blocks: NDArray[np.bool_]
    _tools: NDArray[np.bool_]
    _action_mask: NDArray[np.bool_]
    _env_id: NDArray[np.bool_]
    _final_obs: NDArray[np.bool_]
    _final_info: NDArray[np.bool_]
