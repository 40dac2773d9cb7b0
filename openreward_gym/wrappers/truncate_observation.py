"""Observations that fit, and say what they leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium

from openreward_gym.envs.env import Observation, StepResult
from openreward_gym.envs.observations import Info
from openreward_gym.envs.spaces import UnicodeText
from openreward_gym.errors import ConfigurationError
from openreward_gym.wrappers.base import Wrapper
from openreward_gym.wrappers.tokens import count_tokens, load_tokenizer, name_of

KEEP = ("both", "head", "tail")


class TruncateObservation(Wrapper):
    """Cuts long texts in observations; a marker where something was cut says how much.

    What is cut stays in `info["blocks"]` and in the record. A text observation is cut as a whole; of blocks each text
    block, of messages each message that is not the assistant's.

    Args:
        env: An OpenReward environment, wrapped or not.
        max_chars: The longest text, in characters, the marker included; None where `max_tokens` is given.
        max_tokens: The same in tokens of `tokenizer`.
        tokenizer: The name or path of a `transformers` tokenizer, or one.
        keep: "head", "tail", or "both", which cuts the middle.

    Raises:
        ConfigurationError: An argument cannot be, or `env` is no OpenReward environment.
    """

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
            raise ConfigurationError("give either max_chars, or max_tokens and a tokenizer")
        if (max_tokens is None) != (tokenizer is None):
            raise ConfigurationError("max_tokens and tokenizer go together: whose tokens are they?")
        for name, value in (("max_chars", max_chars), ("max_tokens", max_tokens)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"{name} must be a whole number above 0, not {value!r}")
        if keep not in KEEP:
            raise ConfigurationError(f"keep must be one of {', '.join(KEEP)}, not {keep!r}")
        super().__init__(env, max_chars=max_chars, max_tokens=max_tokens, tokenizer=name_of(tokenizer), keep=keep)
        self.max_chars = max_chars
        self.max_tokens = max_tokens
        self.keep = keep
        self._tokenizer: Any = None if tokenizer is None else load_tokenizer(tokenizer)
        if max_chars is not None and isinstance(env.observation_space, UnicodeText):
            self.observation_space = UnicodeText(max_chars)

    def on_reset(self, observation: Observation, info: Info) -> tuple[Observation, Info]:
        observation, cut = self._cut(observation)
        return observation, _with_cut(info, cut)

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        observation, reward, terminated, truncated, info = result
        observation, cut = self._cut(observation)
        return observation, reward, terminated, truncated, _with_cut(info, cut)

    def cut_text(self, text: str) -> tuple[str, int]:
        """(text that fits, how many characters of it were cut)."""
        if self.max_tokens is not None:
            return self._cut_to_tokens(text, self.max_tokens)
        assert self.max_chars is not None
        if len(text) <= self.max_chars:
            return text, 0
        # The marker's own number has as many digits as it may need.
        room = max(self.max_chars - len(_marker(f"{len(text)} characters")), 0)
        head, tail = self._share(room)
        cut = len(text) - head - tail
        marker = _marker(f"{cut} characters")
        if len(marker) > self.max_chars:
            # No room to say it here: `info["obs_truncated_chars"]` does.
            return (text[-self.max_chars :] if self.keep == "tail" else text[: self.max_chars]), len(text) - self.max_chars
        return text[:head] + marker + text[len(text) - tail :], cut

    def _share(self, room: int) -> tuple[int, int]:
        """How much of `room` the head and the tail get."""
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
                # No room to say it here: `info["obs_truncated_chars"]` does.
                fits = "".join(self._ends(text, 0, most) if self.keep == "tail" else self._ends(text, most, 0))
                return fits, len(text) - len(fits)
            room = max(room - 1 - room // 20, 0)  # joined with the marker they can have more tokens than apart

    def _ends(self, text: str, head: int, tail: int) -> tuple[str, str]:
        """The first `head` and the last `tail` tokens of `text`, cut where tokens part and never within a character."""
        if getattr(self._tokenizer, "is_fast", False):
            spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            last, first = head, len(spans) - tail
            # A character can be several tokens, which all have its place.
            while last and spans[last - 1][1] > spans[last][0]:
                last -= 1
            while first < len(spans) and spans[first - 1][1] > spans[first][0]:
                first += 1
            return text[: spans[last - 1][1]] if last else "", text[spans[first][0] :] if first < len(spans) else ""
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return self._tokenizer.decode(ids[:head]), self._tokenizer.decode(ids[len(ids) - tail :])

    def _cut(self, observation: Observation) -> tuple[Observation, int]:
        if isinstance(observation, str):
            return self.cut_text(observation)
        cut = 0
        elements = []
        for element in observation:
            element, of_element = self._cut_element(element)
            elements.append(element)
            cut += of_element
        return tuple(elements), cut

    def _cut_element(self, element: Any) -> tuple[Any, int]:
        """A block, or a message with text or blocks in it, copied where it is cut."""
        if not isinstance(element, Mapping) or element.get("role") == "assistant":
            return element, 0
        key = "text" if isinstance(element.get("text"), str) else "content"
        value = element.get(key)
        if isinstance(value, str):
            value, cut = self.cut_text(value)
        elif isinstance(value, list | tuple):
            parts = [self._cut_element(part) for part in value]
            value, cut = type(value)(part for part, _ in parts), sum(cut for _, cut in parts)
        else:
            return element, 0
        return ({**element, key: value}, cut) if cut else (element, 0)


def _marker(what: str) -> str:
    return f"\n[... {what} cut ...]\n"


def _with_cut(info: Info, cut: int) -> Info:
    return {**info, "obs_truncated_chars": int(info.get("obs_truncated_chars", 0)) + cut} if cut else info
