"""Policy for a model on this machine, through `transformers`: it uses the model's chat template and batches episodes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from openreward_gym.chat.dialect import ended_of
from openreward_gym.chat.history import ID_REFUSED, NINE_CHARACTERS, TEMPLATE_RULES, receive_calls
from openreward_gym.chat.templates import template_messages
from openreward_gym.errors import ConfigurationError, ContextOverflowError, MessageError, MissingExtraError, PolicyError
from openreward_gym.jsonio import escape_surrogates
from openreward_gym.policies.functions import function_specs
from openreward_gym.policies.parameters import extensions, unsupported
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Json,
    ReasoningItem,
    Sampled,
    TextBlock,
    ToolCall,
    ToolSet,
    Usage,
)

# The line breaks are the tags' own: the chat templates of these models write them.
_THOUGHT = re.compile(r"^\s*+(?:<think>\n?)?(?P<thought>.*?)\n?</think>\n{0,2}", re.DOTALL)
_CALL = re.compile(r"\n?<tool_call>(?P<call>.*?)(?:</tool_call>|$)", re.DOTALL)
_MOST_PLACES = 16
DEFAULT_NEW_TOKENS = 1024
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')
_OF_THE_CALL = frozenset(("tools", "tokenize", "add_generation_prompt", "conversation"))


@dataclass(frozen=True, slots=True)
class Generated:
    """A model's answer: token ids with the natural logarithms of their probabilities, the end token included."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """The settings of a batch: the largest number of tokens of an answer, and the arguments of sampling; none of it is greedy."""

    max_new_tokens: int
    sampling: tuple[tuple[str, Any], ...] = ()


