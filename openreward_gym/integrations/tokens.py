"""Episodes as token ids, for trainers that sample themselves: exact prompts, masks, log-probabilities, segments."""

from __future__ import annotations

import contextlib
import io
import operator
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Unpack

from openreward_gym.chat.templates import template_messages
from openreward_gym.errors import ConfigurationError, MessageError, MissingExtraError, ResetNeededError
from openreward_gym.export.options import RESERVED_TEMPLATE_OPTIONS
from openreward_gym.export.template import Tokenizer
from openreward_gym.integrations.episode import Answer, Episode, EpisodeOptions, Episodes, TaskLike
from openreward_gym.integrations.token_history import ON_REWRITE, OnRewrite, Segment, TokenHistory
from openreward_gym.integrations.token_template import token_template
from openreward_gym.types import Ended, ImageBlock, Json, Message, Sampled, ToolResult, Usage

__all__ = ["OnRewrite", "Segment", "TokenEpisode"]


class TokenEpisode(Episode):
    """An episode whose turns are sampled token ids. What was sampled is never rendered or tokenized again.

    The ids of the next prompt are those of the last prompt, the sampled ids, and the ids of what the chat template writes after
    the turn: the marks of its end that the sampler did not write, the new messages, and the generation prompt.

    Args:
        environment: Name of the environment, or a source of episodes.
        tokenizer: The model's tokenizer, with a chat template: a name, a folder, a transformers tokenizer or processor.
        on_rewrite: What happens where the template rewrites the history, as Qwen3's does with reasoning before a new user
            message. "segment" begins a new segment with the template's own rendering, "extend" keeps the sampled ids all the
            same, "error" raises TokenHistoryError.
        chat_template_kwargs: Options of the chat template (`{"enable_thinking": False}`). They are recorded with the sampling
            parameters, and exports render the rollouts with them.
        processor: The processor of a vision model: its object, name or folder. None takes `tokenizer`, which may be one.
        end_token_ids: Ids that end a turn, beside the tokenizer's end token and what the template writes at the end of a turn.
        vocab_size: Number of ids that the model can sample, where that is more than the tokenizer has. None takes the
            tokenizer's.
        **options: The options of `Episodes`, where `environment` is a name.

    Raises:
        ConfigurationError: The tokenizer cannot be loaded or has no chat template, or an option is wrong.

    Example:
        >>> async def play(episode, sample):
        ...     await episode.begin(0)
        ...     while not episode.done:
        ...         output = await sample(episode.prompt_ids)
        ...         await episode.act_tokens(output.token_ids, output.logprobs)
        ...     return episode.segments, episode.reward
        >>> episode = TokenEpisode("weather", tokenizer="Qwen/Qwen3-0.6B", base_url="http://127.0.0.1:8080")  # doctest: +SKIP
    """

    def __init__(
        self,
        environment: str | type[Any] | Episodes,
        *,
        tokenizer: Tokenizer,
        on_rewrite: OnRewrite = "segment",
        chat_template_kwargs: Mapping[str, Json] | None = None,
        processor: Any = None,
        end_token_ids: Iterable[int] = (),
        vocab_size: int | None = None,
        **options: Unpack[EpisodeOptions],
    ) -> None:
        if on_rewrite not in ON_REWRITE:
            raise ConfigurationError(f"on_rewrite must be one of {', '.join(ON_REWRITE)}, not {on_rewrite!r}")
        self._arguments: dict[str, Any] = {
            "tokenizer": tokenizer,
            "on_rewrite": on_rewrite,
            "chat_template_kwargs": _template_options(chat_template_kwargs),
            "processor": processor,
            "end_token_ids": _integers("end_token_ids", end_token_ids),
            "vocab_size": vocab_size,
        }
        self._history: TokenHistory | None = None
        super().__init__(environment, **options)
        self._read_arguments()

    def _read_arguments(self) -> None:
        given = self._arguments
        read = token_template(self.source, given["tokenizer"], given["processor"], given["chat_template_kwargs"])
        self.template, self.extender, self._read_template = read.template, read.extender, read
        self.on_rewrite: OnRewrite = given["on_rewrite"]
        self.end_token_ids = read.end_token_ids | {*given["end_token_ids"]}
        """The ids that end a turn."""
        self.vocab_size: int = given["vocab_size"] or read.vocab_size

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "arguments": self._arguments}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        self._arguments = state["arguments"]
        self._history = None
        self._read_arguments()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.template.tokenizer

    async def begin(self, task: TaskLike | None = None, **fields: Any) -> None:
        """Open a session on a task, and render its prompt. The arguments are those of `Episode.begin`.

        Raises:
            TokenHistoryError: The chat template refuses the prompt. The episode is ended.
            ConfigurationError: The prompt has an image, and there is no processor for it. The episode is ended.
            ConfigurationError, TransportError, ServerError, ...: As `Episode.begin`.
        """
        self._history = None
        await super().begin(task, **fields)
        prompt = self.transcript
        async with _ending(self, "template_failed"):
            self._history = TokenHistory(
                self.extender,
                self._for_template(prompt),
                self.tools or None,
                on_rewrite=self.on_rewrite,
                images=self._images_of(prompt),
            )

    def _further_fields(self) -> dict[str, Any]:
        if not self.template.options:
            return {}
        return {"sampling": {**(self.source.record["sampling"] or {}), "chat_template_kwargs": self.template.options}}

    async def act_tokens(
        self, token_ids: Iterable[int], logprobs: Iterable[float] | None = None, *, ended: Ended | None = None
    ) -> Answer:
        """Play a sampled turn.

        Args:
            token_ids: The sampled ids, the end token included if the sampler wrote one.
            logprobs: Their log-probabilities. None if the sampler gave none.
            ended: How the sampling ended. None is "stop" if the last id ends a turn (`end_token_ids`), else "length": without
                an end token the turn was cut off, and nothing of it is run.

        Returns:
            The answer, as that of `Episode.act`.

        Raises:
            ResetNeededError: The episode has not begun, or is over.
            ConfigurationError: The ids are empty or not in the vocabulary, or `logprobs` has another length.
            TokenHistoryError: The template refuses the conversation; or it rewrites the history and `on_rewrite` is "error". The
                episode is ended.
        """
        history = self._history
        if history is None or self.done:
            state = f"the episode ended ({self.stop_reason})" if self.done else "begin()"
            raise ResetNeededError(
                f"act_tokens() was called {'after' if self.done else 'before'} {state}: begin an episode first"
            )
        ids = self._checked_ids(token_ids)
        known = _checked_logprobs(logprobs, len(ids))
        if ended is None:
            ended = "stop" if ids[-1] in self.end_token_ids else "length"
        text = self._text_of(ids)
        metadata: dict[str, Json] = {"segment": history.segment}
        if history.prompt_drift is not None:
            metadata["drift"] = history.prompt_drift
        sampled = Sampled(
            usage=Usage(len(history.prompt_ids), len(ids)),
            stop_reason=ended,
            token_ids=tuple(ids),
            logprobs=known,
            prompt_token_ids=tuple(history.prompt_ids),
            metadata=metadata,
        )
        before = len(self.transcript)
        answer = await self.act(self._read(ids, text), sampled=sampled, ended=ended)
        history.add_turn(ids, known)
        if not self.done:
            new = self.transcript[before + 1 :]
            shown = self._read_template.without_placeholders(text)
            async with _ending(self, "template_failed"):
                messages = self._for_template(self.transcript)[len(history.messages) :]
                history.extend(messages[0], messages[1:], raw_text=shown, images=self._images_of(new))
        return answer

    def _checked_ids(self, token_ids: Iterable[int]) -> list[int]:
        ids = _integers("token_ids", token_ids)
        if not ids:
            raise ConfigurationError("token_ids is empty: a sampled turn has at least one token, its end token")
        wrong = next((token for token in ids if not 0 <= token < self.vocab_size), None)
        if wrong is not None:
            raise ConfigurationError(
                f"token_ids: {wrong} is not in the vocabulary of {self.vocab_size} ids: pass the tokenizer of the model that "
                "sampled them, or vocab_size= if the model has more ids than the tokenizer"
            )
        return ids

    def _text_of(self, ids: Sequence[int]) -> str:
        """Return the sampled text without the token that ends it."""
        return self.template.decode(list(ids[:-1] if ids[-1] in self.end_token_ids else ids))

    def _read(self, ids: list[int], text: str) -> Any:
        """Return the message of sampled ids: as the tokenizer's own response template reads them, else their text."""
        if getattr(self.tokenizer, "response_template", None) is None:
            return text
        try:
            message = self.tokenizer.parse_response(ids, prefix=self.prompt_ids, tools=self.tools or None)
        except Exception:  # a parser raises errors of any type about a malformed answer, which is then a text
            return text
        if not isinstance(message, Mapping):
            return text
        return {**message, "role": "assistant", "content": message.get("content") or ""}

    def _for_template(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        try:
            shown = template_messages(messages, self._read_template.rules, images=True)
        except MessageError as error:
            raise ConfigurationError(f"{error}, which a chat template cannot show") from None
        return [self._read_template.without_placeholders(message) for message in shown]

    def _images_of(self, messages: Sequence[Message]) -> list[Any]:
        blocks = [block for message in messages for outer in message.blocks for block in _inner(outer)]
        return [_open_image(block.content) for block in blocks if isinstance(block, ImageBlock)]

    @property
    def prompt_ids(self) -> list[int]:
        """The ids to sample the next turn from. After the end, all ids of the last segment. Empty before `begin`."""
        return [] if self._history is None else self._history.prompt_ids

    @property
    def images(self) -> tuple[Any, ...]:
        """The images of the present prompt as PIL images, in the order of their placeholders."""
        return () if self._history is None else self._history.images

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The sequences to train on: one, or more where the template rewrote the history."""
        return () if self._history is None else self._history.segments

    @property
    def drift(self) -> int:
        """Number of prompt ids that rendering the whole conversation again would have changed, so far.

        It is the sum over the segments of the edit distance between the ids that were sampled from and those of the template.
        """
        return 0 if self._history is None else self._history.drift


@contextlib.asynccontextmanager
async def _ending(episode: Episode, stop_reason: str) -> AsyncIterator[None]:
    """End the episode if a chat template or a processor fails on its conversation."""
    try:
        yield
    except ConfigurationError:
        await episode.end(stop_reason)
        raise


def _inner(block: Any) -> Sequence[Any]:
    return block.blocks if isinstance(block, ToolResult) else (block,)


def _open_image(content: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("images of a token-level episode need Pillow: pip install 'openreward-gym[render]'") from None
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"an image of the environment cannot be read: {error}") from error


def _template_options(value: Any) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f'chat_template_kwargs must be an object such as {{"enable_thinking": False}}, not {value!r}')
    if reserved := sorted(RESERVED_TEMPLATE_OPTIONS & value.keys()):
        raise ConfigurationError(f"chat_template_kwargs: {', '.join(reserved)} is not an option of a template")
    return dict(value)


def _integers(name: str, values: Iterable[Any]) -> list[int]:
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        raise ConfigurationError(f"{name} must be a list of integers, not {values!r:.200}") from None


def _checked_logprobs(logprobs: Iterable[float] | None, length: int) -> tuple[float, ...] | None:
    if logprobs is None:
        return None
    try:
        values = tuple(map(float, logprobs))
    except (TypeError, ValueError):
        raise ConfigurationError(f"logprobs must be a list of numbers, not {logprobs!r:.200}") from None
    if len(values) != length:
        raise ConfigurationError(f"logprobs has {len(values)} numbers for {length} token ids: pass one per id, or None")
    return values
