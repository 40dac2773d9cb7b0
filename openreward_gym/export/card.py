"""The dataset card: content of an export, rollouts left out by reason, loader code; with pictures drawn as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from keyword import iskeyword
from pathlib import Path
from typing import Any, TypeAlias

from openreward_gym.export.columns import meaning_of, type_of
from openreward_gym.export.reasons import FINDINGS, hint_of
from openreward_gym.export.report import ExportReport, FormatReport
from openreward_gym.export.splits import TRAIN

Entry: TypeAlias = dict[str, Any]
"""What `report.json` has about one format: that of this export, or that of an earlier one to the same output."""

_MARK = "<!-- openreward-gym: everything below is written by the export -->"
_OWN_KEYS = ("configs", "size_categories")
_TAGS = ("openreward-gym", "agents", "tool-use")
_SUBJECTS = ("funnel", "rewards", "turns", "tokens", "tasks")
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_REINFORCEMENT = ("prompts", "verl")

_ADVICE = {
    "sft": "Train with `assistant_only_loss=True`: TRL's default puts the loss on every token, tool results included.",
    "prompt_completion": "A completion is one assistant message: the loss is on the model's own words and on nothing else.",
    "preference": "`chosen` and `rejected` are one assistant message each, after the same history: no tool result is compared.",
    "kto": "`completion` is one assistant message; neighbouring rows come from different tasks.",
    "tokens": "`input_ids` with `labels` (-100 is no loss), audited for the tokenizer it was made with.",
    "rollouts": "The archive: every record, exactly; `openreward_gym.export.read_rollouts` reads the records. "
    "It contains task specs, golden answers and metadata.",
}
_MESSAGE_COLUMNS = {"sft": "messages", **dict.fromkeys(("prompt_completion", "preference", "kto", "prompts"), "prompt")}
_AS_OBJECTS = """
import json


def as_objects(message):
    message = {key: value for key, value in message.items() if value is not None}
    for call in message.get("tool_calls", []):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return message


messages = [[as_objects(message) for message in row["COLUMN"]] for row in dataset]"""


def write_card(report: ExportReport, license: str | None, folder: Path) -> None:
    """Write `README.md`, which describes all formats in the output.

    Text above the mark in an earlier card is kept, and so are the keys of its front matter that somebody else wrote.
    """
    path = folder / "README.md"
    entries = report.all_formats()
    # `datasets` reads all configurations of a folder with one reader: beside Parquet formats, JSONL formats cannot be any.
    configurations = {name: entry for name, entry in entries.items() if entry.get("file") == "parquet"} or entries
    lines = ["---", _front_matter(path, entries, configurations, license), "---", "", _text_above_mark(path), _MARK, ""]
    lines += ["| config | rows | splits | rollouts | purpose |", "|---|---|---|---|---|"]
    for name, entry in entries.items():
        splits = ", ".join(f"{split} {rows:,}" for split, rows in _splits_of(entry).items())
        rollouts = f"{entry['selected']:,} of {entry['read']:,}"
        lines.append(f"| `{name}` | {entry['rows']:,} | {splits} | {rollouts} | {entry.get('about', '')} |")
    lines += ["", f"Needs {_versions(entries)}.", "Rewards are the sum over an episode's steps.", "", "## Load it", ""]
    for name, entry in entries.items():
        lines += _loader(name, entry, name in configurations)
    for name, entry in entries.items():
        lines += _section(name, entry)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")


def write_pictures(report: ExportReport, folder: Path) -> None:
    """Draw the pictures of this export's formats, in place of those of earlier exports of these formats."""
    for name, form in report.formats.items():
        if form.kept:
            continue
        for picture in picture_names(name):
            (folder / picture).unlink(missing_ok=True)
        form.pictures = []
        for subject, chart in _charts(form).items():
            form.pictures.append(f"pictures/{name}-{subject}.svg")
            (folder / "pictures").mkdir(exist_ok=True)
            (folder / form.pictures[-1]).write_text(chart, encoding="utf-8", errors="backslashreplace")


