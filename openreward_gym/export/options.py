"""Options of an export: which rollouts it takes (`Select`) and how it makes rows of them (`ExportOptions`)."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from openreward_gym import jsonio
from openreward_gym.checks import Check, choice, flag, integer
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import Options, option
from openreward_gym.types import Ended, Json, Message, Rollout, Status

Compat: TypeAlias = Literal["json", "string"]
RewardKind: TypeAlias = Literal["sum", "last", "max", "score"]
Dedupe: TypeAlias = Literal["exact", "normalized", "near"]
Balance: TypeAlias = Literal["task", "environment", "reward"]
ParallelCalls: TypeAlias = Literal["keep", "split", "drop"]
MalformedCalls: TypeAlias = Literal["drop", "keep"]
ControlTokenHandling: TypeAlias = Literal["flag", "drop", "escape"]
SystemHandling: TypeAlias = Literal["keep", "merge"]
Turns: TypeAlias = Literal["all", "last"]
WeightRule: TypeAlias = Literal["skip_failed_calls"]
ScrubKind: TypeAlias = Literal["emails", "phones", "keys"]
Names: TypeAlias = str | Collection[str] | None
Texts: TypeAlias = str | os.PathLike[str] | Iterable[Any] | None
"""Texts, paths of files with texts, rows of a dataset, or several of them."""
Weights: TypeAlias = WeightRule | Callable[[Rollout, Message], float | None] | None
Scrub: TypeAlias = ScrubKind | Collection[ScrubKind] | Callable[[str], str] | None
SplitBy: TypeAlias = str | Collection[str] | Mapping[str, str] | None
Holdout: TypeAlias = float | str | Collection[str] | Mapping[str, float] | None

SPLIT_FIELDS = ("split", "environment", "model", "run", "label", "status", "stop_reason", "group")
"""Fields that `ExportOptions.split_by` may name."""

DEFAULT_ENDINGS = ("stop", "tool_calls")
"""The ends of turns that are trained by default: the model ended them itself."""

EXTRA_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("reward", "final_reward", "advantage", "score"), "float"),
    **dict.fromkeys(("environment", "split", "task_id", "group", "model", "status", "stop_reason", "run"), "text"),
    **dict.fromkeys(("task_index", "seed", "rating"), "int"),
    "labels": "texts",
    "discard_reason": "text",
    "step_rewards": "floats",
}
"""Columns that `ExportOptions.columns` may name, and their kinds (see `openreward_gym.export.tables`)."""

RESERVED_TEMPLATE_OPTIONS = frozenset(
    {
        *("conversation", "messages", "tools", "chat_template", "add_generation_prompt", "continue_final_message"),
        *("tokenize", "tokenizer_kwargs", "processor_kwargs", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask"),
    }
)
"""Arguments of `apply_chat_template` that are not options of a template."""


def _real(*, least: float = -math.inf, optional: bool = False) -> Check:
    """Return a check for a number other than NaN, of at least `least`."""

    def check(name: str, value: Any) -> Any:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value) or value < least:
            bound = "" if least == -math.inf else f" of at least {least:g}"
            raise ConfigurationError(f"{name} must be a number{bound}{' or None' if optional else ''}, not {value!r}")
        return value

    return check


def _names(name: str, value: Any) -> Names:
    """Check that a value is a string or a collection of strings, or is missing."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, Collection) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{name} must be a string, a list of strings or None, not {value!r}")
    return value


def _statuses(name: str, value: Any) -> Names:
    known = (*get_args(Status), "any")
    names = _names(name, value)
    unknown = {names} - set(known) if isinstance(names, str) else set(names or ()) - set(known)
    if unknown:
        raise ConfigurationError(f"{name} must be of {', '.join(known)}, not {value!r}")
    return names


