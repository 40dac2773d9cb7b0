"""A tokenizer made on the spot: one token a byte, and the control tokens that a chat template writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

_CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\|[a-z_\"]{1,20}>|<[a-z_]{1,20}\|>|<｜[^<>\s]{1,40}｜>|<(?:start|end)_of_(?:turn|image)>"
)

CHATML = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{% endfor %}{{- '<|im_end|>\\n' }}
{%- endif %}{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}
{{- message.content }}{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""A template with no quirks."""

VISION = CHATML.replace(
    "{{- message.content }}",
    "{%- if message.content is string %}{{- message.content }}{%- else %}{%- for part in message.content %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}{%- endfor %}{%- endif %}",
)
"""The same, of a vision model."""


def tiny_tokenizer(template: str = CHATML, special: Sequence[str] = (), **variables: str) -> Any:
    """A tokenizer with `template`; `variables`: bos_token and eos_token, where the template needs them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = sorted({*_CONTROL.findall(template), *special, *variables.values()})
    tokenizer.add_special_tokens(control)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=control, **variables)
    fast.chat_template = template
    return fast
