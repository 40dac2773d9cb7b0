"""How fast rollouts become training data, and in how much memory; side by side with `datasets`' own ways.

    python benchmarks/export.py [--rollouts 20000] [--turns 10] [--rounds 3] [--only write,generator,list,tokens,tokenizer]

Rollouts of 22 messages (10 turns with reasoning and a call each, 10 results), about 17 KB each, are read from a store on
disk. Each measurement is a process of its own with one thread, the ways in turn, CPU seconds by `process_time`; memory is its
peak above what it had after its imports.

Seen on a virtual machine of two cores that others used too (load 1 to 5; Python 3.11, datasets 5.2, pyarrow 26, transformers
5.23), 20,000 rollouts, medians of 2 to 4 rounds:

    write            4,456 rollouts a CPU second   +60 MB   1.37 times `generator` (other runs: 1.35, 1.44; at load 13: 1.23)
    generator        3,246                        +100 MB   `Dataset.from_generator`, given the same rows
    generator_typed  3,590                         +67 MB   the same with explicit features
    list             2,947                      +1,908 MB   `Dataset.from_list`: 32 times the memory of `write`
    tokens             285                         +80 MB   0.77 of `tokenizer` (other runs: 0.76 to 0.80), 1.30 times `template`
    tokenizer          369                                  its bare encoding of texts that are rendered already
    template           220                                  `apply_chat_template` into ids, without labels
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from openreward_gym import export
from openreward_gym.export.conversation import conversation_of
from openreward_gym.export.reader import RolloutReader
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Block, Message, ReasoningItem, Rollout, TextBlock, ToolCall, ToolSpec, Usage

TEMPLATE = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{% endfor %}{{- '<|im_end|>\\n' }}
{%- endif %}{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "st", "ing", "tion")]
TOOL = ToolSpec(
    name="bash",
    description="Run a command",
    input_schema={"type": "object", "properties": {"command": {"type": "string"}, "timeout_s": {"type": "number"}}},
)


def text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def rollout(number: int, turns: int) -> Rollout:
    chance = random.Random(number)
    messages = [
        Message(role="system", blocks=(TextBlock(text=text(chance, 100)),)),
        Message(role="user", blocks=(TextBlock(text=text(chance, 60)),)),
    ]
    for turn in range(turns):
        arguments = {"command": text(chance, 8), "timeout_s": round(chance.random() * 60, 3), "n": turn}
        call = ToolCall(call_id=f"c{turn}", name="bash", arguments=arguments, content=json.dumps(arguments))
        said: list[Block] = [ReasoningItem(content=text(chance, 40)), TextBlock(text=text(chance, 10)), call]
        messages.append(Message(role="assistant", blocks=said, usage=Usage(input_tokens=100, output_tokens=60)))
        answer = TextBlock(text=text(chance, 170))
        messages.append(Message(role="tool", call_id=f"c{turn}", name="bash", blocks=(answer,)))
    return Rollout(
        messages=messages, tools=[TOOL], status="completed", reward=chance.random(), final_reward=1.0, group=f"g{number // 4}"
    )


def make_store(folder: Path, count: int, turns: int) -> None:
    with RolloutStore(folder) as store:
        for number in range(count):
            store.append(rollout(number, turns))


def rows_of(folder: str) -> Iterator[dict[str, Any]]:
    """The rows of the `sft` format as plain dictionaries: what a hand-written exporter would hand to `datasets`."""
    source = RolloutReader.of(folder)
    for number in range(len(source)):
        record, utf8 = source.read(number)
        conversation = conversation_of(record, source.image, utf8=utf8)
        yield {"messages": conversation.messages, "tools": conversation.tools, "rollout_id": record["id"]}


def by_write(folder: str, output: str) -> int:
    return export.write(folder, output, formats=["sft"]).rows["sft"]


def by_dataset(folder: str, output: str) -> int:
    return len(export.to_dataset(folder))


def by_generator(folder: str, output: str) -> int:
    from datasets import Dataset

    return len(Dataset.from_generator(rows_of, gen_kwargs={"folder": folder}, cache_dir=output))


def by_generator_typed(folder: str, output: str) -> int:
    from datasets import Dataset

    features = export.to_dataset([rollout(0, 1)]).features
    return len(Dataset.from_generator(rows_of, gen_kwargs={"folder": folder}, cache_dir=output, features=features))


def by_list(folder: str, output: str) -> int:
    from datasets import Dataset

    return len(Dataset.from_list(list(rows_of(folder))))


@cache
def tokenizer(folder: str) -> Any:
    """A byte-level BPE tokenizer with 8,000 tokens, trained on the store's first rollouts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator((str(row) for _, row in zip(range(200), rows_of(folder), strict=False)), trainer)
    special = ["<|im_start|>", "<|im_end|>"]
    found = PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=special)
    found.chat_template = TEMPLATE
    return found