def _license(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", value)):
        return value
    raise ConfigurationError(
        f'{name} must be the Hub\'s name of a license, such as "apache-2.0" or "other" or None, not {value!r}'
    )


def _steps(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ConfigurationError(f"{name} must be (first, last), where None leaves an end open, or None; not {value!r}")
    check = integer(optional=True)
    return check(name, value[0]), check(name, value[1])


def _function(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} must be a function of a Rollout or None, not {value!r}")
    return value


def _columns(name: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value or ())
    unknown = sorted(set(names) - set(EXTRA_COLUMNS))
    if unknown:
        raise ConfigurationError(f"{name}: there is no column {', '.join(unknown)}; there are {', '.join(sorted(EXTRA_COLUMNS))}")
    return names


def _endings(name: str, value: Any) -> tuple[str, ...]:
    known = get_args(Ended)
    names = (value,) if isinstance(value, str) else tuple(value or ())
    if "any" in names:
        return known
    if not names or not set(names) <= set(known):
        raise ConfigurationError(f"{name} must name ends of turns, of {', '.join(known)} or any; not {value!r}")
    return names


def _texts(name: str, value: Any) -> Texts:
    if value is not None and not isinstance(value, (str, os.PathLike, Iterable)):
        raise ConfigurationError(f"{name} must be texts, paths of files, rows of a dataset or None, not {value!r}")
    return value


def _weights(name: str, value: Any) -> Weights:
    if not callable(value) and value is not None and value not in get_args(WeightRule):
        rules = ", ".join(get_args(WeightRule))
        raise ConfigurationError(f"{name} must be {rules}, a function of a Rollout and a Message or None, not {value!r}")
    return value  # type: ignore[no-any-return]


def _scrub(name: str, value: Any) -> Scrub:
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]
    kinds = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Collection) else (value,)
    known = get_args(ScrubKind)
    if not kinds or any(kind not in known for kind in kinds):
        raise ConfigurationError(
            f"{name} must be {', '.join(known)}, several of them, a function of a text or None, not {value!r}"
        )
    return kinds


def _pairs(name: str, value: Any, example: str) -> list[tuple[str, str]]:
    """Return the pairs (name, value) of a mapping, of a text "name=value", or of several; ("", text) for a text without "="."""
    if isinstance(value, Mapping):
        return [(str(key), str(item)) for key, item in value.items()]
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, Collection) else [value]
    if not texts or not all(isinstance(text, str) and text.strip("= ") for text in texts):
        raise ConfigurationError(f"{name} must be like {example} or None, not {value!r}")
    parts = [text.rpartition("=") for text in texts]
    return [(before.strip(), after.strip()) for before, _, after in parts]


def _split_by(name: str, value: Any) -> tuple[str, dict[str, str]] | None:
    """Return the field whose value names the split, and the splits of its values."""
    if value is None or (isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict)):
        return value
    example = '"environment", "hard=test" or {"hard": "test"}'
    fields, names = ["split"], {}
    for word, split in _pairs(name, value, example):
        if not word:
            fields.append(split)
        elif not re.fullmatch(r"[A-Za-z0-9_]+", split):
            raise ConfigurationError(f"{name}: a split has letters, digits and underscores in its name, not {split!r}")
        else:
            names[word] = split
    if len(fields) > 2 or fields[-1] not in SPLIT_FIELDS:
        raise ConfigurationError(f"{name}: there is no field {fields[-1]!r}; there are {', '.join(SPLIT_FIELDS)}, or {example}")
    return fields[-1], names


