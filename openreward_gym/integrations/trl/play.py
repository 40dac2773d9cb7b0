"""One episode as TRL plays it: calls of tools first, and the model's last message when its rollout is scored."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any
from weakref import WeakSet

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError, MissingExtraError, OpenRewardGymError
from openreward_gym.images import is_raster
from openreward_gym.integrations.episode import Episode, Episodes
from openreward_gym.integrations.trl import record
from openreward_gym.integrations.trl.record import Call
from openreward_gym.integrations.trl.state import TrainingState
from openreward_gym.protocol import loop
from openreward_gym.types import AssistantMessage, Block, Ended, ImageBlock, Message, Task, text_of

OVER = "The episode is over."
"""What a tool returns after the end of the episode. TRL goes on asking the model, because it does not know of the end."""


class PlaySource(Episodes):
    """Episodes whose records are written when the rollout is scored: only then TRL tells the model's words."""

    def wrapped(self, env: OpenRewardEnv[Any]) -> Any:
        """Return the env as it is: TRL has parsed the calls, and the record is written at the end."""
        return env

    @cached_property
    def unscored(self) -> WeakSet[Play]:
        """The episodes that have begun, and are not scored."""
        return WeakSet()

    def close(self) -> None:
        """Close the sessions of rollouts that the trainer did not score, and the store's shards."""

        async def close_all() -> None:
            await asyncio.gather(*(play.aclose() for play in list(self.unscored)))

        loop.run(close_all())
        super().close()


