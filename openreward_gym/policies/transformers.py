"""A model on this machine, through `transformers`: its own chat template, and answers for many episodes in one batch."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.chat import to_openai
from openreward_gym.errors import ConfigurationError, ContextOverflowError, MissingExtraError
from openreward_gym.policies.base import Transcript
from openreward_gym.policies.model import NO_ARGUMENTS
from openreward_gym.types import AssistantMessage, Block, Json, ReasoningItem, Sampled, TextBlock, ToolCall, ToolSet, Usage

_THOUGHT = re.compile(r"^\s*(?:<think>)?(?P<thought>.*?)</think>\s*", re.DOTALL)
_CALL = re.compile(r"<tool_call>(?P<call>.*?)(?:</tool_call>|$)", re.DOTALL)


@dataclass(slots=True)
class _Asked:
    """A prompt that waits for its place in a batch."""

    prompt: list[int]
    answer: asyncio.Future[Generated]


@dataclass(frozen=True, slots=True)
class Generated:
    """What the model said to a prompt: token ids with the natural logarithms of their probabilities, the end token included."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool


class TransformersPolicy:
    """A causal language model of `transformers`; prompts that arrive while it computes make the next batch.

    Args:
        model: A folder or a name on the hub.
        batch_size: Most prompts at once.
        max_new_tokens: Most tokens of an answer.
        temperature: 0 takes the likeliest token each time.
        top_p, top_k: As in `transformers`; None leaves them out.
        max_context: Tokens that prompt and answer may have together; None takes the model's own.
        device: "cpu", "cuda", ...; None takes what there is.
        dtype: As in `transformers`.
        seed: Of the sampling. Batches form as episodes go, so runs are not the same token by token.

    Raises:
        MissingExtraError: torch is not installed.
        ConfigurationError: The model cannot be loaded, or has no chat template.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        batch_size: int = 16,
        max_new_tokens: int = 1024,
        temperature: float = 1.0,
        top_p: float | None = None,
        top_k: int | None = None,
        max_context: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        seed: int = 0,
    ) -> None:
        if url is not None:
            raise ConfigurationError("transformers:PATH runs on this machine and takes no policy_url; openai:MODEL asks a server")
        self.name = f"transformers:{model}"
        self.model = model
        self.batch_size = batch_size
        drawn = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
        self._sampling = {name: value for name, value in drawn.items() if value is not None} if temperature > 0 else {}
        self.settings = {
            "model": {"name": model, "provider": "transformers"},
            "sampling": {"max_new_tokens": max_new_tokens, "temperature": temperature, **self._sampling, "seed": seed},
        }
        self.max_new_tokens = max_new_tokens
        try:
            self._torch: Any = importlib.import_module("torch")
            library: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise MissingExtraError(f"a local model needs torch ({error}): pip install 'openreward-gym[train]'") from None
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(model, padding_side="left")
            self._model = library.AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the model {model!r} cannot be loaded: {error}") from None
        if not self._tokenizer.chat_template:
            raise ConfigurationError(f"the model {model!r} has no chat template: take one that was trained to converse")
        if device is None:
            device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model.to(device)
        self._torch.manual_seed(seed)
        self.max_context = max_context or int(getattr(self._model.config, "max_position_embeddings", 1 << 30))
        self._waiting: list[_Asked] = []
        self._computing: asyncio.Task[None] | None = None

    async def __call__(self, transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        """The model's next message, with its token ids and their log-probabilities.

        Raises:
            ContextOverflowError: Prompt and answer no longer fit.
        """
        begun = time.perf_counter()
        prompt = self.prompt(transcript, tools)
        if len(prompt) + self.max_new_tokens > self.max_context:
            raise ContextOverflowError(
                f"{self.name}: a prompt of {len(prompt)} tokens and an answer of up to {self.max_new_tokens} do not fit in "
                f"{self.max_context}",
                kind="context_overflow",
            )
        loop = asyncio.get_running_loop()
        asked = _Asked(prompt, loop.create_future())
        self._waiting.append(asked)
        if self._computing is None or self._computing.done():
            self._computing = loop.create_task(self._compute())
        said = await asked.answer
        text = self._tokenizer.decode(said.token_ids, skip_special_tokens=False)
        sampled = Sampled(
            usage=Usage(len(prompt), len(said.token_ids)),
            stop_reason="stop" if said.finished else "length",
            token_ids=said.token_ids,
            logprobs=said.logprobs,
            prompt_token_ids=tuple(prompt),
            model=self.model,
            duration_s=time.perf_counter() - begun,
        )
        return AssistantMessage(read_answer(self._without_special(text)), sampled=sampled)

    def prompt(self, transcript: Transcript, tools: ToolSet) -> list[int]:
        """The transcript as the model's template has it, tools included, up to where the assistant begins."""
        functions = [
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.input_schema or NO_ARGUMENTS)}
            for tool in tools
        ]
        text = self._tokenizer.apply_chat_template(
            [_for_template(message) for message in to_openai(transcript, reasoning="reasoning_content")],
            tools=[{"type": "function", "function": function} for function in functions] or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    async def _compute(self) -> None:
        """Answer what waits, batch after batch."""
        while self._waiting:
            batch = [asked for asked in self._waiting[: self.batch_size] if not asked.answer.done()]
            del self._waiting[: self.batch_size]
            if not batch:
                continue
            try:
                answers = await asyncio.to_thread(self.generate, [asked.prompt for asked in batch])
            except Exception as error:  # whatever the model raises is its askers' to hear
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)
                continue
            for asked, answer in zip(batch, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[Generated]:
        """The model's answers to prompts of token ids, in their order."""
        torch = self._torch
        ends = self._end_tokens()
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else min(ends, default=0)
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=self._model.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self._model.device)
        how = {"do_sample": True, **self._sampling} if self._sampling else {"do_sample": False}
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=pad,
                eos_token_id=sorted(ends) or None,
                return_dict_in_generate=True,
                output_scores=True,
                **how,
            )
        drawn = output.sequences[:, longest:]
        logprobs = torch.stack([torch.log_softmax(scores.float(), -1) for scores in output.scores], 1)
        chosen = logprobs.gather(2, drawn.unsqueeze(2)).squeeze(2)
        return [_cut(tokens, values, ends) for tokens, values in zip(drawn.tolist(), chosen.tolist(), strict=True)]

    def _end_tokens(self) -> set[int]:
        given = self._model.generation_config.eos_token_id
        ends = set(given) if isinstance(given, list) else {given} if given is not None else set()
        return ends | ({self._tokenizer.eos_token_id} - {None})

    def _without_special(self, text: str) -> str:
        """`text` without the tokens that end or fill it; tags of thoughts and calls, special or not, stay."""
        for token in (self._tokenizer.eos_token, self._tokenizer.pad_token, self._tokenizer.bos_token):
            text = text.replace(token, "") if token else text
        return text