def _holdout(name: str, value: Any) -> dict[str, float] | None:
    """Return the shares of the splits that are held out. One number is the share of the validation split."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        value = {"validation": value}
    shares: dict[str, float] = {}
    for split, share in _pairs(name, value, '0.1, "test=0.1" or {"validation": 0.1, "test": 0.1}'):
        try:
            shares[split or "validation"] = float(share)
        except ValueError:
            raise ConfigurationError(f"{name} must be a share between 0 and 1, not {share!r}") from None
        if split == "train" or not re.fullmatch(r"\w*", split, re.ASCII):
            raise ConfigurationError(f"{name}: {split!r} cannot be held out: name another split, like validation or test")
    if not all(0 < share < 1 for share in shares.values()) or not sum(shares.values()) < 1:
        raise ConfigurationError(f"{name}: shares must be above 0, and below 1 together, not {value!r}")
    return shares


def _template_options(name: str, value: Any) -> dict[str, Json] | None:
    """Return a copy of a mapping of JSON values that a template can take, or of the JSON text of one."""
    if value is None:
        return None
    try:
        copy = jsonio.loads(value if isinstance(value, str) else json.dumps(value), allow_nan=False)
    except (TypeError, ValueError):
        copy = None
    if not isinstance(copy, dict) or (isinstance(value, Mapping) and set(copy) != set(value)):
        raise ConfigurationError(f'{name} must be a JSON object such as {{"enable_thinking": false}} or None, not {value!r}')
    reserved = sorted(RESERVED_TEMPLATE_OPTIONS & copy.keys())
    if reserved:
        raise ConfigurationError(f"{name}: {', '.join(reserved)} is not an option of a template; the export sets it")
    return copy


def _check_order(options: Any, kind: str) -> None:
    """Raise ConfigurationError if a minimum is above its maximum."""
    least, most = getattr(options, f"min_{kind}"), getattr(options, f"max_{kind}")
    if least is not None and most is not None and least > most:
        raise ConfigurationError(f"min_{kind}={least} is above the maximum of {most}: nothing meets both")


_COUNT = integer(1, optional=True)
_REWARD = _real(optional=True)


@dataclass(frozen=True, slots=True)
class Select(Options):
    """Criteria for the rollouts that are exported. Each criterion lets all rollouts through at its default.

    The order: each rollout by itself (`status` to `where`), then `dedupe`, then within each group `best_of`, `top_k` and
    `one_per_group`, then `balance`, then `limit`. A rollout that cannot be trained on is left out before groups are compared.

    Example:
        >>> select = Select(min_reward=0.5, environments=["weather"], best_of=4)
        >>> select.compares_rollouts
        True
        >>> Select(min_reward=1.0, max_reward=0.0)
        Traceback (most recent call last):
        openreward_gym.errors.ConfigurationError: min_reward=1.0 is above the maximum of 0.0: nothing meets both
    """

    status: Names = option(None, _statuses)
    """Status or statuses. None takes those that a format is for: "completed" for formats to imitate, "truncated" too for
    formats that compare, all for `rollouts` and `prompts`. "any" takes all."""
    min_reward: float | None = option(None, _REWARD)
    """Smallest reward, inclusive. A rollout without a reward does not meet it."""
    max_reward: float | None = option(None, _REWARD)
    """Largest reward, inclusive. A rollout without a reward does not meet it."""
    reward: RewardKind = option("sum", choice(RewardKind))
    """Reward that counts: the "sum" of all, the "last", the "max", or the "score" that the environment gave the rollout when it
    compared the group. `preference` and `kto` compare by it too."""
    environments: Names = option(None, _names)
    """Names of environments."""
    splits: Names = option(None, _names)
    """Splits of the tasks."""
    models: Names = option(None, _names)
    """Names of models."""
    runs: Names = option(None, _names)
    """Names of runs."""
    tasks: Names = option(None, _names)
    """Ids of tasks."""
    groups: Names = option(None, _names)
    """Names of groups."""
    labels: Names = option(None, _names)
    """Labels of which a rollout needs one: those of its record, and tags that readers gave in the viewer."""
    without_labels: Names = option(None, _names)
    """Labels of which a rollout may have none."""
    min_rating: int | None = option(None, _COUNT)
    """Smallest rating by readers, from 1 to 5, inclusive. A rollout without a rating does not meet it."""
    max_rating: int | None = option(None, _COUNT)
    """Largest rating by readers, inclusive. A rollout without a rating does not meet it."""
    discarded: bool = option(True, flag)
    """Take rollouts that a collection or a trainer discarded (in `groups/` or in the record)."""
    steps: tuple[int | None, int | None] | None = option(None, _steps)
    """First and last training step, inclusive. None leaves an end open."""
    min_turns: int | None = option(None, _COUNT)
    """Smallest number of the model's turns."""
    max_turns: int | None = option(None, _COUNT)
    """Largest number of the model's turns."""
    max_tokens: int | None = option(None, _COUNT)
    """Longest conversation in tokens, as the provider counted them at the last turn."""
    where: Callable[[Rollout], bool] | None = option(None, _function)
    """Function that returns True for rollouts to take."""
    dedupe: Dedupe | None = option(None, choice(Dedupe, optional=True))
    """Keep one of equal conversations ("exact"), of those that differ only in case, punctuation and white space ("normalized"),
    or of those that share most of their runs of five words ("near", see `similarity`). The one with the highest reward is kept,
    among equal ones a completed one, then the one with the fewest turns."""
    similarity: float = option(0.8, _real(least=0.01))
    """dedupe="near": smallest share of common runs of five words, of all runs in both conversations (Jaccard similarity). System
    messages do not count."""
    decontaminate: Texts = option(None, _texts)
    """Leave out rollouts whose prompt has a run of 13 words from these texts, or a whole text of 8 to 12 words: texts, files
    (.txt, .json, .jsonl, .parquet), or rows of a dataset. System messages do not count."""
    best_of: int | None = option(None, _COUNT)
    """Keep the best of each group's first n rollouts."""
    top_k: int | None = option(None, _COUNT)
    """Keep the k best rollouts of each group."""
    one_per_group: bool = option(False, flag)
    """Keep one random rollout of each group."""
    balance: Balance | None = option(None, choice(Balance, optional=True))
    """Drop random rollouts until each "task", "environment" or "reward" has as many as the rarest."""
    limit: int | None = option(None, _COUNT)
    """Largest number of rollouts. The first ones are kept."""
    seed: int = option(0, integer())
    """Seed of all random choices."""

    def __post_init__(self) -> None:
        # `super()` does not work in a dataclass with slots: the decorator makes a new class.
        Options.__post_init__(self)
        for kind in ("reward", "rating", "turns"):
            _check_order(self, kind)
        if self.steps is not None and None not in self.steps and self.steps[0] > self.steps[1]:  # type: ignore[operator]
            raise ConfigurationError(f"steps={self.steps!r}: the first step is after the last one: nothing is between them")
        if self.similarity > 1:
            raise ConfigurationError(f"similarity must be a share of at most 1, not {self.similarity}")

    @property
    def compares_rollouts(self) -> bool:
        """True if a choice depends on other rollouts, so that all must be read before the first row is written."""
        return bool(self.dedupe or self.best_of or self.top_k or self.one_per_group or self.balance)


