"""Speed and memory of `export`, side by side with the constructors of `datasets` and with a tokenizer alone.

    python benchmarks/export.py [--rollouts 20000] [--turns 10] [--rounds 3] [--only write,generator,list,tokens,tokenizer]

Rollouts of 22 messages (10 turns with reasoning and one call each, 10 results), about 17 KB each, are read from a store on
disk. Each measurement is a separate process; Arrow has one thread, and `write` compresses in another one. The methods take
turns. CPU seconds are those of `process_time`; memory is the peak of the process above its memory after the imports.

Results on a shared virtual machine with two cores (load 1 to 5; Python 3.11, datasets 5.2, pyarrow 26, transformers
5.23), 20,000 rollouts, medians of 2 to 4 rounds:

    write            4,456 rollouts per CPU second  +60 MB   1.37 times `generator` (other runs: 1.35, 1.44; at load 13: 1.23)
    generator        3,246                        +100 MB   `Dataset.from_generator` with the same rows
    generator_typed  3,590                         +67 MB   `from_generator` with explicit features
    list             2,947                      +1,908 MB   `Dataset.from_list`: 32 times the memory of `write`
    tokens             285                         +80 MB   0.77 of `tokenizer` (other runs: 0.76 to 0.84), 1.30 times `template`
    tokenizer          369                                  the tokenizer alone, on texts that are already rendered
    template           220                                  `apply_chat_template` into ids, without labels

Side by side with the state before messages had an origin, in turns, on another machine of two cores with nothing else running
(Python 3.11, 3,000 rollouts, medians of three rounds): `write` 1,844 rollouts per second and 1,594 per CPU second, before
1,999 and 2,001; memory +35 MB, before +39 MB. `generator` (6,000 rollouts, one round) 1,573, before 1,745. A record is 5 %
longer. Timed by stage, 4 % of the CPU time are new for the order of the rows (a look at the head of each line), 4 % for the
conversion (origin, weight, end, repeated keys); the rest is spread over splits, counts and the thread. `write` is no longer
1.4 times `generator`: 45 % of it are reading and conversion, which both share, and 16 % compression, which `generator` does
not do.

By a profile of `tokens`, a half of its time is the tokenizer's, a third is that of transformers' `apply_chat_template` (which
copies all messages before it renders them), and a tenth that of the audit.
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
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    ReasoningItem,
    Rollout,
    Sampled,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
)

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


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def rollout(number: int, turns: int) -> Rollout:
    rng = random.Random(number)
    messages: list[Message] = [
        SystemMessage(text(rng, 100), origin="given"),
        UserMessage(text(rng, 60), origin="given"),
    ]
    sampled = Sampled(usage=Usage(input_tokens=100, output_tokens=60))
    for turn in range(turns):
        arguments = {"command": text(rng, 8), "timeout_s": round(rng.random() * 60, 3), "n": turn}
        call = ToolCall("bash", arguments, call_id=f"c{turn}", content=json.dumps(arguments))
        blocks: list[Block] = [ReasoningItem(text(rng, 40)), TextBlock(text(rng, 10)), call]
        messages.append(AssistantMessage(blocks, origin="policy", ended="tool_calls", sampled=sampled))
        messages.append(ToolMessage(text(rng, 170), call.call_id, "bash", origin="environment"))
    return Rollout(
        messages=messages, tools=[TOOL], status="completed", reward=rng.random(), final_reward=1.0, group=f"g{number // 4}"
    )


def make_store(folder: Path, count: int, turns: int) -> None:
    with RolloutStore(folder) as store:
        for number in range(count):
            store.append(rollout(number, turns))


def rows_of(folder: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the `sft` format as dictionaries, as a hand-written exporter would pass them to `datasets`."""
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
    """Train a byte-level BPE tokenizer with 8,000 tokens on the store's first rollouts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator((str(row) for _, row in zip(range(200), rows_of(folder), strict=False)), trainer)
    special = ["<|im_start|>", "<|im_end|>"]
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=special)
    fast.chat_template = TEMPLATE
    return fast


def by_tokens(folder: str, output: str) -> int:
    return export.write(folder, output, formats=["tokens"], tokenizer=tokenizer(folder)).rows["tokens"]


def by_tokenizer(folder: str, output: str) -> int:
    """Run the tokenizer alone on the same texts, already rendered, in batches of a hundred."""
    fast = tokenizer(folder)
    texts = [fast.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False) for row in rows_of(folder)]
    begin, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(texts), 100):
        for encoding in fast.backend_tokenizer.encode_batch_fast(texts[start : start + 100], add_special_tokens=False):
            encoding.ids  # noqa: B018 - reading the ids is part of the work
    print(json.dumps({"alone_s": time.perf_counter() - begin, "alone_cpu_s": time.process_time() - cpu}))
    return len(texts)


def by_template(folder: str, output: str) -> int:
    """Render each conversation into ids with the tokenizer's chat template, without labels, as a hand-written exporter does."""
    fast = tokenizer(folder)
    return sum(1 for row in rows_of(folder) if fast.apply_chat_template(row["messages"], tools=row["tools"], return_dict=True))


METHODS: dict[str, Callable[[str, str], int]] = {
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


def measure(method: str, folder: str) -> None:
    """Run one method and print its figures. Called in a separate process."""
    import datasets
    import pyarrow.parquet

    assert pyarrow.parquet
    datasets.disable_progress_bars()
    if method in TOKENIZED:
        import transformers

        assert transformers.PreTrainedTokenizerFast
        tokenizer(folder)
    imported = resident_mb()
    with tempfile.TemporaryDirectory() as output:
        begin, cpu = time.perf_counter(), time.process_time()
        count = METHODS[method](folder, output)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"rows": count, "seconds": seconds, "cpu_s": cpu, "memory_mb": peak - imported}))


def in_a_process(method: str, folder: Path) -> dict[str, float]:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "ARROW_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--measure", method, str(folder)], check=True, capture_output=True, text=True, env=environment
    )
    figures: dict[str, float] = {}
    for line in done.stdout.splitlines():
        figures.update(json.loads(line))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--tokenized", type=int, default=3000, help="rollouts for tokens, tokenizer and template")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per method, in turns")
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        make_store(many, options.rollouts, options.turns)
        make_store(few, options.tokenized, options.turns)
        size = sum(file.stat().st_size for file in many.rglob("*.jsonl"))
        print(f"{options.rollouts} rollouts, {2 + 2 * options.turns} messages each, {size / options.rollouts / 1000:.1f} KB each")
        results: dict[str, list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for method in options.only.split(","):
                results.setdefault(method, []).append(run(method, few if method in TOKENIZED else many))
    compare(
        {method: (median(speed for speed, _ in runs), median(memory for _, memory in runs)) for method, runs in results.items()}
    )


def run(method: str, folder: Path) -> tuple[float, float]:
    """Return rollouts per CPU second, and the memory in MB, of one method."""
    figures = in_a_process(method, folder)
    seconds, cpu = figures.get("alone_s", figures["seconds"]), figures.get("alone_cpu_s", figures["cpu_s"])
    speed = figures["rows"] / cpu
    print(
        f"{method:16} {figures['rows'] / seconds:7.0f} rollouts/s  {speed:7.0f} per CPU second  +{figures['memory_mb']:5.0f} MB",
        flush=True,
    )
    return speed, figures["memory_mb"]


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