def picture_names(name: str) -> list[str]:
    """Return the paths that the pictures of a format may have in the output."""
    return [f"pictures/{name}-{subject}.svg" for subject in _SUBJECTS]


def _versions(entries: Mapping[str, Entry]) -> str:
    strings = any(entry.get("compat") == "string" or entry.get("file") == "jsonl" for entry in entries.values())
    json = [f"`{name}`" for name, entry in entries.items() if entry.get("compat") == "json" and entry.get("file") == "parquet"]
    needs = "`datasets>=4.7` (the columns of type `Json`)" if json else "`datasets>=2.14`"
    return f"{needs} for {', '.join(json)}, `datasets>=2.14` for the others" if json and strings else needs


def _splits_of(entry: Entry) -> dict[str, int]:
    """Return the number of rows by split, in the order of the files."""
    counts: dict[str, int] = entry.get("splits") or {}
    return dict(counts) or {TRAIN: 0}


def _text_above_mark(path: Path) -> str:
    """Return the text that somebody wrote between the front matter and the mark."""
    if not path.exists():
        return "# Rollouts\n"
    text = path.read_text(encoding="utf-8")
    if text.startswith("---\n") and "\n---\n" in text:
        text = text.split("\n---\n", 1)[1]
    return text.split(_MARK)[0].strip() + "\n"


def _front_matter(path: Path, entries: Mapping[str, Entry], configurations: Mapping[str, Entry], license: str | None) -> str:
    """Return the card's metadata as YAML, without a newline at its end."""
    from huggingface_hub.utils._fixes import yaml_dump

    front = {key: value for key, value in _earlier_front_matter(path).items() if key not in _OWN_KEYS}
    if license is not None:
        front["license"] = license
    front["tags"] = _with(front.get("tags"), _TAGS)
    tasks = [
        "text-generation",
        *(["reinforcement-learning"] if any(_format(*item) in _REINFORCEMENT for item in entries.items()) else []),
    ]
    front["task_categories"] = _with(front.get("task_categories"), tasks)
    rows = max((entry["rows"] for entry in entries.values()), default=0)
    front["size_categories"] = [next((size for limit, size in _SIZES.items() if rows < limit), "n>10M")]
    front["configs"] = [
        {
            "config_name": name,
            **({"default": True} if number == 0 else {}),
            "data_files": [{"split": split, "path": _pattern(name, entry, split)} for split in _splits_of(entry)],
        }
        for number, (name, entry) in enumerate(configurations.items())
    ]
    return str(yaml_dump(front)).rstrip("\n")


