"""What may be chosen about the rows of an export, as one value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from openreward_gym.errors import ConfigurationError


@dataclass(frozen=True)
class Options:
    """How rows are made.

    Attributes:
        compat: "json" writes `datasets.Json` columns (datasets >= 4.7); "string" writes plain structs with JSON strings,
            which any version, pandas and older trainers read.
        parallel_calls: Several calls in one assistant message: "keep", "split" them into call and result pairs, or
            "drop" the rollout. With a tokenizer, "keep" splits where its template cannot render them.
        malformed_calls: A call whose arguments are not a JSON object: "drop" the rollout, or "keep" the arguments as
            the text the model wrote (half of the chat templates raise on it). A rejected or negative completion keeps it
            where a tokenizer is given whose template renders it.
        control_tokens: Control tokens (`<|im_end|>` ...) in what tools and users said, which a tokenizer reads as the
            real thing: "flag" counts them in the report, "drop" drops the rollout, "escape" breaks them with a
            zero-width space.
        system: "keep" system messages, or "merge" them into the first user message (some templates refuse them).
        reasoning: Whether `reasoning_content` is written.
        columns: Further columns, by name: "reward", "final_reward", "environment", "task_id", "task_index", "split", "group",
            "model", "status", "stop_reason", "seed", "run", "labels"; from readers' labels and compared groups "rating",
            "advantage", "score", "discard_reason".
        answers: Whether task specs, golden answers and metadata go into `prompts` and `verl`, and a public push may
            have whole records.
        min_gap: preference: the least difference of rewards within a pair; ties never pair.
        max_pairs: preference: pairs a group at most; None is all of them.
        whole_trajectories: preference: everything after the divergence instead of the one assistant message.
        length_ratio: preference: pairs whose completions' lengths (characters) differ by more than this factor are left
            out; None takes all.
        good_reward: kto: the least reward of a `label` True; None takes the middle of the rewards there are.
        balance_labels: kto: thin out the more frequent label by chance until both are equally many.
        turns: prompt_completion, kto: a row for "all" of the assistant's turns, or for the "last" one; None is "all" for
            prompt_completion, "last" for kto.
        max_length: tokens: rows that are longer are left out; None takes all.
        seed: For every choice by chance.
    """

    compat: Literal["json", "string"] = "json"
    parallel_calls: Literal["keep", "split", "drop"] = "keep"
    malformed_calls: Literal["drop", "keep"] = "drop"
    control_tokens: Literal["flag", "drop", "escape"] = "flag"
    system: Literal["keep", "merge"] = "keep"
    reasoning: bool = True
    columns: tuple[str, ...] = ()
    answers: bool = False
    min_gap: float = 0.0
    max_pairs: int | None = 4
    whole_trajectories: bool = False
    length_ratio: float | None = None
    good_reward: float | None = None
    balance_labels: bool = True
    turns: Literal["all", "last"] | None = None
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        for name, hint in get_type_hints(type(self)).items():
            allowed = [value for part in (hint, *get_args(hint)) for value in get_args(part) if isinstance(value, str)]
            value = getattr(self, name)
            if allowed and value not in allowed and value is not None:
                raise ConfigurationError(f"{name}={value!r}: it is one of {', '.join(map(repr, allowed))}")
        unknown = sorted(set(self.columns) - set(COLUMNS))
        if unknown:
            raise ConfigurationError(f"no such column: {', '.join(unknown)} (there are {', '.join(sorted(COLUMNS))})")


def options_of(given: dict[str, Any]) -> Options:
    """Options from keywords.

    Raises:
        ConfigurationError: There is no such option, or a value is not one of its values.
    """
    known = {field.name for field in fields(Options)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigurationError(f"no such option: {', '.join(unknown)} (there are {', '.join(sorted(known))})")
    return Options(**given)


COLUMNS: dict[str, str] = {
    "reward": "float",
    "final_reward": "float",
    "environment": "text",
    "split": "text",
    "task_id": "text",
    "task_index": "int",
    "group": "text",
    "model": "text",
    "status": "text",
    "stop_reason": "text",
    "seed": "int",
    "run": "text",
    "labels": "texts",
    "rating": "int",
    "advantage": "float",
    "score": "float",
    "discard_reason": "text",
}
"""The further columns there are, and their kinds (see `openreward_gym.export.tables`)."""
