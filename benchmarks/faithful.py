"""Exports of NeMo Gym's rollouts, compared message by message with an independent reading of the lines they came from.

    python benchmarks/faithful.py FILE_OR_FOLDER ... [--tokenizer FOLDER ...] [--markdown]

Each file of lines is imported, and exported as `sft`, `tokens` (with the tokenizers in the folders, or else for three chat
templates of TRL with one token a byte), `prompts` and `nemo_gym`. `benchmarks/real_tokenizers.py` makes folders of tokenizers.
The lines are read a second time here, by a few lines of code that share nothing with the package: what was the input, what did
the model write, in which order. Counted are given turns with a loss, prompts that are not the whole input, and trained turns
whose text, reasoning or calls differ in a character from what the model wrote. All three have to be 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from openreward_gym import export
from openreward_gym.importers import import_run
from openreward_gym.store import RolloutStore

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "export"))
from tiny_tokenizer import tiny_tokenizer

TEMPLATES = ("qwen3", "llama3_1", "gptoss")


def tokenizers_of(folders: list[Path]) -> dict[str, Any]:
    """Return tokenizers by name: those in `folders`, or one token a byte with templates of TRL."""
    if folders:
        from transformers import AutoTokenizer

        return {folder.name: AutoTokenizer.from_pretrained(folder) for folder in folders}
    texts = {name: (files("trl") / "chat_templates" / f"{name}.jinja").read_text("utf-8") for name in TEMPLATES}
    return {name: tiny_tokenizer(text, bos_token="<s>", eos_token="</s>") for name, text in texts.items()}


@dataclass
class Turn:
    """A message as the line has it."""

    role: str
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)


def text_of(content: Any, separator: str) -> str:
    if isinstance(content, str):
        return content
    return separator.join(part["text"] for part in content or () if isinstance(part.get("text"), str))


def turns_of(items: Any) -> list[Turn]:
    """Return the messages of items of OpenAI's Responses API; neighbouring items of the assistant are one message."""
    if isinstance(items, str):
        return [Turn("user", items)]
    turns: list[Turn] = []
    for item in items:
        kind, role = item.get("type", "message"), item.get("role")
        if kind == "function_call_output":
            output = item["output"]
            turns.append(Turn("tool", output if isinstance(output, str) else text_of(output, "\n")))
        elif kind == "message" and role != "assistant":
            turns.append(Turn("system" if role == "developer" else role, text_of(item.get("content"), "\n")))
        else:
            if not turns or turns[-1].role != "assistant":
                turns.append(Turn("assistant"))
            if kind == "message":
                turns[-1].text += text_of(item.get("content"), "")
            elif kind == "function_call":
                turns[-1].calls.append((item["name"], item["arguments"]))
            elif kind == "reasoning" and not item.get("encrypted_content"):
                turns[-1].reasoning += text_of(item.get("content") or item.get("summary"), "")
    return turns


def output_of(response: dict[str, Any]) -> list[Any]:
    """Return the items of a response; some agents write a list per step, each with the items of the steps before."""
    output = response.get("output") or []
    if not output or not all(isinstance(step, list) for step in output):
        return output
    grows = all(later[: len(step)] == step for step, later in pairwise(output))
    return output[-1] if grows else [item for step in output for item in step]


def conversation_of(line: dict[str, Any]) -> str:
    """Return input and output of a line as text."""
    return json.dumps([line["responses_create_params"].get("input"), line["response"].get("output")], sort_keys=True)