class TransformersPolicy:
    """A causal language model of `transformers`. Prompts that arrive during a computation form the next batch.

    Args:
        model: A folder, or a name on the HuggingFace Hub.
        batch_size: Largest number of prompts in a batch.
        max_new_tokens: Largest number of tokens of an answer. None takes 1024.
        temperature: Sampling temperature. 0 takes the most likely token each time. None takes 1.
        top_p, top_k: As in `transformers`. None omits them.
        max_context: Limit on the tokens of prompt and answer together. None takes the model's own.
        device: "cpu", "cuda", ... None takes "cuda" if it is available.
        dtype: As in `transformers`.
        chat_template_kwargs: Options of the chat template (`{"enable_thinking": False}`). They are recorded with the sampling
            parameters, and exports render the rollouts with them.
        seed: Seed of the sampling. Batches form as episodes proceed, so two runs do not agree token by token.

    Raises:
        MissingExtraError: torch is not installed.
        ConfigurationError: The model cannot be loaded, or has no chat template; or an argument is wrong.

    Example:
        >>> from openreward_gym.policies import resolve  # doctest: +SKIP
        >>> policy = resolve("transformers:Qwen/Qwen3-0.6B", temperature=0.7)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        batch_size: int = 16,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        max_context: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        chat_template_kwargs: Mapping[str, Json] | None = None,
        seed: int = 0,
    ) -> None:
        if url is not None:
            raise ConfigurationError("transformers:PATH runs on this machine, without policy_url. Use openai:MODEL for a server.")
        self.name = f"transformers:{model}"
        self.model = model
        self.batch_size = batch_size
        self._top_k, self._seed = top_k, seed
        limit = DEFAULT_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        self._set(limit, 1.0 if temperature is None else temperature, top_p, _checked_options(chat_template_kwargs))
        self._rules = TEMPLATE_RULES
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
            raise ConfigurationError(f"the model {model!r} has no chat template: choose a model that was trained for chat")
        if device is None:
            device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model.to(device)
        self._torch.manual_seed(seed)
        self.max_context = max_context or int(getattr(self._model.config, "max_position_embeddings", 1 << 30))
        # Prompts that wait for a batch, each with the future that gets its answer.
        self._waiting: list[tuple[Generation, list[int], asyncio.Future[Generated]]] = []
        self._computing: asyncio.Task[None] | None = None
        self._base: TransformersPolicy = self  # the one whose model, and whose batches, a policy with other parameters uses
        self._options = _given(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p)

    def _set(self, max_new_tokens: int, temperature: float, top_p: float | None, template_options: dict[str, Json]) -> None:
        """Set the sampling parameters, and describe them for the record."""
        parameters = {"temperature": temperature, "top_p": top_p, "top_k": self._top_k} if temperature > 0 else {}
        used = {name: value for name, value in parameters.items() if value is not None}
        self.max_new_tokens, self._template_options = max_new_tokens, template_options
        self._generation = Generation(max_new_tokens, tuple(used.items()))
        sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, **used, "seed": self._seed}
        if template_options:
            sampling["chat_template_kwargs"] = template_options
        self.settings = {"model": {"name": self.model, "provider": "transformers"}, "sampling": sampling}

    def with_parameters(self, parameters: Mapping[str, Json]) -> Self:
        """Return this policy with parameters of a request, in the names of OpenAI's Responses API.

        These are temperature, top_p, max_output_tokens, and the `chat_template_kwargs` of its metadata. The policy uses the same
        model, and batches of it. A parameter that this policy has by an option keeps its value.

        Raises:
            ConfigurationError: There is nothing for a parameter.
        """
        own = dict(parameters)
        body, metadata = extensions(own.pop("metadata", {}))
        template_options = _checked_options(body.pop("chat_template_kwargs", None))
        for name, value in [*body.items(), *metadata.items(), *own.items()]:
            if name not in ("temperature", "top_p", "max_output_tokens"):
                raise unsupported(name, value, self.name, "a model on this machine has no such parameter")
        limit = self._options.get("max_new_tokens", own.get("max_output_tokens", self.max_new_tokens))
        temperature, top_p = (self._options.get(name, own.get(name)) for name in ("temperature", "top_p"))
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._set(limit, 1.0 if temperature is None else temperature, top_p, {**template_options, **self._template_options})
        return other

    async def __call__(self, transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        """Return the model's next message, with its token ids and their log-probabilities.

        Raises:
            ContextOverflowError: Prompt and answer no longer fit into the context window.
            PolicyError: The transcript has an image or another part that is no text.
        """
        begun = time.perf_counter()
        prompt = self.prompt(transcript, tools)
        if len(prompt) + self.max_new_tokens > self.max_context:
            raise ContextOverflowError(
                f"{self.name}: a prompt of {len(prompt)} tokens and an answer of up to {self.max_new_tokens} exceed the "
                f"context window of {self.max_context} tokens",
                kind="context_overflow",
            )
        generated = await self._base._answer(self._generation, prompt)
        text = self._tokenizer.decode(generated.token_ids, skip_special_tokens=False)
        sampled = Sampled(
            usage=Usage(len(prompt), len(generated.token_ids)),
            stop_reason="stop" if generated.finished else "length",
            token_ids=generated.token_ids,
            logprobs=generated.logprobs,
            prompt_token_ids=tuple(prompt),
            model=self.model,
            duration_s=time.perf_counter() - begun,
        )
        for token in (self._tokenizer.eos_token, self._tokenizer.pad_token, self._tokenizer.bos_token):
            # Other special tokens stay, because the tags of thoughts and calls may be special tokens.
            text = text.replace(token, "") if token else text
        # The numbers that calls have as ids begin again with each turn.
        blocks = [replace(block, call_id="") if isinstance(block, ToolCall) else block for block in read_answer(text)]
        message = AssistantMessage(blocks, sampled=sampled, ended=ended_of(sampled.stop_reason, blocks))
        return receive_calls(message, transcript, self._rules)

    async def _answer(self, generation: Generation, prompt: list[int]) -> Generated:
        """Return the model's answer to a prompt, which waits for the next batch with these settings."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Generated] = loop.create_future()
        self._waiting.append((generation, prompt, answer))
        if self._computing is None or self._computing.done():
            self._computing = loop.create_task(self._compute())
        return await answer

    def prompt(self, transcript: Transcript, tools: ToolSet) -> list[int]:
        """Render the transcript and the tools with the model's chat template, up to the start of the assistant's turn.

        Raises:
            PolicyError: The transcript has an image or another part that is no text.
        """
        try:
            text = self._render(transcript, tools)
        except Exception as error:  # templates raise exceptions of Jinja's, of `transformers` and of their own
            if self._rules != TEMPLATE_RULES or not ID_REFUSED.search(str(error)):
                raise
            self._rules = replace(TEMPLATE_RULES, call_id=NINE_CHARACTERS.call_id, any_call=True)
            text = self._render(transcript, tools)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _render(self, transcript: Transcript, tools: ToolSet) -> str:
        try:
            history = template_messages(transcript, self._rules)
        except MessageError as error:
            raise PolicyError(
                f"{self.name} reads text only, but {error}. Serve a model that reads such parts, and play it with openai:MODEL.",
                kind="policy_refused",
                delivery="not_sent",
            ) from None
        functions = escape_surrogates(function_specs(tools, "parameters"))
        text: str = self._tokenizer.apply_chat_template(
            history,
            tools=[{"type": "function", "function": function} for function in functions] or None,
            add_generation_prompt=True,
            tokenize=False,
            **self._template_options,
        )
        return text

    async def _compute(self) -> None:
        """Answer the waiting prompts, batch by batch."""
        while self._waiting:
            generation = self._waiting[0][0]
            places = [place for place, waiting in enumerate(self._waiting) if waiting[0] == generation][: self.batch_size]
            taken = [self._waiting[place][1:] for place in places]
            for place in reversed(places):
                del self._waiting[place]
            batch = [(prompt, answer) for prompt, answer in taken if not answer.done()]
            if not batch:
                continue
            try:
                results = await asyncio.to_thread(self.generate, [prompt for prompt, _ in batch], generation)
            except Exception as error:  # the episodes of the batch get whatever the model raises
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), generated in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(generated)

    def generate(self, prompts: Sequence[Sequence[int]], generation: Generation | None = None) -> list[Generated]:
        """Return the model's answers to prompts of token ids, in order. `generation` None takes this policy's own."""
        torch, generation = self._torch, generation or self._generation
        configured = self._model.generation_config.eos_token_id
        ends = {*(configured if isinstance(configured, list) else [configured]), self._tokenizer.eos_token_id} - {None}
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else min(ends, default=0)
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=self._model.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self._model.device)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=generation.max_new_tokens,
                pad_token_id=pad,
                eos_token_id=sorted(ends) or None,
                return_dict_in_generate=True,
                output_scores=True,
                do_sample=bool(generation.sampling),
                **dict(generation.sampling),
            )
        sampled = output.sequences[:, longest:]
        logprobs = torch.stack([torch.log_softmax(scores.float(), -1) for scores in output.scores], 1)
        chosen = logprobs.gather(2, sampled.unsqueeze(2)).squeeze(2)
        answers = []
        for tokens, values in zip(sampled.tolist(), chosen.tolist(), strict=True):
            # The tokens after the end token are padding.
            stop = next((place + 1 for place, token in enumerate(tokens) if token in ends), None)
            answers.append(Generated(tuple(tokens[:stop]), tuple(values[:stop]), stop is not None))
        return answers


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _checked_options(value: Any) -> dict[str, Json]:
    """Check options of a chat template, and copy them."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f'chat_template_kwargs must be an object such as {{"enable_thinking": false}}, not {value!r}')
    if reserved := sorted(_OF_THE_CALL & value.keys()):
        raise ConfigurationError(
            f"chat_template_kwargs: {', '.join(reserved)} is not an option of a template; the policy sets it"
        )
    return dict(value)


def read_answer(text: str) -> list[Block]:
    """Split an answer into blocks: thoughts in `<think>`, calls in `<tool_call>` (the form of Qwen, Hermes and others), text.

    Texts stay as they are, without the line breaks that belong to the tags.

    A call with invalid JSON becomes a malformed call if its tool's name can be read, so that the environment answers it.
    Otherwise it stays text.

    Example:
        >>> [type(block).__name__ for block in read_answer("<think>Hm.</think>It is sunny.")]
        ['ReasoningItem', 'TextBlock']
    """
    blocks: list[Block] = []
    position = number = 0
    if thought := _THOUGHT.match(text):
        if thought["thought"].strip():
            blocks.append(ReasoningItem(thought["thought"]))
        position = thought.end()
    for match in _CALL.finditer(text, position):
        call = _call_of(match["call"].strip(), f"call_{number}")
        if call is not None:
            if (before := text[position : match.start()]).strip():
                blocks.append(TextBlock(before))
            blocks.append(call)
            position = match.end()
            number += 1
    if (rest := text[position:]).strip():
        blocks.append(TextBlock(rest))
    return blocks


def _call_of(text: str, call_id: str) -> ToolCall | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        name = re.search(r'"name"\s*:\s*"([^"]+)"', text)
        return None if name is None else ToolCall(name[1], None, call_id, text)
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return None
    arguments = data.get("arguments", data.get("parameters"))
    if arguments is None:
        return ToolCall(data["name"], {}, call_id)
    if isinstance(arguments, str):
        return ToolCall(data["name"], None, call_id, arguments)
    return ToolCall(data["name"], None, call_id, _verbatim(text, arguments))


def _verbatim(text: str, arguments: Json) -> str:
    """Return the arguments of a call as the model wrote them; `text` is the call."""
    # Each place is parsed to the end of its value, and values may be inside each other: a few places, or the time is quadratic.
    for match in itertools.islice(_ARGUMENTS.finditer(text), _MOST_PLACES):
        with contextlib.suppress(ValueError, RecursionError):
            value, end = json.JSONDecoder().raw_decode(text, match.end())
            if value == arguments:
                return text[match.end() : end]
    return json.dumps(arguments)