def by_tokens(folder: str, output: str) -> int:
    return export.write(folder, output, formats=["tokens"], tokenizer=tokenizer(folder)).rows["tokens"]


def by_tokenizer(folder: str, output: str) -> int:
    """The tokenizer alone: the same texts, already rendered, in batches of a hundred."""
    own = tokenizer(folder)
    texts = [own.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False) for row in rows_of(folder)]
    begin, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(texts), 100):
        for encoding in own.backend_tokenizer.encode_batch_fast(texts[start : start + 100], add_special_tokens=False):
            encoding.ids  # noqa: B018 - reading the ids is part of the work
    print(json.dumps({"alone_s": time.perf_counter() - begin, "alone_cpu_s": time.process_time() - cpu}))
    return len(texts)


def by_template(folder: str, output: str) -> int:
    """What a hand-written exporter does: each conversation through the tokenizer's chat template into ids, without labels."""
    own = tokenizer(folder)
    return sum(1 for row in rows_of(folder) if own.apply_chat_template(row["messages"], tools=row["tools"], return_dict=True))


WAYS: dict[str, Callable[[str, str], int]] = {
    "write": by_write,
    "to_dataset": by_dataset,
    "generator": by_generator,
    "generator_typed": by_generator_typed,
    "list": by_list,
    "tokens": by_tokens,
    "tokenizer": by_tokenizer,
    "template": by_template,
}


TOKENIZED = ("tokens", "tokenizer", "template")


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def measure(way: str, folder: str) -> None:
    """In a process of its own: run one way and print what it took."""
    import datasets
    import pyarrow.parquet

    assert pyarrow.parquet
    datasets.disable_progress_bars()
    if way in TOKENIZED:
        import transformers

        assert transformers.PreTrainedTokenizerFast
        tokenizer(folder)
    imported = resident_mb()
    with tempfile.TemporaryDirectory() as output:
        begin, cpu = time.perf_counter(), time.process_time()
        count = WAYS[way](folder, output)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"rows": count, "seconds": seconds, "cpu_s": cpu, "memory_mb": peak - imported}))


def in_a_process(way: str, folder: Path) -> dict[str, float]:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "ARROW_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--measure", way, str(folder)], check=True, capture_output=True, text=True, env=environment
    )
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        found.update(json.loads(line))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--tokenized", type=int, default=3000, help="rollouts for tokens, tokenizer and template")
    parser.add_argument("--rounds", type=int, default=3, help="each way so often, in turn")
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        make_store(many, given.rollouts, given.turns)
        make_store(few, given.tokenized, given.turns)
        size = sum(file.stat().st_size for file in many.rglob("*.jsonl"))
        print(f"{given.rollouts} rollouts, {2 + 2 * given.turns} messages each, {size / given.rollouts / 1000:.1f} KB each")
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(given.rounds):
            for way in given.only.split(","):
                found.setdefault(way, []).append(run(way, few if way in TOKENIZED else many))
    compare({way: (median(speed for speed, _ in runs), median(memory for _, memory in runs)) for way, runs in found.items()})


def run(way: str, folder: Path) -> tuple[float, float]:
    """(rollouts a CPU second, MB) of one way."""
    found = in_a_process(way, folder)
    seconds, cpu = found.get("alone_s", found["seconds"]), found.get("alone_cpu_s", found["cpu_s"])
    speed = found["rows"] / cpu
    print(
        f"{way:16} {found['rows'] / seconds:7.0f} rollouts/s  {speed:7.0f} per CPU second  +{found['memory_mb']:5.0f} MB",
        flush=True,
    )
    return speed, found["memory_mb"]


def compare(medians: dict[str, tuple[float, float]]) -> None:
    for ours, other in (
        ("write", "generator"),
        ("write", "generator_typed"),
        ("write", "list"),
        ("tokens", "tokenizer"),
        ("tokens", "template"),
    ):
        if ours in medians and other in medians:
            (speed, memory), (other_speed, other_memory) = medians[ours], medians[other]
            print(f"{ours} is {speed / other_speed:.2f} times as fast as {other}, in {memory / other_memory:.2f} of its memory")


if __name__ == "__main__":
    main()
