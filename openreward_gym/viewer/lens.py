"""The viewer's export lens: the rows that an export makes of a rollout, which of their text is trained, or why there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openreward_gym.errors import MissingExtraError
from openreward_gym.export import exact
from openreward_gym.export.formats import FORMATS, Format, format_of
from openreward_gym.export.options import Options
from openreward_gym.export.pipeline import Pipeline
from openreward_gym.export.report import FINDINGS, FormatReport
from openreward_gym.export.select import Select
from openreward_gym.export.source import source_of
from openreward_gym.types.rollout import Rollout

_CONVERSATIONS = ("prompt", "messages", "conversations", "completion", "chosen", "rejected")
_LONG = 40


class ExportLens:
    """Shows what each format makes of one rollout.

    Args:
        tokenizer: A model's name, a folder, or a transformers tokenizer: then the format `tokens` can be shown, token for
            token. None for none.

    Raises:
        MissingExtraError: `transformers` is not installed.
        ConfigurationError: The tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any = None) -> None:
        self._template: Any = None if tokenizer is None else _template_of(tokenizer)
        known = tokenizer is not None
        self.formats = tuple((name, kind.about) for name, kind in FORMATS.items() if known or not kind.needs_tokenizer)

    def __call__(self, rollout: Rollout, others: Callable[[], Sequence[Rollout]], name: str) -> dict[str, Any]:
        """What the format `name` makes of `rollout`; `others` gives the rest of its group, where that matters.

        Returns:
            `rows`: for each row its `row` (long lists shortened) and its `spans`: `{"column", "role", "text", "use"}` with
            the use "trained", "rejected" (trained against) or "context". `dropped`: why there is no row; None where there
            is one. `findings`: what the export's report would say. `compared`: with how many other rollouts.

        Raises:
            ConfigurationError: There is no such format, or it needs a tokenizer.
        """
        kind = format_of(name)
        alone, reasons, report = self._made(kind, [rollout])
        group = [rollout, *others()] if kind.looks_at_all else [rollout]
        if len(group) > 1 and not report.excluded.keys() - {"alone in its group"}:
            alone, reasons, report = self._made(kind, group)
        if len(reasons) > 1:
            del reasons["no row came of it"]  # the others say why
        rows = [row for row in alone if rollout.id in (row.get("rollout_id", rollout.id), row.get("rejected_rollout_id"))]
        return {
            "rows": [{"row": _short(row), "spans": list(self._spans(kind, row))} for row in rows],
            "dropped": None if rows else "; ".join(reasons) or "another of its group is taken instead",
            "findings": [FINDINGS.get(name, name) for name in report.findings],
            "compared": len(group) - 1,
        }

    def _made(self, kind: type[Format], rollouts: Sequence[Rollout]) -> tuple[list[dict[str, Any]], Counter[str], FormatReport]:
        # What is drawn by chance to even out a whole dataset says nothing about one rollout.
        options = Options(balance_labels=False, max_pairs=None)
        pipeline = Pipeline(source_of(rollouts), kind, Select(), options, self._template, look_first=True)
        rows = [{name: _read(value) for name, value in row.items()} for row in pipeline.rows()]
        return rows, pipeline.report.excluded + pipeline.report.dropped_rows, pipeline.report

    def _spans(self, kind: type[Format], row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if kind.needs_tokenizer:
            yield from self._token_spans(row)
            return
        if not kind.trains:
            return
        for column in _CONVERSATIONS:
            for message in row.get(column) or ():
                if isinstance(message, dict):
                    use = _use(column, message, row)
                    role = message.get("role") or message.get("from")
                    yield {"column": column, "role": role, "text": _said(message), "use": use}

    def _token_spans(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        begin = 0
        labels = row["labels"]
        for at in range(1, len(labels) + 1):
            if at == len(labels) or (labels[at] == -100) != (labels[begin] == -100):
                use = "context" if labels[begin] == -100 else "trained"
                text = self._template.decode(row["input_ids"][begin:at])
                yield {"column": "input_ids", "role": f"{at - begin} tokens", "text": text, "use": use}
                begin = at


def _template_of(tokenizer: Any) -> Any:
    try:
        from openreward_gym.export.template import ChatTemplate

        return ChatTemplate.of(tokenizer)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"to show tokens the lens needs {error.name}: pip install {error.name}") from None


def _use(column: str, message: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if column == "prompt":
        return "context"
    if column == "rejected" or (column == "completion" and row.get("label") is False):
        return "rejected"
    if column in ("completion", "chosen"):
        return "trained"
    said = message.get("role") == "assistant" or message.get("from") in ("gpt", "function_call")
    return "trained" if message.get("train", said) else "context"


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in content if isinstance(part, dict))
    calls = [call.get("function", call) for call in message.get("tool_calls") or () if isinstance(call, dict)]
    said = [message.get("reasoning_content"), content, *(f"{call.get('name')}({_arguments(call)})" for call in calls)]
    return "\n".join(str(part) for part in said if part)


def _arguments(call: Mapping[str, Any]) -> str:
    given = call.get("arguments")
    return given if isinstance(given, str) else exact.encode(given)


def _read(value: Any) -> Any:
    """What is in a cell: some are encoded already."""
    if isinstance(value, (list, tuple)):
        return [_read(item) for item in value]
    if isinstance(value, bytes) and value[:1] in (b"{", b"["):
        return exact.decode(value)[0]
    if hasattr(value, "tolist"):  # token ids are an array
        return value.tolist()
    return value


def _short(value: Any) -> Any:
    """A row for people: bytes by their number, long lists of numbers by their beginning."""
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    if isinstance(value, dict):
        return {str(key): _short(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > _LONG and isinstance(value[0], (int, float)):
            return [*value[:_LONG], f"… {len(value)} in all"]
        return [_short(inner) for inner in value]
    return value
