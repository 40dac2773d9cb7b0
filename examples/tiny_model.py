"""A model and a tokenizer that are small enough for any CPU: the default of the training examples.

The model is random, but for one thing: it ends an answer after one printable character. So its answers are whole, as a trainer
needs them, and the built-in environment `bandit`, which rewards a character, can be learned in some steps.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CHAT_TEMPLATE = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{% endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}{%- if message.role == 'assistant' %}{% generation %}
{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</tool_call>' }}{%- endfor %}
{{- '<|im_end|>' }}{% endgeneration %}{%- else %}{{- message.content }}{{- '<|im_end|>' }}{%- endif %}{{- '\\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def trains_on_cpu(model: str) -> bool:
    """Return whether the model is trained on the CPU: the tiny one always, another one where there is no GPU."""
    return model == "tiny" or not torch.cuda.is_available()


def model_and_tokenizer(name: str) -> tuple[Any, Any]:
    """Load the model and tokenizer of a name or folder; "tiny" makes a model with one token per byte."""
    if name != "tiny":
        return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>", additional_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return brief(Qwen2ForCausalLM(config), tokenizer), tokenizer


def brief(model: Any, tokenizer: Any, steps: int = 60) -> Any:
    """Train a random model to answer any conversation with one printable character, all of them alike, and an end token."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them cost more than they bring for a model of this size
    turn = torch.tensor(tokenizer.encode("<|im_start|>assistant\n")).expand(8, -1)
    printable = torch.tensor(tokenizer.encode("".join(map(chr, range(33, 127)))))
    end = torch.full((8, 1), tokenizer.eos_token_id)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        conversation = torch.randint(0, 256, (8, int(torch.randint(8, 64, ()))))
        answer = torch.cat([printable[torch.randint(0, len(printable), (8, 1))], end], dim=1)
        logits = model(torch.cat([conversation, turn, answer], dim=1)).logits[:, -3:-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answer.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.zero_grad()
    torch.set_num_threads(threads)
    return model