@dataclass(frozen=True, slots=True)
class ExportOptions(Options):
    """Options of the rows of an export: the keyword arguments of `to_dataset`, `write` and `push`.

    Example:
        >>> options = ExportOptions(compat="string", columns=("reward", "task_id"))
        >>> options.changes()
        {'compat': 'string', 'columns': ('reward', 'task_id')}
    """

    compat: Compat = option("json", choice(Compat))
    """Type of columns with nested values: "json" for `datasets.Json` (datasets >= 4.7), "string" for plain structs with JSON
    strings, which any version, pandas and older trainers read."""
    parallel_calls: ParallelCalls = option("keep", choice(ParallelCalls))
    """Several calls in one assistant message: "keep" them, "split" them into pairs of call and result, or "drop" the rollout.
    With a tokenizer, "keep" splits them if its template cannot render them."""
    malformed_calls: MalformedCalls = option("drop", choice(MalformedCalls))
    """Calls whose arguments are not a JSON object: "drop" the rollout, or "keep" the arguments as the text that the model wrote
    (half of the chat templates raise on it). A rejected or negative completion keeps them if a tokenizer is passed whose
    template renders them."""
    control_tokens: ControlTokenHandling = option("flag", choice(ControlTokenHandling))
    """Control tokens (`<|im_end|>` ...) in texts of tools and users, which a tokenizer reads as real ones: "flag" counts them in
    the report, "drop" drops the rollout, "escape" breaks them with a zero-width space."""
    system: SystemHandling = option("keep", choice(SystemHandling))
    """System messages: "keep" them, or "merge" them into the first user message (some templates refuse them)."""
    reasoning: bool = option(True, flag)
    """Write `reasoning_content`."""
    endings: Sequence[str] = option(DEFAULT_ENDINGS, _endings)
    """Ends of turns (`Message.ended`) that are trained: "length", "refusal" and so on, or "any". A turn that ended otherwise is
    context without a loss where the format can say so; a turn whose end is not known is trained."""
    assume_sampled: bool = option(False, flag)
    """Take assistant messages of unknown origin for the model's. By default such rollouts are left out of training formats."""
    columns: Sequence[str] = option((), _columns)
    """Further columns: "reward", "final_reward", "environment", "task_id", "task_index", "split", "group", "model", "status",
    "stop_reason", "seed", "run", "labels"; from readers' labels and compared groups "rating", "advantage", "score",
    "discard_reason"; "step_rewards", the rewards between each turn of the model and the next (null for none)."""
    answers: bool = option(False, flag)
    """Write task specs, golden answers and metadata into `prompts` and `verl`, and allow a public push of whole records."""
    min_gap: float = option(0.0, _real(least=0.0))
    """preference: smallest difference of rewards within a pair. Rollouts of equal reward never form a pair."""
    max_pairs: int | None = option(4, _COUNT)
    """preference: largest number of pairs per group. None takes all."""
    whole_trajectories: bool = option(False, flag)
    """preference: write everything after the first difference instead of one assistant message."""
    length_ratio: float | None = option(None, _real(least=1.0, optional=True))
    """preference: largest factor between the lengths of a pair's completions, in characters. None takes all."""
    good_reward: float | None = option(None, _REWARD)
    """kto: smallest reward of a row with `label` True. None takes the middle between the smallest and the largest reward."""
    balance_labels: bool = option(True, flag)
    """kto: drop random rollouts of the more frequent label until both labels are equally frequent."""
    turns: Turns | None = option(None, choice(Turns, optional=True))
    """prompt_completion, kto: rows for "all" of the model's turns, or for the "last" one. None is "all" for prompt_completion
    and "last" for kto."""
    min_length: int | None = option(None, _COUNT)
    """Smallest number of tokens in a row; it needs a tokenizer. Shorter rows are left out. None takes all."""
    chat_template_kwargs: Mapping[str, Json] | None = option(None, _template_options)
    """Options of the chat template as a JSON object: {"enable_thinking": false}. Every rendering gets them, and the rows of TRL's
    formats name them. None takes those that a rollout was sampled with, as its record says."""
    max_length: int | None = option(None, _COUNT)
    """Largest number of tokens in a row; it needs a tokenizer. Longer rows are left out. None takes all."""
    weights: Weights = option(None, _weights)
    """Weights of the model's turns: "skip_failed_calls" gives 0, which is no training, to turns with a call that failed. In
    Python also a function that returns the weight of a turn of the model, or None to leave it as recorded."""
    scrub: Scrub = option(None, _scrub)
    """Replace personal data in all texts before anything is written: "emails", "phones", "keys" (API keys and tokens). In Python
    also a function that returns the new text. Recorded token ids of changed rollouts are not used."""
    split_by: SplitBy = option(None, _split_by)
    """Dataset split of each row: a field whose value names it (split, environment, model, run, label, status, stop_reason,
    group), names of splits like "hard=test", or both; "*=train" is for all other names. None takes the environment's split:
    train, validation (also val, valid, dev, eval), test, or a split of the same name. Rows without one go to train."""
    holdout: Holdout = option(None, _holdout)
    """Share of the tasks in train to hold out: 0.1 makes a validation split, "test=0.1" another one. A task is on one side only,
    and stays there when other rollouts come. None takes no task."""
    license: str | None = option(None, _license)
    """License on the dataset card, by the Hub's name for it ("apache-2.0"). None keeps that of the card."""
    seed: int = option(0, integer())
    """Seed of all random choices."""

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        _check_order(self, "length")


class ExportKeywords(TypedDict, total=False):
    """Keyword arguments of `to_dataset`, `write` and `push`: the fields of `ExportOptions`, which describes them."""

    compat: Compat
    parallel_calls: ParallelCalls
    malformed_calls: MalformedCalls
    control_tokens: ControlTokenHandling
    system: SystemHandling
    reasoning: bool
    endings: Sequence[str]
    assume_sampled: bool
    columns: Sequence[str]
    answers: bool
    min_gap: float
    max_pairs: int | None
    whole_trajectories: bool
    length_ratio: float | None
    good_reward: float | None
    balance_labels: bool
    turns: Turns | None
    min_length: int | None
    chat_template_kwargs: Mapping[str, Json] | None
    max_length: int | None
    weights: Weights
    scrub: Scrub
    split_by: SplitBy
    holdout: Holdout
    license: str | None
    seed: int
