"""The dataset card: what is in an export, what was left out, how to load it; with pictures drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from openreward_gym.export.formats import FORMATS
from openreward_gym.export.options import Options
from openreward_gym.export.report import FINDINGS, FormatReport, Report

_MARK = "<!-- openreward-gym: everything below is written by the export -->"


def write_card(report: Report, options: Options, folder: Path) -> None:
    """Write `README.md` and its pictures; text that stands above our mark in an earlier card is kept."""
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for picture in pictures.glob("*.svg"):
        picture.unlink()
    path = folder / "README.md"
    own = _own_text(path)
    lines = ["---", *_front_matter(report), "---", "", own, _MARK, "", *_body(report, options, pictures)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _own_text(path: Path) -> str:
    """What somebody wrote between the front matter and our mark."""
    if not path.exists():
        return "# Rollouts\n"
    text = path.read_text(encoding="utf-8")
    if text.startswith("---\n") and "\n---\n" in text:
        text = text.split("\n---\n", 1)[1]
    return text.split(_MARK)[0].strip() + "\n"


def _front_matter(report: Report) -> list[str]:
    lines = ["tags:", "- openreward-gym", "- agents", "- tool-use", "configs:"]
    for number, form in enumerate(_loadable(report)):
        lines += [f"- config_name: {form.name}", *(["  default: true"] if number == 0 else []), "  data_files:"]
        lines += ["  - split: train", f"    path: {_pattern(form)}"]
    return lines


def _loadable(report: Report) -> list[FormatReport]:
    """The formats that are configurations: `datasets` reads all of a folder's with one reader, so not lines beside Parquet."""
    forms = list(report.formats.values())
    tables = [form for form in forms if FORMATS[form.name].file == "parquet"]
    return tables or forms


def _pattern(form: FormatReport) -> str:
    return f"{form.name}/train.jsonl" if form.files[0].endswith(".jsonl") else f"{form.name}/train-*.parquet"


def _body(report: Report, options: Options, pictures: Path) -> list[str]:
    lines = ["| config | rows | rollouts | what for |", "|---|---|---|---|"]
    lines += [
        f"| `{form.name}` | {form.rows:,} | {form.selected:,} of {form.read:,} | {FORMATS[form.name].about} |"
        for form in report.formats.values()
    ]
    minimum = "4.7" if options.compat == "json" else "2.14"
    lines += ["", f"Needs `datasets>={minimum}`" + (" (the columns of type `Json`)." if options.compat == "json" else ".")]
    lines += ["Rewards are the sum over an episode's steps.", "", "## Load it", ""]
    for form in report.formats.values():
        lines += _loader(form, options, form in _loadable(report))
    for form in report.formats.values():
        lines += _section(form, pictures)
    return lines


def _loader(form: FormatReport, options: Options, is_configuration: bool) -> list[str]:
    given = f'"PATH", "{form.name}"' if is_configuration else f'"json", data_files="PATH/{form.files[0]}"'
    lines = ["```python", "from datasets import load_dataset", "", f'dataset = load_dataset({given}, split="train")']
    if options.compat == "string" and FORMATS[form.name].file == "parquet" and form.name in _WITH_MESSAGES:
        lines += [
            "",
            "import json",
            "",
            "",
            "def as_objects(message):",
            "    message = {key: value for key, value in message.items() if value is not None}",
            '    for call in message.get("tool_calls", []):',
            '        call["function"]["arguments"] = json.loads(call["function"]["arguments"])',
            "    return message",
            "",
            "",
            f'messages = [[as_objects(message) for message in row["{_WITH_MESSAGES[form.name]}"]] for row in dataset]',
        ]
    return [*lines, "```", ""]


_WITH_MESSAGES = {"sft": "messages", "prompt_completion": "prompt", "preference": "prompt", "kto": "prompt", "prompts": "prompt"}


def _section(form: FormatReport, pictures: Path) -> list[str]:
    lines = [f"## {form.name}", "", FORMATS[form.name].about + ".", ""]
    if form.name in _ADVICE:
        lines += [_ADVICE[form.name], ""]
    lines += _left_out(form)
    for what, picture in _pictures(form).items():
        name = f"{form.name}-{what}.svg"
        (pictures / name).write_text(picture, encoding="utf-8")
        lines += [f"![{form.name}: {what}](pictures/{name})"]
    lines += [f"- {environment}: {count:,} rollouts" for environment, count in form.environments.most_common(20)]
    lines += [f"- tasks: {len(form.tasks):,} of {len(form.tasks_read):,} are covered"]
    lines += [f"- note: {count:,} {FINDINGS.get(what, what)}" for what, count in form.findings.most_common()]
    return [*lines, ""]


_ADVICE = {
    "sft": "Train with `assistant_only_loss=True`: TRL's default puts the loss on every token, tool results included.",
    "prompt_completion": "A completion is one assistant message: the loss is on what the model said and on nothing else.",
    "preference": "`chosen` and `rejected` are one assistant message each, after the same history: no tool result is compared.",
    "kto": "`completion` is one assistant message; neighbouring rows come from different tasks.",
    "tokens": "`input_ids` with `labels` (-100 is no loss), audited for the tokenizer it was made with.",
    "rollouts": "The archive: every record, exactly; `openreward_gym.export.read_rollouts` gives the records back. "
    "It has task specs, golden answers and metadata.",
}


def _left_out(form: FormatReport) -> list[str]:
    rows = [(reason, count, "rollouts") for reason, count in form.excluded.most_common()]
    rows += [(reason, count, "rows") for reason, count in form.dropped_rows.most_common()]
    if not rows:
        return []
    return ["| left out | number | why |", "|---|---|---|", *(f"| {what} | {n:,} | {reason} |" for reason, n, what in rows), ""]


def _pictures(form: FormatReport) -> dict[str, str]:
    funnel, left = [("read", form.read)], form.read
    for reason, count in form.excluded.most_common(8):
        left -= count
        funnel.append((f"without: {reason}", left))
    if left != form.selected:
        funnel.append(("exported", form.selected))
    found = {"funnel": _bars("rollouts", funnel)} if form.read else {}
    for name, values in (("rewards", form.rewards), ("turns", form.turns), ("tokens", form.tokens)):
        if values:
            found[name] = _bars(name, _histogram([float(value) for value in values]))
    if form.tasks_read:
        missing = len(form.tasks_read) - len(form.tasks)
        found["tasks"] = _bars("tasks", [("covered", len(form.tasks)), ("not covered", missing)])
    return found


def _histogram(values: Sequence[float], bins: int = 12) -> list[tuple[str, int]]:
    """(range, count); one bar a value where there are few different ones."""
    finite = [value for value in values if math.isfinite(value)]
    different = sorted(set(finite))
    if len(different) <= bins:
        return [(f"{value:g}", finite.count(value)) for value in different]
    low, width = different[0], (different[-1] - different[0]) / bins
    counts = [0] * bins
    for value in finite:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [(f"{low + n * width:.3g} to {low + (n + 1) * width:.3g}", count) for n, count in enumerate(counts)]


def _bars(title: str, bars: Sequence[tuple[str, int]]) -> str:
    """A horizontal bar chart as SVG."""
    most = max((count for _, count in bars), default=0) or 1
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
            f'<rect x="288" y="{y}" width="{max(1 if count else 0, round(340 * count / most))}" height="16" fill="#4c78a8"/>',
            f'<text x="{296 + round(340 * count / most)}" y="{y + 13}">{count:,}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