def _earlier_front_matter(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    from huggingface_hub import metadata_load

    try:
        return dict(metadata_load(path) or {})
    except Exception:  # somebody's YAML that is none raises errors of any type
        return {}


def _with(values: Any, own: Sequence[str]) -> list[Any]:
    """Return our values, then those that somebody else wrote."""
    others = values if isinstance(values, list) else [] if values is None else [values]
    return [*own, *(value for value in others if value not in own)]


def _format(name: str, entry: Entry) -> str:
    """Return the format of an entry, whose name may have that of a run in it."""
    return str(entry.get("format") or name)


def _code(text: str) -> str:
    """Return a text as code in Markdown."""
    return f"`{text.replace('`', chr(39))}`"


def _pattern(name: str, entry: Entry, split: str) -> str:
    return f"{name}/{split}.jsonl" if entry.get("file") == "jsonl" else f"{name}/{split}-*.parquet"


def _loader(name: str, entry: Entry, is_configuration: bool) -> list[str]:
    lines = ["```python", "from datasets import load_dataset", ""]
    for number, split in enumerate(_splits_of(entry)):
        variable = "dataset" if number == 0 else split if split.isidentifier() and not iskeyword(split) else f"split_{split}"
        if is_configuration:
            lines.append(f'{variable} = load_dataset("PATH", "{name}", split="{split}")')
        else:
            path = _pattern(name, entry, split)
            lines.append(f'{variable} = load_dataset("json", data_files={{"{split}": "PATH/{path}"}}, split="{split}")')
    if entry.get("compat") == "string" and _format(name, entry) in _MESSAGE_COLUMNS:
        lines.append(_AS_OBJECTS.replace("COLUMN", _MESSAGE_COLUMNS[_format(name, entry)]))
    return [*lines, "```", ""]


def _section(name: str, entry: Entry) -> list[str]:
    lines = [f"## {name}", "", f"{entry.get('about', '')}.", ""]
    if entry.get("runs"):
        lines += [f"Rollouts of {', '.join(map(_code, entry['runs']))}.", ""]
    if _format(name, entry) in _ADVICE:
        lines += [_ADVICE[_format(name, entry)], ""]
    columns: dict[str, str] = entry.get("columns") or {}
    if columns:
        lines += ["| column | type | meaning |", "|---|---|---|"]
        for column, kind in columns.items():
            kind = type_of(kind, entry.get("file", "parquet"), entry.get("compat", "json"))
            lines.append(f"| `{column}` | {kind} | {meaning_of(_format(name, entry), column)} |")
        lines.append("")
    rows = [
        f"| {noun} | {count:,} | {_cell(reason)} | {_cell(hint_of(reason))} |"
        for noun, key in (("rollouts", "excluded"), ("rows", "dropped_rows"))
        for reason, count in entry[key].items()
    ]
    if rows:
        lines += ["| left out | number | reason | how to get them |", "|---|---|---|---|", *rows, ""]
    lines += [f"![{name}: {Path(picture).stem.rpartition('-')[2]}]({picture})" for picture in entry.get("pictures") or ()]
    environments = list(entry["environments"].items())[:20]
    lines += [f"- {environment}: {count:,} rollouts" for environment, count in environments]
    tasks = entry["tasks"]
    lines += [f"- tasks: {tasks['exported']:,} of {tasks['read']:,} are covered"]
    if tasks.get("in_several_splits"):
        lines += [f"- note: {tasks['in_several_splits']:,} tasks with rollouts in several splits: the source says so"]
    lines += [f"- note: {count:,} {FINDINGS.get(finding, finding)}" for finding, count in entry["findings"].items()]
    return [*lines, ""]


def _cell(text: str) -> str:
    """Return a text for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())


def _charts(form: FormatReport) -> dict[str, str]:
    """Return the pictures of a format by their subject."""
    funnel, left = [("read", form.read)], form.read
    for reason, count in form.excluded.most_common(8):
        left -= count
        funnel.append((f"without: {reason}", left))
    if left != form.selected:
        funnel.append(("exported", form.selected))
    charts = {"funnel": _bars("rollouts", funnel)} if form.read else {}
    for name, values in (("rewards", form.rewards), ("turns", form.turns), ("tokens", form.tokens)):
        if values:
            charts[name] = _bars(name, _histogram(values))
    if form.tasks_read:
        missing = len(form.tasks_read) - len(form.tasks)
        charts["tasks"] = _bars("tasks", [("covered", len(form.tasks)), ("not covered", missing)])
    return charts


def _histogram(values: Sequence[float], bins: int = 12) -> list[tuple[str, int]]:
    """Return ranges and counts; one bar per value if there are few distinct ones."""
    distinct = sorted(set(values))
    if len(distinct) <= bins:
        return [(f"{value:g}", values.count(value)) for value in distinct]
    low, width = distinct[0], (distinct[-1] - distinct[0]) / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [(f"{low + n * width:.3g} to {low + (n + 1) * width:.3g}", count) for n, count in enumerate(counts)]


def _bars(title: str, bars: Sequence[tuple[str, int]]) -> str:
    """Return a horizontal bar chart as SVG."""
    largest = max((count for _, count in bars), default=0) or 1
    height = 34 + 22 * len(bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" viewBox="0 0 720 {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="720" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, count) in enumerate(bars):
        y = 34 + 22 * number
        short = label if len(label) <= 44 else label[:43] + "…"
        lines += [
            f'<text x="280" y="{y + 13}" text-anchor="end">{escape(short)}</text>',
            f'<rect x="288" y="{y}" width="{max(1 if count else 0, round(340 * count / largest))}" height="16" fill="#4c78a8"/>',
            f'<text x="{296 + round(340 * count / largest)}" y="{y + 13}">{count:,}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
