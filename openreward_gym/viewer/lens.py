"""The export lens: the rows that an export makes from a rollout, and which text in them is trained."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openreward_gym import jsonio
from openreward_gym.errors import MissingExtraError
from openreward_gym.export import ExportOptions, Format, FormatReport, Select, format_names, format_of
from openreward_gym.export.pipeline import Pipeline
from openreward_gym.export.reader import RolloutReader
from openreward_gym.export.reasons import FINDINGS
from openreward_gym.types import Rollout

_PROMPTS = ("system", "input", "prompt")
_BETTER = ("completion", "chosen", "preferred_output")
_WORSE = ("rejected", "non_preferred_output")
_CONVERSATIONS = (*_PROMPTS, "messages", "conversations", *_BETTER, *_WORSE)
_MAX_LIST = 40


class ExportLens:
    """Exports single rollouts in each format, for display.

    Args:
        tokenizer: A model's name, a folder, or a transformers tokenizer, for the format `tokens`; None leaves it out.

    Raises:
        MissingExtraError: `tokenizer` is given, and `transformers` is not installed.
        ConfigurationError: The tokenizer has no chat template.

    Example:
        >>> from openreward_gym import Rollout
        >>> ExportLens()(Rollout(status="truncated"), list, "sft")["dropped"]
        'status truncated'
    """

    def __init__(self, tokenizer: Any = None) -> None:
        self._template: Any = None
        if tokenizer is not None:
            try:
                from openreward_gym.export.template import ChatTemplate

                self._template = ChatTemplate.of(tokenizer)
            except ModuleNotFoundError as error:
                install = f"pip install {error.name}"
                raise MissingExtraError(f"the export lens needs {error.name} to show tokens: {install}") from None
        kinds = map(format_of, format_names())
        self.formats = tuple((k.name, k.about) for k in kinds if tokenizer is not None or not k.needs_tokenizer)

    @property
    def decode(self) -> Callable[[list[int]], str] | None:
        """The tokenizer's function that maps token ids to text; None without a tokenizer."""
        return None if self._template is None else self._template.decode

    def __call__(self, rollout: Rollout, others: Callable[[], Sequence[Rollout]], name: str) -> dict[str, Any]:
        """Export `rollout` in the format `name`.

        Args:
            rollout: The rollout, with its images inside.
            others: Returns the other rollouts of its group; it is called only for formats that compare rollouts.
            name: The format's name.

        Returns:
            `rows`: for each row its `row` (long lists shortened) and its `spans`: `{"column", "role", "text", "use"}` with
            the use "trained", "rejected" (trained against) or "context". `dropped`: the reason why `rows` is empty, or None.
            `findings`: the remarks of the export's report. `compared`: the number of other rollouts that were used.

        Raises:
            ConfigurationError: The format does not exist, or needs a tokenizer.
        """
        kind = format_of(name)
        rows, reasons, report = self._export(kind, [rollout])
        group = [rollout, *others()] if kind.compares_rollouts else [rollout]
        if len(group) > 1 and not report.excluded.keys() - {"alone in its group"}:
            rows, reasons, report = self._export(kind, group)
            if rows and "rollout_id" not in rows[0]:
                # Rows that do not name their rollouts: comparing with one rollout at a time leaves out the other pairs.
                rows = [row for other in group[1:] for row in self._export(kind, [rollout, other])[0]]
        if len(reasons) > 1:
            del reasons["no row came of it"]  # the other reasons say why
        rows = [row for row in rows if rollout.id in (row.get("rollout_id", rollout.id), row.get("rejected_rollout_id"))]
        return {
            "rows": [{"row": _short(row), "spans": list(self._spans(kind, row))} for row in rows],
            "dropped": None if rows else "; ".join(reasons) or "another of its group is taken instead",
            "findings": [FINDINGS.get(name, name) for name in report.findings],
            "compared": len(group) - 1,
        }

    def _export(self, kind: type[Format], rollouts: Sequence[Rollout]) -> tuple[list[dict[str, Any]], Counter[str], FormatReport]:
        # Random sampling that balances a whole dataset would hide what happens to this rollout.
        options = ExportOptions(balance_labels=False, max_pairs=None)
        pipeline = Pipeline(RolloutReader.of(rollouts), kind, Select(), options, self._template, look_first=True)
        rows = [{name: _decode(value) for name, value in row.items()} for row in pipeline.rows()]
        return rows, pipeline.report.excluded + pipeline.report.dropped_rows, pipeline.report

    def _spans(self, kind: type[Format], row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if kind.needs_tokenizer:
            yield from self._token_spans(row)
            return
        if not kind.trains:
            return
        for column, messages in _conversations(row):
            for number, message in enumerate(messages, 1):
                use = _use(column, message, row, is_last=number == len(messages))
                role = message.get("role") or message.get("from")
                yield {"column": column, "role": role, "text": _text(message), "use": use}

    def _token_spans(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        tokens = zip(row["input_ids"], row["labels"], strict=True)
        for use, span in itertools.groupby(tokens, lambda token: "context" if token[1] == -100 else "trained"):
            ids = [token_id for token_id, _ in span]
            yield {"column": "input_ids", "role": f"{len(ids)} tokens", "text": self._template.decode(ids), "use": use}


def _conversations(row: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Yield the columns of a row that hold messages, in the order in which they are read, with their messages."""
    for column in _CONVERSATIONS:
        value = row.get(column)
        if isinstance(value, str):
            value = {"role": column, "content": value} if value else None
        if isinstance(value, dict):
            value = value.get("messages", [value])
        messages = [message for message in value or () if isinstance(message, dict)]
        if messages:
            yield column, messages


def _use(column: str, message: Mapping[str, Any], row: Mapping[str, Any], *, is_last: bool) -> str:
    """Return the use of a message by the trainer that its row is for."""
    if column in _PROMPTS:
        return "context"
    if column in _WORSE or (column in _BETTER and row.get("label") is False):
        return "rejected"
    if column in _BETTER:
        return "trained"
    # LLaMA-Factory's pairs and KTO lines have the prompt here, a KTO line its completion as the last turn.
    if "chosen" in row or ("kto_tag" in row and not is_last):
        return "context"
    from_model = message.get("role") == "assistant" or message.get("from") in ("gpt", "function_call")
    if not (from_model and message.get("train", True) and message.get("loss_weight", message.get("weight", 1))):
        return "context"
    return "rejected" if row.get("kto_tag") is False else "trained"


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        content = "\n".join(_part_text(part) for part in content if isinstance(part, dict))
    parts = [message.get("reasoning_content"), content]
    for call in message.get("tool_calls") or ():
        if isinstance(call, dict):
            function = call.get("function", call)
            arguments = function.get("arguments")
            text = arguments if isinstance(arguments, str) else jsonio.dumps(arguments).decode()
            parts.append(f"{function.get('name')}({text})")
    return "\n".join(str(part) for part in parts if part)


def _part_text(part: Mapping[str, Any]) -> str:
    return str(part.get("text", part.get("value", f"[{part.get('type')}]")))


def _decode(value: Any) -> Any:
    """Return a cell's value; cells that the pipeline has encoded are decoded."""
    if isinstance(value, (list, tuple)):
        return [_decode(item) for item in value]
    if isinstance(value, bytes) and value[:1] in (b"{", b"["):
        return jsonio.loads(value)
    if hasattr(value, "tolist"):  # an array of token ids
        return value.tolist()
    return value


def _short(value: Any) -> Any:
    """Shorten a row for display: bytes become their size, long lists of numbers their beginning."""
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    if isinstance(value, dict):
        return {str(key): _short(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > _MAX_LIST and isinstance(value[0], (int, float)):
            return [*value[:_MAX_LIST], f"… {len(value)} in all"]
        return [_short(inner) for inner in value]
    return value