class Play:
    """An episode of one rollout. It begins at once in the background, and is scored once.

    Args:
        source: Source of the episodes.
        state: What the trainer tells.
        task: Index of the task.
        split: Split of the task. None takes that of the source.
        tools: The tools that the model is shown, in OpenAI's format. None if they are those of the task.
    """

    def __init__(
        self,
        source: PlaySource,
        state: TrainingState,
        task: int,
        split: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._source = source
        self._state = state
        self._tools = tools
        self._episode = Episode(source)
        self._calls: list[Call] = []
        self._mistake: OpenRewardGymError | None = None
        self._spoiled_by: str | None = None
        self._scored: asyncio.Future[float | None] | None = None
        source.unscored.add(self)
        is_own = split is None or split == source.options.split
        step, group, sample = state.place(source.name if is_own else f"{source.name}:{split}", task)
        self._fields: dict[str, Any] = {"step": step, "group": group, "sample": sample}
        self._fields["metadata"] = {"phase": "eval" if state.is_evaluating else "train"}
        begin = self._begin(task if split is None else Task(split, task))
        self._begun = asyncio.run_coroutine_threadsafe(begin, loop.background_loop())

    def __repr__(self) -> str:
        return f"Play({self._episode!r})"

    @property
    def error(self) -> str | None:
        """The failure that spoiled the episode. None if none did."""
        return self._spoiled_by or self._episode.error

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool and return its result for the model: a text, or parts with images.

        It raises nothing, because TRL would show the words of an exception to the model. After a failure of the server it returns
        an empty text, and the episode has no reward.
        """
        return loop.run(self._call(name, arguments))

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if not await self._is_open():
            call = Call(name, "")
        elif self._episode.done:
            call = Call(name, "" if self.error else OVER)
        else:
            try:
                answer = await self._episode.act({"name": name, "arguments": dict(arguments)})
            except OpenRewardGymError as mistake:
                self._mistake = mistake
                call = Call(name, "", ended=True)
            else:
                blocks = [block for message in answer.messages for block in message.blocks]
                call = Call(name, self._shown(name, blocks), answer.messages, ended=answer.done)
        self._calls.append(call)
        return call.content

    async def _begin(self, task: int | Task) -> None:
        await self._episode.begin(task, **self._fields)
        own = self._episode.tools
        if self._tools is not None and _interface(own) != _interface(self._tools):
            await self._episode.aclose()
            shown, found = (", ".join(sorted(_interface(tools))) or "none" for tools in (self._tools, own))
            raise ConfigurationError(
                f"task {task.index if isinstance(task, Task) else task} of {self._source.name!r} has other tools or schemas "
                f"({found[:200]}) than those that the trainer shows to the model ({shown[:200]}). Tools are shown by "
                "environment: give tasks with other tools to a grpo() of their own"
            )

    async def _is_open(self) -> bool:
        try:
            await asyncio.wrap_future(self._begun)
        except OpenRewardGymError as error:
            if isinstance(error, ConfigurationError):
                self._mistake = error
            return False
        return True

    def _shown(self, name: str, blocks: Sequence[Block]) -> str | list[dict[str, Any]]:
        """Return blocks as TRL shows them to the model: a text, or a list of parts if there are images."""
        images = [block for block in blocks if isinstance(block, ImageBlock)]
        if images and not self._state.shows_images:
            self._mistake = ConfigurationError(
                f"the tool {name!r} of {self._source.name!r} returned an image, which this model or trainer cannot take: train a "
                "vision model with its processor as `processing_class`, with GRPOTrainer (AsyncGRPOTrainer shows text only)"
            )
        if not images or self._mistake is not None:
            return text_of(blocks)
        try:
            return [
                {"type": "image", "image": pillow_image(block)}
                if isinstance(block, ImageBlock)
                else {"type": "text", "text": text_of([block])}
                for block in blocks
            ]
        except MissingExtraError as mistake:
            self._mistake = mistake
            return ""
        except ValueError as error:
            self._spoiled_by = f"an image of the tool {name!r} cannot be read: {error}"
            return ""

    async def score(self, completion: Sequence[Mapping[str, Any]], completion_ids: Sequence[int] | None) -> float | None:
        """End the episode with the model's last message, write its record, and return the reward: None if it is spoiled.

        Raises:
            ConfigurationError: The training cannot go on like this: the task does not exist, the model cannot take the images.
        """
        if self._scored is None:
            self._source.unscored.discard(self)
            self._scored = asyncio.ensure_future(self._score(completion, completion_ids))
        return await asyncio.shield(self._scored)

    async def _score(self, completion: Sequence[Mapping[str, Any]], completion_ids: Sequence[int] | None) -> float | None:
        episode = self._episode
        is_open = await self._is_open()
        if self._mistake is not None:
            await episode.aclose()
            raise self._mistake
        if not is_open:
            return None
        ended: Ended | None = None
        verdict: list[Message] = []
        if not episode.done:
            ended, verdict = await self._finish(completion, completion_ids)
        await episode.aclose()
        rollout = episode.rollout
        if rollout is not None and self._source.store is not None:
            words = record.conversation(
                list(takewhile(lambda message: message.origin != "policy", rollout.messages)),
                completion,
                self._calls,
                verdict,
                ended=ended,
                token_ids=record.turn_ids(completion, completion_ids, self._state),
            )
            rollout = record.told(rollout, words, self._state, error=self.error)
            await asyncio.to_thread(self._source.store.append, self._source.redactor.rollout(rollout))
        return None if self.error is not None else episode.reward

    async def _finish(
        self, completion: Sequence[Mapping[str, Any]], completion_ids: Sequence[int] | None
    ) -> tuple[Ended | None, list[Message]]:
        """Play the model's last message. Return how it ended, and what the environment said to it."""
        last = completion[-1] if completion else {}
        if last.get("role") != "assistant":
            # The token limit left nothing for an answer to the last results.
            await self._episode.end("length")
            return None, []
        if last.get("tool_calls"):
            # TRL runs no further calls; or it ran them, and dropped their results because they were too long.
            has_dropped = len(record.answered(completion, self._calls)) < len(self._calls)
            await self._episode.end("context_overflow" if has_dropped else "max_turns")
            return "tool_calls", []
        text = str(last.get("content") or "")
        ended: Ended = "length" if self._is_cut_off(completion_ids) else "stop"
        answer = await self._episode.act(AssistantMessage(text, ended=ended))
        if not self._episode.done:
            # Neither a call nor an answer. TRL asks the model for no more.
            ended = "malformed" if text.strip() else ended
            await self._episode.end("malformed" if text.strip() else "no_action")
        # What the client replied was shown to nobody.
        return ended, [message for message in answer.messages if message.origin == "environment"]

    def _is_cut_off(self, completion_ids: Sequence[int] | None) -> bool:
        ends = self._state.end_token_ids
        return bool(completion_ids) and ends is not None and completion_ids[-1] not in ends  # type: ignore[index]

    async def aclose(self) -> None:
        """Close the session of an episode that is not scored."""
        self._source.unscored.discard(self)
        if await self._is_open():
            await self._episode.aclose()


def _interface(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the schemas of tools by their names."""
    return {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}


def pillow_image(block: ImageBlock) -> Any:
    """Return an image as Pillow's.

    Raises:
        MissingExtraError: Pillow is not installed.
        ValueError: The data are not an image that Pillow can read.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("images need Pillow: pip install 'openreward-gym[train]' pillow") from None
    try:
        content = base64.b64decode(block.data, validate=False)
    except (binascii.Error, ValueError):
        raise ValueError("its data are not base64") from None
    if not is_raster(content):
        raise ValueError("it is not PNG, JPEG, GIF, WebP or BMP")
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{error}"[:200]) from None
    return image
