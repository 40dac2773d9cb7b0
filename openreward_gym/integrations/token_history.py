"""A conversation as token ids: what was sampled stays as it was sampled, and the template's text for the rest is added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from openreward_gym.errors import ConfigurationError, TokenHistoryError
from openreward_gym.export.conversation import ChatMessage
from openreward_gym.export.template import ChatTemplate, refusal_reason
from openreward_gym.integrations.distance import edit_distance
from openreward_gym.integrations.extension import TemplateExtender, control_ids, extension_ids
from openreward_gym.types import Json

OnRewrite: TypeAlias = Literal["segment", "extend", "error"]
"""What happens where the template rewrites the history: a new segment begins with the template's own rendering, the sampled
tokens are extended all the same, or TokenHistoryError is raised."""

ON_REWRITE: tuple[OnRewrite, ...] = ("segment", "extend", "error")


@dataclass(frozen=True, slots=True)
class Segment:
    """A sequence of token ids to train on: a prompt, and the turns that were sampled after it with what came between them.

    Attributes:
        prompt_ids: The ids that the first turn was sampled from.
        response_ids: The ids after them, up to the end of the last sampled turn.
        mask: One number per id of `response_ids`: 1 where it was sampled, 0 where the template or the environment wrote it.
        logprobs: One number per id of `response_ids`: the sampler's log-probability, 0.0 where the mask is 0. None if a turn came
            without.
        images: The images of the segment, in the order of their placeholders.
        drift: The edit distance of these ids, extended to the next prompt, to the ids that the template writes for the same
            conversation. It was measured at the last prompt that followed a sampled turn of the segment; 0 if there was none.

    Example:
        >>> segment = Segment([1, 2], [3, 4, 9, 5], [1, 1, 0, 1], [-0.5, -0.1, 0.0, -0.2])
        >>> segment.ids, segment.sampled_ids
        ([1, 2, 3, 4, 9, 5], [3, 4, 5])
    """

    prompt_ids: list[int]
    response_ids: list[int]
    mask: list[int]
    logprobs: list[float] | None = None
    images: tuple[Any, ...] = ()
    drift: int = 0

    @property
    def ids(self) -> list[int]:
        """All ids of the segment."""
        return [*self.prompt_ids, *self.response_ids]

    @property
    def sampled_ids(self) -> list[int]:
        """The ids that were sampled."""
        return [token for token, sampled in zip(self.response_ids, self.mask, strict=True) if sampled]


@dataclass(slots=True)
class _OpenSegment:
    prompt: list[int]
    images: list[Any]
    response: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    has_logprobs: bool = True
    sampled_end: int = 0
    images_end: int = 0
    drift: int = 0

    def add(self, ids: Sequence[int], logprobs: Sequence[float] | None, *, sampled: bool) -> None:
        self.response.extend(ids)
        self.mask.extend([int(sampled)] * len(ids))
        self.logprobs.extend([0.0] * len(ids) if logprobs is None else logprobs)
        if sampled:
            self.has_logprobs &= logprobs is not None
            self.sampled_end, self.images_end = len(self.response), len(self.images)

    def closed(self) -> Segment:
        end = self.sampled_end
        logprobs = self.logprobs[:end] if self.has_logprobs else None
        images = tuple(self.images[: self.images_end])
        return Segment(list(self.prompt), self.response[:end], self.mask[:end], logprobs, images, self.drift)


class TokenHistory:
    """The token ids of one conversation, from its first prompt on.

    Args:
        extender: The template.
        messages: The messages of the prompt, as `chat.templates.template_messages` writes them.
        tools: The tools, in OpenAI's format.
        on_rewrite: What happens where the template rewrites the history.
        images: The images of the prompt, in order; only for a processor.

    Raises:
        TokenHistoryError: The template refuses the prompt.

    Example:
        >>> from openreward_gym.export.template import ChatTemplate  # doctest: +SKIP
        >>> extender = TemplateExtender(ChatTemplate.of("Qwen/Qwen3-0.6B"))  # doctest: +SKIP
        >>> history = TokenHistory(extender, [{"role": "user", "content": "Hi"}], None)  # doctest: +SKIP
        >>> history.add_turn([9707, 151645])  # doctest: +SKIP
        >>> turn = {"role": "assistant", "content": "Hello"}  # doctest: +SKIP
        >>> history.extend(turn, [{"role": "user", "content": "And?"}])  # doctest: +SKIP
        >>> history.drift  # doctest: +SKIP
        0
    """

    def __init__(
        self,
        extender: TemplateExtender,
        messages: Sequence[ChatMessage],
        tools: Json,
        *,
        on_rewrite: OnRewrite = "segment",
        images: Sequence[Any] = (),
    ) -> None:
        self.extender, self.tools, self.on_rewrite = extender, tools, on_rewrite
        self.messages = list(messages)
        try:
            self._text = extender.template.render(self.messages, tools, generation=True)
        except Exception as error:  # a template raises errors of any type
            reason = refusal_reason(error)
            raise TokenHistoryError(f"the chat template cannot show the prompt: {reason}", reason=reason) from error
        self._images = list(images)
        self._closed: list[Segment] = []
        self.rewrites: list[str] = []
        """For each segment after the first, how the template rewrote the history before it."""
        self._open = _OpenSegment(encode(extender.template, self._text, self._images), list(self._images))
        self._sampled: list[int] = []
        self.prompt_drift: int | None = 0
        """The drift of the present prompt; None if the template refuses a turn, so that nothing can be rendered again."""

    @property
    def prompt_ids(self) -> list[int]:
        """The ids to sample the next turn from."""
        return [*self._open.prompt, *self._open.response]

    @property
    def images(self) -> tuple[Any, ...]:
        """The images of the present prompt, in the order of their placeholders."""
        return tuple(self._open.images)

    @property
    def segment(self) -> int:
        """The number of the present segment, from 0."""
        return len(self._closed)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments so far; one without a sampled turn is left out."""
        return (*self._closed, self._open.closed()) if self._open.sampled_end else tuple(self._closed)

    @property
    def drift(self) -> int:
        """The sum of the segments' drifts: the number of prompt ids that rendering again would have changed."""
        return sum(segment.drift for segment in self._closed) + self._open.drift

    def add_turn(self, token_ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Append a sampled turn."""
        self._sampled = list(token_ids)
        self._open.add(token_ids, logprobs, sampled=True)

    def extend(
        self, turn: ChatMessage, new: Sequence[ChatMessage], *, raw_text: str | None = None, images: Sequence[Any] = ()
    ) -> None:
        """Append the messages that followed the sampled turn, so that `prompt_ids` is the next prompt.

        Args:
            turn: The turn, as it was read from the sampled ids.
            new: The messages after it.
            raw_text: The sampled text without its end. None decodes it.
            images: The images of the new messages, in order.

        Raises:
            TokenHistoryError: The template refuses the conversation; or it rewrites the history and `on_rewrite` is "error".
        """
        template = self.extender.template
        last = self._sampled[-1:]
        end = template.decode(last) if last and last[0] in control_ids(template) else ""
        if raw_text is None:
            raw_text = template.decode(self._sampled).removesuffix(end)
        following = self.extender.after(self.messages, turn, new, self.tools, raw_text=raw_text, end=end, before=self._text)
        added: list[int] | None = None
        if following.text is not None:
            added = self._encode_added(following.text, images)
        self.messages += [following.turn, *new]
        self._images += images
        self._text = following.rendered
        rendered = encode(template, self._text, self._images)
        ids = self.prompt_ids
        drift = edit_distance([*ids, *(added or ())], rendered) if following.is_whole else None
        self._open.drift = self._open.drift if drift is None else drift
        self.prompt_drift = drift
        if following.rewritten and (self.on_rewrite != "extend" or added is None):
            if self.on_rewrite == "error":
                raise TokenHistoryError(
                    f"the chat template rewrites what was sampled: {following.rewritten}. Take a template that keeps the "
                    'history, or on_rewrite="segment"',
                    reason=following.rewritten,
                )
            self.rewrites.append(following.rewritten)
            self._closed.append(self._open.closed())
            self._open = _OpenSegment(rendered, list(self._images))
            return
        assert added is not None
        self._open.images += images
        self._open.add(added, None, sampled=False)

    def _encode_added(self, text: str, images: Sequence[Any]) -> list[int]:
        template = self.extender.template
        if images:
            return extension_ids(template, self._sampled, text, lambda added: encode(template, added, images))
        return extension_ids(template, self._sampled, text)


def encode(template: ChatTemplate, text: str, images: Sequence[Any] = ()) -> list[int]:
    """Return the ids of a rendered text, with as many placeholders per image as the processor's model takes.

    Raises:
        ConfigurationError: There are images, and no processor that reads them; or the template shows another number of images.

    Example:
        >>> from openreward_gym.export.template import ChatTemplate  # doctest: +SKIP
        >>> encode(ChatTemplate.of("Qwen/Qwen3-0.6B"), "Hi")  # doctest: +SKIP
        [13048]
    """
    if not images:
        return template.encode([text])[0]
    if getattr(template.processor, "image_processor", None) is None:
        raise ConfigurationError(
            "a message has an image, and the tokenizer reads text only: pass processor=, the model's processor or its name"
        )
    mark = template.image_mark
    if not mark or text.count(mark) != len(images):
        shown = text.count(mark) if mark else 0
        raise ConfigurationError(
            f"the conversation has {len(images)} images, and the chat template shows {shown}: take a template that shows images"
        )
    try:
        output = template.processor(text=[text], images=list(images), add_special_tokens=False)
    except Exception as error:  # a processor raises errors of any type
        raise ConfigurationError(f"the processor cannot read the images: {error}") from error
    return [int(token) for token in output["input_ids"][0]]
