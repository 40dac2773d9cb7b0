"""The formats of an export, one class each: which rollouts it is for, its columns, and how its rows are made."""

from __future__ import annotations

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.formats.archive import Rollouts
from openreward_gym.export.formats.atif import Atif
from openreward_gym.export.formats.base import Context, Format, ImageFiles, LeftOut
from openreward_gym.export.formats.chat import PromptCompletion, Prompts, Sft
from openreward_gym.export.formats.compare import Kto, Preference
from openreward_gym.export.formats.nemo import NemoGym
from openreward_gym.export.formats.tokens import Tokens
from openreward_gym.export.formats.trainers import Axolotl, OpenAi, ShareGpt, Verl

__all__ = ["FORMATS", "Context", "Format", "ImageFiles", "LeftOut", "format_of"]

_ALL: tuple[type[Format], ...] = (
    Sft,
    PromptCompletion,
    Preference,
    Kto,
    Prompts,
    Tokens,
    OpenAi,
    ShareGpt,
    Axolotl,
    Verl,
    NemoGym,
    Atif,
    Rollouts,
)
FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in _ALL}
"""The formats by name."""


def format_of(name: str) -> type[Format]:
    """The format of that name.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in FORMATS:
        raise ConfigurationError(f"no format {name!r}: there are {', '.join(FORMATS)}")
    return FORMATS[name]
