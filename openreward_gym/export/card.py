"""The dataset card: content of an export, rollouts left out by reason, loader code; with pictures drawn as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from openreward_gym.export.formats import Format
from openreward_gym.export.options import ExportOptions
from openreward_gym.export.report import FINDINGS, ExportReport, FormatReport

_MARK = "<!-- openreward-gym: everything below is written by the export -->"

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


def write_card(report: ExportReport, kinds: Mapping[str, type[Format]], options: ExportOptions, folder: Path) -> None:
    """Write `README.md` and its pictures. Text above the mark in an earlier card is kept."""
    path = folder / "README.md"
    forms = list(report.formats.values())
    # `datasets` reads all configurations of a folder with one reader: beside Parquet formats, JSONL formats cannot be any.
    configurations = [form for form in forms if kinds[form.name].file == "parquet"] or forms
    needs = "`datasets>=4.7` (the columns of type `Json`)" if options.compat == "json" else "`datasets>=2.14`"
    lines = ["---", *_front_matter(configurations), "---", "", _text_above_mark(path), _MARK, ""]
    lines += ["| config | rows | rollouts | purpose |", "|---|---|---|---|"]
    lines += [
        f"| `{form.name}` | {form.rows:,} | {form.selected:,} of {form.read:,} | {kinds[form.name].about} |" for form in forms
    ]
    lines += ["", f"Needs {needs}.", "Rewards are the sum over an episode's steps.", "", "## Load it", ""]
    for form in forms:
        lines += _loader(form, form in configurations, options)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.svg"):
        old.unlink()
    for form in forms:
        charts = _charts(form)
        lines += _section(form, kinds[form.name].about, charts)
        for subject, chart in charts.items():
            (pictures / f"{form.name}-{subject}.svg").write_text(chart, encoding="utf-8")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text_above_mark(path: Path) -> str:
    """Return the text that somebody wrote between the front matter and the mark."""
    if not path.exists():
        return "# Rollouts\n"
    text = path.read_text(encoding="utf-8")
    if text.startswith("---\n") and "\n---\n" in text:
        text = text.split("\n---\n", 1)[1]
    return text.split(_MARK)[0].strip() + "\n"


def _front_matter(configurations: Sequence[FormatReport]) -> list[str]:
    lines = ["tags:", "- openreward-gym", "- agents", "- tool-use", "configs:"]
    for number, form in enumerate(configurations):
        pattern = "train.jsonl" if form.files[0].endswith(".jsonl") else "train-*.parquet"
        lines += [f"- config_name: {form.name}", *(["  default: true"] if number == 0 else []), "  data_files:"]
        lines += ["  - split: train", f"    path: {form.name}/{pattern}"]
    return lines


def _loader(form: FormatReport, is_configuration: bool, options: ExportOptions) -> list[str]:
    arguments = f'"PATH", "{form.name}"' if is_configuration else f'"json", data_files="PATH/{form.files[0]}"'
    lines = ["```python", "from datasets import load_dataset", "", f'dataset = load_dataset({arguments}, split="train")']
    if options.compat == "string" and form.name in _MESSAGE_COLUMNS:
        lines += [_AS_OBJECTS.replace("COLUMN", _MESSAGE_COLUMNS[form.name])]
    return [*lines, "```", ""]


def _section(form: FormatReport, about: str, charts: Iterable[str]) -> list[str]:
    lines = [f"## {form.name}", "", about + ".", ""]
    if form.name in _ADVICE:
        lines += [_ADVICE[form.name], ""]
    rows = [f"| rollouts | {count:,} | {reason} |" for reason, count in form.excluded.most_common()]
    rows += [f"| rows | {count:,} | {reason} |" for reason, count in form.dropped_rows.most_common()]
    if rows:
        lines += ["| left out | number | reason |", "|---|---|---|", *rows, ""]
    lines += [f"![{form.name}: {subject}](pictures/{form.name}-{subject}.svg)" for subject in charts]
    lines += [f"- {environment}: {count:,} rollouts" for environment, count in form.environments.most_common(20)]
    lines += [f"- tasks: {len(form.tasks):,} of {len(form.tasks_read):,} are covered"]
    lines += [f"- note: {count:,} {FINDINGS.get(name, name)}" for name, count in form.findings.most_common()]
    return [*lines, ""]


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
