"""What is learnt of a chat template by rendering short conversations with it: once for all episodes of a source."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from openreward_gym import jsonio
from openreward_gym.chat.history import NINE_CHARACTERS, TEMPLATE_RULES, HistoryRules
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.template import ChatTemplate
from openreward_gym.integrations.extension import TemplateExtender
from openreward_gym.types import Json

_MOST_TEMPLATES = 8


class TokenTemplate:
    """A chat template, and how its turns end.

    Args:
        template: The template.

    Example:
        >>> TokenTemplate(ChatTemplate.of("Qwen/Qwen3-0.6B")).end_token_ids  # doctest: +SKIP
        frozenset({151645})
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self.extender = TemplateExtender(template)
        ends = template.tokenizer.convert_tokens_to_ids(sorted(self.extender.end_marks))
        self.end_token_ids: frozenset[int] = frozenset(ends)
        self.vocab_size: int = len(template.tokenizer)
        self.rules: HistoryRules = NINE_CHARACTERS if template.nine_letter_ids else TEMPLATE_RULES
        owners, names = (template.processor, template.tokenizer), ("image_token", "video_token", "audio_token")
        found = {getattr(owner, name, None) for owner in owners for name in names}
        self.placeholders = tuple(sorted(str(token) for token in found if token))
        """The tokens that stand for images, videos and sounds."""

    def without_placeholders(self, value: Any) -> Any:
        """Return JSON in whose texts no placeholder stands: a blank follows its first character.

        A placeholder in a text is a word of the environment or the model. Read as a token, it would stand for an image that is
        not there.
        """
        if not self.placeholders:
            return value
        if isinstance(value, str):
            for token in self.placeholders:
                value = value.replace(token, f"{token[:1]} {token[1:]}")
            return value
        if isinstance(value, Mapping):
            return {name: self.without_placeholders(item) for name, item in value.items()}
        return [self.without_placeholders(item) for item in value] if isinstance(value, list) else value


_TEMPLATES: weakref.WeakKeyDictionary[Any, OrderedDict[Any, tuple[Any, TokenTemplate]]] = weakref.WeakKeyDictionary()


def token_template(owner: Any, tokenizer: Any, processor: Any, options: Mapping[str, Json]) -> TokenTemplate:
    """Return the template of a tokenizer or processor. The same one as before, unless the tokenizer was changed since.

    Args:
        owner: The source of episodes, which keeps the template as long as it lives.
        tokenizer: A tokenizer or processor, its name or folder.
        processor: A processor, its name or folder. None takes `tokenizer`.
        options: Options of the chat template.

    Raises:
        ConfigurationError: It cannot be loaded, or has no chat template.
    """
    given = tokenizer if processor is None else processor
    named = isinstance(given, (str, os.PathLike))
    which = (os.fspath(given), processor is None) if named else (id(given), _state(given))
    known, key = _TEMPLATES.setdefault(owner, OrderedDict()), (which, jsonio.dumps(dict(options)))
    if key in known and (named or known[key][0] is given):
        known.move_to_end(key)
        return known[key][1]
    loaded = _load_processor(given) if named and processor is not None else given
    template = TokenTemplate(ChatTemplate.of(loaded).with_options(options))
    known[key] = (given, template)  # the object stays alive with its id
    if len(known) > _MOST_TEMPLATES:
        known.popitem(last=False)
    return template


def _state(given: Any) -> tuple[Any, ...]:
    """Return what of a tokenizer a program may change: its template, its tokens, its end token."""
    if isinstance(given, ChatTemplate):
        return ()
    tokenizer = getattr(given, "tokenizer", given)
    templates = [repr(getattr(one, "chat_template", None)) for one in (given, tokenizer)]
    size = len(tokenizer) if hasattr(tokenizer, "__len__") else 0
    return (*templates, size, str(getattr(tokenizer, "eos_token", None)))


def _load_processor(name: str | os.PathLike[str]) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(os.fspath(name))
    except Exception as error:  # of the files, the Hub or the network
        raise ConfigurationError(f"the processor {os.fspath(name)!r} cannot be loaded: {error}") from error