def is_same(message: dict[str, Any], turn: Turn) -> bool:
    """Return True if a chat message has the text, the reasoning and the calls of a turn, to the character."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return (
        text_of(message["content"], "" if turn.role == "assistant" else "\n") == turn.text
        and (message.get("reasoning_content") or "") == turn.reasoning
        and [(call["name"], call["arguments"]) for call in calls] == [(name, json.loads(text)) for name, text in turn.calls]
    )


class Comparison:
    """The counts of one file."""

    def __init__(self, file: Path, tokenizers: dict[str, Any]) -> None:
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        try:
            lines = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
        except ValueError:
            self.left_out["not lines of JSON"] += 1
            return
        with tempfile.TemporaryDirectory() as name:
            run = Path(name) / "run"
            damages = import_run("nemo-gym", file, run).damages
            damaged = {damage.line for damage in damages}
            self.counts["lines not imported"] = len(damages)
            self.left_out.update(damage.reason.split(":")[0] for damage in damages)
            if len(damages) == len(lines):
                return
            rollouts = list(RolloutStore(run))
            self.sources = {
                rollout.id: line
                for rollout, line in zip(rollouts, (line for n, line in enumerate(lines, 1) if n not in damaged), strict=True)
            }
            self.counts["rollouts"] = len(rollouts)
            out = Path(name) / "out"
            select = export.Select(status="any")
            report = export.write(run, out, ["sft", "prompts", "nemo_gym"], select)
            for form, part in report.formats.items():
                self.left_out.update({f"{form}: {reason}": count for reason, count in part.excluded.items()})
            self._sft(list(export.to_dataset(run, "sft", select)))
            self._prompts(list(export.to_dataset(run, "prompts", select)))
            self._nemo_gym(run)
            for template, tokenizer in tokenizers.items():
                rows, part = export.to_dataset(run, "tokens", select, tokenizer, return_report=True)
                self.left_out.update({f"tokens: {reason}": count for reason, count in part.excluded.items()})
                self._tokens(template, list(rows), tokenizer)

    def _parts(self, row: dict[str, Any]) -> tuple[list[Turn], list[Turn]]:
        line = self.sources[row["rollout_id"]]
        request = line["responses_create_params"]
        prompt = turns_of(request.get("input") or [])
        if request.get("instructions"):
            prompt.insert(0, Turn("system", request["instructions"]))
        output = turns_of(output_of(line["response"]))
        # Some environments put the prompt in front of the output: the prompt is everything before the model's first turn.
        while output and output[0].role != "assistant":
            prompt.append(output.pop(0))
        return prompt, output

    def _sft(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            prompt, output = self._parts(row)
            if any(turn.role == "assistant" for turn in prompt):
                self.counts["given turns trained"] += 1
            self.counts["sft rows"] += 1
            wanted = [*prompt, *output]
            for message, turn in zip(row["messages"], wanted, strict=False):
                self.counts["messages compared"] += 1
                if message["role"] != turn.role or not is_same(message, turn):
                    self.counts["messages changed"] += 1

    def _prompts(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            prompt, _ = self._parts(row)
            self.counts["prompts"] += 1
            same = len(prompt) == len(row["prompt"]) and all(map(is_same, row["prompt"], prompt))
            self.counts["prompts cut"] += not same

    def _nemo_gym(self, run: Path) -> None:
        rows = Counter(map(conversation_of, export.to_dataset(run, "nemo_gym", export.Select(status="any"))))
        self.counts["nemo_gym rows"] += rows.total()
        self.counts["messages changed"] += (Counter(map(conversation_of, self.sources.values())) - rows).total()

    def _tokens(self, template: str, rows: list[dict[str, Any]], tokenizer: Any) -> None:
        trained: dict[str, str] = {}
        for row in rows:
            text = tokenizer.decode([label for label in row["labels"] if label != -100])
            trained[row["rollout_id"]] = trained.get(row["rollout_id"], "") + text
        for rollout_id, text in trained.items():
            prompt, output = self._parts({"rollout_id": rollout_id})
            self.counts[f"tokens {template}"] += 1
            own = [words for turn in output if turn.role == "assistant" for words in words_of(turn)]
            self.counts["messages changed"] += sum(words not in text for words in own)
            arguments = [written for turn in output for _, written in turn.calls]
            others = [*prompt, *(turn for turn in output if turn.role != "assistant")]
            for words in (words for turn in others for words in words_of(turn)):
                if len(words) >= 12 and words in text and not any(words in mine for mine in [*own, *arguments]):
                    self.counts["given turns trained"] += 1


def words_of(turn: Turn) -> Iterator[str]:
    """Yield the texts of a turn as every template writes them: without white space around them; of calls, the names."""
    yield from filter(None, (turn.text.strip(), turn.reasoning.strip(), *(name for name, _ in turn.calls)))


def main() -> None:
    warnings.simplefilter("ignore", export.LeftOutWarning)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--tokenizer", action="append", type=Path, default=[], metavar="FOLDER", help="may be repeated")
    parser.add_argument("--markdown", action="store_true", help="write the table as Markdown")
    arguments = parser.parse_args()
    tokenizers = tokenizers_of(arguments.tokenizer)
    sources = [file for path in arguments.paths for file in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    columns = [
        "rollouts",
        "sft rows",
        "messages compared",
        "prompts",
        "nemo_gym rows",
        *(f"tokens {name}" for name in tokenizers),
    ]
    columns += ["given turns trained", "prompts cut", "messages changed"]
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    rows = [["file", *columns]]
    for file in sources:
        comparison = Comparison(file, tokenizers)
        totals += comparison.counts
        reasons += comparison.left_out
        if comparison.counts["rollouts"]:
            rows.append([file.name, *(str(comparison.counts[column]) for column in columns)])
    rows.append([f"{len(sources)} files", *(str(totals[column]) for column in columns)])
    separator = " | " if arguments.markdown else "\t"
    for number, row in enumerate(rows):
        print(f"| {separator.join(row)} |" if arguments.markdown else separator.join(row))
        if arguments.markdown and number == 0:
            print("|" + " --- |" * len(row))
    for reason, count in reasons.most_common():
        print(f"  left out {count:>5}  {reason}")
    sys.exit(1 if any(totals[name] for name in ("given turns trained", "prompts cut", "messages changed")) else 0)


if __name__ == "__main__":
    main()
