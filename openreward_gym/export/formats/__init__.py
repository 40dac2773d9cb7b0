"""The formats of an export, one class each; further ones come from other distributions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from openreward_gym import plugins
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.formats.archive import Archive
from openreward_gym.export.formats.atif import Atif
from openreward_gym.export.formats.base import Context, Format, ImageFiles, LeftOut, OnePerTask
from openreward_gym.export.formats.llama_factory import LlamaFactoryV1, ShareGpt, ShareGptKto, ShareGptPreference
from openreward_gym.export.formats.openai import OpenAi, OpenAiDpo
from openreward_gym.export.formats.tokens import Tokens
from openreward_gym.export.formats.trainers import Axolotl, NemoGym, Verl, VerlSft
from openreward_gym.export.formats.trl import Kto, Preference, PromptCompletion, Prompts, Sft
from openreward_gym.suggestions import did_you_mean

__all__ = ["FORMATS", "Context", "Format", "FormatName", "ImageFiles", "LeftOut", "OnePerTask", "format_names", "format_of"]

PLUGINS = "openreward_gym.exporters"
"""The entry point group of formats in other distributions."""

FormatName: TypeAlias = Literal[
    "sft",
    "prompt_completion",
    "preference",
    "kto",
    "prompts",
    "tokens",
    "openai",
    "openai_dpo",
    "sharegpt",
    "sharegpt_preference",
    "sharegpt_kto",
    "llama_factory_v1",
    "axolotl",
    "verl",
    "verl_sft",
    "nemo_gym",
    "atif",
    "rollouts",
]

_TRL: tuple[type[Format], ...] = (Sft, PromptCompletion, Preference, Kto, Prompts)
_OPENAI: tuple[type[Format], ...] = (OpenAi, OpenAiDpo)
_LLAMA_FACTORY: tuple[type[Format], ...] = (ShareGpt, ShareGptPreference, ShareGptKto, LlamaFactoryV1)
_OTHERS: tuple[type[Format], ...] = (Axolotl, Verl, VerlSft, NemoGym, Atif, Archive)
_ALL: tuple[type[Format], ...] = (*_TRL, Tokens, *_OPENAI, *_LLAMA_FACTORY, *_OTHERS)
FORMATS: Mapping[str, type[Format]] = MappingProxyType({kind.name: kind for kind in _ALL})
"""The formats of this package by name."""


def format_names() -> tuple[str, ...]:
    """Return the names of all formats: those of this package, then those of other installed distributions.

    >>> format_names()[:3]
    ('sft', 'prompt_completion', 'preference')
    """
    return (*FORMATS, *(name for name in plugins.names(PLUGINS) if name not in FORMATS))


def format_of(name: FormatName | str | type[Format]) -> type[Format]:
    """Return the format of a name; a format's class is returned as it is.

    >>> format_of("kto").file
    'parquet'

    Raises:
        ConfigurationError: The name is unknown, or the format cannot be imported, or it is not a complete subclass of `Format`.
    """
    kind: object = name
    if isinstance(name, str):
        kind = FORMATS.get(name) or plugins.find(PLUGINS, name)
        if kind is None:
            raise ConfigurationError(f"there is no format {name!r}: {did_you_mean(name, format_names(), 'formats')}")
    if not isinstance(kind, type) or not issubclass(kind, Format):
        raise ConfigurationError(f"{kind!r} is not a subclass of openreward_gym.export.Format")
    for attribute in ("name", "about"):
        if not isinstance(getattr(kind, attribute, None), str):
            raise ConfigurationError(f"the format {kind.__name__} has no {attribute}: set the class attribute to a string")
    return kind
