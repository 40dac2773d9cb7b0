"""Truncation of long observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium

from openreward_gym.suggestions import suggests_options
from openreward_gym.envs.typed_dicts import InfoDict
from openreward_gym.envs.spaces import UnicodeText
from openreward_gym.errors import ConfigurationError
from openreward_gym.chat.lossless import BESIDE
from openreward_gym.checks import integer
from openreward_gym.wrappers.base import Observation, StepResult, Wrapper
from openreward_gym.wrappers.tokens import count_tokens, load_tokenizer, name_of

KEEP = ("both", "head", "tail")


class TruncateObservation(Wrapper):
    """Cut long texts in observations, and put a marker with the cut length in their place.

    `info["blocks"]` and the record keep the complete text. The limit applies to a text observation, to each text block of a
    tuple of blocks, and to each message that is not the assistant's.

    Args:
        env: An OpenReward environment, wrapped or not.
        max_chars: Greatest length in characters, with the marker. None if `max_tokens` is the limit.
        max_tokens: Greatest length in tokens of `tokenizer`, likewise.
        tokenizer: A `transformers` tokenizer, its name or its path.
        keep: Part to keep: "head", "tail", or "both", which cuts the middle.

    Raises:
        ConfigurationError: An argument is wrong, or `env` is not an OpenReward environment.

    Example:
        >>> from openreward_gym.envs import OpenRewardEnv
        >>> env = TruncateObservation(OpenRewardEnv("weather"), max_chars=50, keep="tail")
        >>> env.cut_text("x" * 100)
        ('\\n[... 80 characters cut ...]\\nxxxxxxxxxxxxxxxxxxxx', 80)
    """

    @suggests_options
    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        max_chars: int | None = None,
        max_tokens: int | None = None,
        tokenizer: Any = None,
        keep: Literal["both", "head", "tail"] = "both",
    ) -> None:
        if (max_chars is None) == (max_tokens is None):
            raise ConfigurationError("TruncateObservation takes either max_chars, or max_tokens and a tokenizer")
        if (max_tokens is None) != (tokenizer is None):
            raise ConfigurationError("max_tokens and tokenizer go together: pass both")
        integer(1, optional=True)("max_chars", max_chars)
        integer(1, optional=True)("max_tokens", max_tokens)
        if keep not in KEEP:
            raise ConfigurationError(f"keep must be one of {', '.join(KEEP)}, not {keep!r}")
        super().__init__(env, max_chars=max_chars, max_tokens=max_tokens, tokenizer=name_of(tokenizer), keep=keep)
        self.max_chars = max_chars
        self.max_tokens = max_tokens
        self.keep = keep
        self._tokenizer: Any = None if tokenizer is None else load_tokenizer(tokenizer)
        if max_chars is not None and isinstance(env.observation_space, UnicodeText):
            self.observation_space = UnicodeText(max_chars)

    def on_reset(self, observation: Observation, info: InfoDict) -> tuple[Observation, InfoDict]:
        observation, cut = self._cut(observation)
        return observation, _with_cut(info, cut)

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        observation, reward, terminated, truncated, info = result
        observation, cut = self._cut(observation)
        return observation, reward, terminated, truncated, _with_cut(info, cut)

    def cut_text(self, text: str) -> tuple[str, int]:
        """Return the text within the limit, and the number of characters that were cut."""
        if self.max_tokens is not None:
            return self._cut_to_tokens(text, self.max_tokens)
        assert self.max_chars is not None
        if len(text) <= self.max_chars:
            return text, 0
        # Reserve a marker whose number has as many digits as it may need.
        room = max(self.max_chars - len(_marker(f"{len(text)} characters")), 0)
        head, tail = self._share(room)
        cut = len(text) - head - tail
        marker = _marker(f"{cut} characters")
        if len(marker) > self.max_chars:
            # The marker does not fit, but `info["obs_truncated_chars"]` has the number.
            return (text[-self.max_chars :] if self.keep == "tail" else text[: self.max_chars]), len(text) - self.max_chars
        return text[:head] + marker + text[len(text) - tail :], cut

    def _share(self, room: int) -> tuple[int, int]:
        """Split `room` between the head and the tail."""
        if self.keep == "both":
            return room - room // 3, room // 3
        return (room, 0) if self.keep == "head" else (0, room)

    def _cut_to_tokens(self, text: str, most: int) -> tuple[str, int]:
        total = count_tokens(self._tokenizer, text)
        if total <= most:
            return text, 0
        room = max(most - count_tokens(self._tokenizer, _marker(f"{total} tokens")), 0)
        while True:
            head, tail = self._share(room)
            start, end = self._ends(text, head, tail)
            cut = start + _marker(f"{total - head - tail} tokens") + end
            if count_tokens(self._tokenizer, cut) <= most:
                return cut, len(text) - len(start) - len(end)
            if room == 0:
                fits = "".join(self._ends(text, 0, most) if self.keep == "tail" else self._ends(text, most, 0))
                return fits, len(text) - len(fits)
            room = max(room - 1 - room // 20, 0)  # head, marker and tail can have more tokens together than apart

    def _ends(self, text: str, head: int, tail: int) -> tuple[str, str]:
        """Return the first `head` and the last `tail` tokens of `text`, never cut within a character."""
        if getattr(self._tokenizer, "is_fast", False):
            spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            last, first = head, len(spans) - tail
            # A character can have several tokens, all with the same offsets.
            while last and spans[last - 1][1] > spans[last][0]:
                last -= 1
            while first < len(spans) and spans[first - 1][1] > spans[first][0]:
                first += 1
            return text[: spans[last - 1][1]] if last else "", text[spans[first][0] :] if first < len(spans) else ""
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return self._tokenizer.decode(ids[:head]), self._tokenizer.decode(ids[len(ids) - tail :])

    def _cut(self, content: Any) -> tuple[Any, int]:
        """Cut a text, or the elements of a list or tuple."""
        if isinstance(content, str):
            return self.cut_text(content)
        parts = [self._cut_element(element) for element in content]
        elements = [element for element, _ in parts]
        return elements if isinstance(content, list) else tuple(elements), sum(cut for _, cut in parts)

    def _cut_element(self, element: Any) -> tuple[Any, int]:
        """Cut a block, or a message with text or blocks. It is copied if it changes."""
        key = "text" if isinstance(element, Mapping) and isinstance(element.get("text"), str) else "content"
        if not isinstance(element, Mapping) or (key == "content" and element.get("role") == "assistant"):
            return element, 0
        value = element.get(key)
        if not isinstance(value, str | list | tuple):
            return element, 0
        value, cut = self._cut(value)
        # What a message keeps beside its format would have the complete text.
        rest = {name: item for name, item in element.items() if name != BESIDE}
        return ({**rest, key: value}, cut) if cut else (element, 0)


def _marker(length: str) -> str:
    return f"\n[... {length} cut ...]\n"


def _with_cut(info: InfoDict, cut: int) -> InfoDict:
    return {**info, "obs_truncated_chars": int(info.get("obs_truncated_chars", 0)) + cut} if cut else info