def _cut(tokens: list[int], logprobs: list[float], ends: set[int]) -> Generated:
    """A row of a batch up to its end token; what follows it is filling."""
    stop = next((place + 1 for place, token in enumerate(tokens) if token in ends), None)
    return Generated(tuple(tokens[:stop]), tuple(logprobs[:stop]), stop is not None)


def _for_template(message: dict[str, Json]) -> dict[str, Json]:
    """A chat message as templates read it: text as text, arguments as objects."""
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "[image]")) for part in content)
    found = {**message, "content": content}
    if message.get("tool_calls"):
        found["tool_calls"] = [_with_object(call) for call in message["tool_calls"]]
    return found


def _with_object(call: dict[str, Json]) -> dict[str, Json]:
    function = dict(call.get("function") or {})
    try:
        function["arguments"] = json.loads(function["arguments"])
    except (KeyError, ValueError):
        pass  # as the model wrote it
    return {**call, "function": function}


def read_answer(text: str) -> list[Block]:
    """An answer as blocks: thoughts in `<think>`, calls in `<tool_call>` (as Qwen, Hermes and many others write them), text.

    A call whose JSON is not a call's stays one, malformed, where its name can be read: the environment answers it. What
    names no tool is text.
    """
    blocks: list[Block] = []
    thought = _THOUGHT.match(text)
    if thought is not None:
        if thought["thought"].strip():
            blocks.append(ReasoningItem(thought["thought"].strip()))
        text = text[thought.end() :]
    said = 0
    number = 0
    for match in _CALL.finditer(text):
        call = _call_of(match["call"].strip(), f"call_{number}")
        if call is None:
            continue
        number += 1
        if text[said : match.start()].strip():
            blocks.append(TextBlock(text[said : match.start()].strip()))
        blocks.append(call)
        said = match.end()
    if text[said:].strip():
        blocks.append(TextBlock(text[said:].strip()))
    return blocks


def _call_of(text: str, call_id: str) -> ToolCall | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        name = re.search(r'"name"\s*:\s*"([^"]+)"', text)
        return None if name is None else ToolCall(name[1], None, call_id, text)
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return None
    arguments = data.get("arguments", data.get("parameters", {}))
    if isinstance(arguments, dict):
        return ToolCall(data["name"], arguments, call_id)
    return ToolCall(data["name"], None, call_id, arguments if isinstance(arguments, str) else json.dumps(arguments))
