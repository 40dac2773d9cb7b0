"""Chat messages for TRL and trainers that read its formats: sft, prompt_completion, prompts, preference, kto.

TRL's DPOTrainer and KTOTrainer have a loss on all of a completion, tool results included, so that a completion is one assistant
message.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym import jsonio
from openreward_gym.export.conversation import PROBLEMS, ChatMessage, Conversation, images_in, with_text_arguments
from openreward_gym.export.formats.base import Context, Format, LeftOut, OnePerTask
from openreward_gym.export.formats.tokens import Splitters, matches_tokenizer
from openreward_gym.export.options import Turns
from openreward_gym.export.reader import sampled_of
from openreward_gym.export.select import Facts, partition
from openreward_gym.export.tables import Columns, Row
from openreward_gym.export.template import template_options_of

OTHER_ASSISTANT = "an assistant message that is not to be trained (take prompt_completion, tokens or axolotl)"

_OTHER_PROMPT = "the first difference is not in the model's turns"


class _Templated(Format):
    """A format whose rows a trainer renders with a chat template.

    With a tokenizer, rows that its template refuses are left out. With a tokenizer or the option, the rows have a column
    `chat_template_kwargs`, from which TRL takes the template's options; with a tokenizer a column `context_differs`, too.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        # Trainers that read lines have templates of their own.
        template = context.template if self.file == "parquet" else None
        with_options = template is not None or self.options.chat_template_kwargs is not None
        # TRL takes a mapping, which a table of strings does not have.
        self._writes_options = with_options and self.file == "parquet" and self.options.compat == "json"
        self._splitters = Splitters(template) if template is not None else None

    def all_columns(self) -> Columns:
        columns = dict(super().all_columns())
        if self._writes_options:
            columns["chat_template_kwargs"] = "object"
        if self._splitters is not None:
            columns["context_differs"] = "bool"
        return columns

    def row(self, conversation: Conversation, **values: Any) -> Row:
        """Return a row of `values` and the columns that all rows have."""
        row = super().row(conversation, **values)
        options = template_options_of(conversation.record, self.options.chat_template_kwargs)
        if self._writes_options:
            row["chat_template_kwargs"] = options
        elif options:
            conversation.findings.add("template_options_unwritten")
        if self._splitters is not None:
            row.setdefault("context_differs", False)
            if row["context_differs"]:
                conversation.findings.add("context_differs")
        return row

    def check(self, conversation: Conversation, messages: list[ChatMessage], turns: list[int]) -> Row:
        """Return the column `context_differs` of a row of messages, of which those at the positions `turns` are trained.

        Raises:
            LeftOut: The template refuses the messages as the row has them.
        """
        if self._splitters is None:
            return {}
        splitter = self._splitters.of(template_options_of(conversation.record, self.options.chat_template_kwargs))
        written = list(map(with_text_arguments, messages)) if self.options.compat == "string" else messages
        reason = splitter.template.refusal(written, conversation.tools)
        if reason is not None:
            raise LeftOut(reason)
        records, sources = conversation.record.get("messages") or (), conversation.sources
        differs = not splitter.keeps_contexts(messages, turns, conversation.tools)
        for turn in turns if not differs and not conversation.images else ():
            report = sampled_of(records[sources[turn]]) if 0 <= sources[turn] < len(records) else {}
            prompt = report.get("prompt_token_ids")
            if prompt and report.get("token_ids") and matches_tokenizer(records[sources[turn]], splitter.template):
                context = splitter.context(messages, conversation.tools, turn)
                differs |= list(prompt) != splitter.template.encode([context])[0]
        return {"context_differs": differs}


class Sft(_Templated):
    """One row per rollout: `messages` and `tools`.

    TRL trains every assistant message of a row. A rollout whose prompt has one, or that has one of weight 0, is left out.
    """

    name = "sft"
    about = "whole conversations for supervised fine-tuning (TRL's SFTTrainer with assistant_only_loss=True)"

    def columns(self) -> Columns:
        return {"messages": "messages", "tools": "tools"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        if conversation.has_other_assistant:
            raise LeftOut(conversation.untrained_reason() or OTHER_ASSISTANT)
        checked = self.check(conversation, conversation.messages, conversation.turns)
        messages = self.cells(conversation.messages, conversation.tools, conversation.argument_texts)
        yield self.row(conversation, messages=messages, tools=conversation.tools, **checked)


class _Completions(_Templated):
    """A format of rows with a history and one message of the model."""

    _last: tuple[Conversation, list[Any]] | None = None

    def completion_row(self, conversation: Conversation, turn: int, **values: Any) -> Row:
        """Return the row of the message at the position `turn`, with `values` in addition.

        Raises:
            LeftOut: The format cannot take it.
        """
        if self._last is None or self._last[0] is not conversation:
            cells = self.cells(conversation.messages, conversation.tools, conversation.argument_texts)
            self._last = conversation, cells
        cells = self._last[1]
        return self.row(
            conversation,
            **self.check(conversation, conversation.messages[: turn + 1], [turn]),
            prompt=cells[:turn],
            completion=cells[turn : turn + 1],
            tools=conversation.tools,
            images=conversation.images[: images_in(conversation.messages[:turn])],
            **values,
        )

    def completion_rows(self, conversation: Conversation, turns: Iterable[int], **values: Any) -> Iterator[Row]:
        """Yield the rows of the messages at the positions `turns`, and count those that the format cannot take.

        Raises:
            LeftOut: It can take none of them.
        """
        refusal: LeftOut | None = None
        written = 0
        for turn in turns:
            try:
                row = self.completion_row(conversation, turn, **values)
            except LeftOut as reason:
                refusal = reason
                self.context.report.dropped_rows[str(reason)] += 1
                continue
            written += 1
            yield row
        if refusal is not None and not written:
            raise refusal


def completion_positions(candidates: Iterable[int], turns: Turns) -> list[int]:
    """Return those positions of completions that have a prompt: all, or the last."""
    positions = sorted(position for position in candidates if position > 0)
    if not positions:
        raise LeftOut("the model speaks first: there is no prompt")
    return positions if turns == "all" else positions[-1:]


class PromptCompletion(_Completions):
    """One row per turn of the model: its history and its one message. No tool result is ever in a completion."""

    name = "prompt_completion"
    about = "one assistant message per row, after its history (TRL's SFTTrainer; the loss is on the completion)"

    def columns(self) -> Columns:
        return {"prompt": "messages", "completion": "messages", "tools": "tools"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        self.context.report.dropped_rows.update(conversation.untrained.values())
        yield from self.completion_rows(conversation, completion_positions(conversation.turns, self.options.turns or "all"))


class Prompts(OnePerTask):
    """One row per task: the prompt of its episodes, for trainers that play the episodes themselves."""

    name = "prompts"
    about = "one prompt per task, for online training (TRL's GRPOTrainer)"

    def columns(self) -> Columns:
        columns = {"prompt": "messages", "tools": "tools", "environment": "text", "split": "text"}
        columns.update(task_index="int", task_id="text")
        if self.options.answers:
            columns.update(task_spec="object", golden_answer="object")
        return columns

    def task_row(self, conversation: Conversation, prompt: list[ChatMessage]) -> Row:
        record = conversation.record
        if self.context.template is not None:
            template = self.context.template.with_options(template_options_of(record, self.options.chat_template_kwargs))
            reason = template.refusal(prompt, conversation.tools, generation=True)
            if reason is not None:
                raise LeftOut(reason)
        environment, task = record.get("environment") or {}, record.get("task") or {}
        return self.row(
            conversation,
            prompt=self.cells(prompt, conversation.tools, conversation.argument_texts),
            tools=conversation.tools,
            environment=environment.get("name", ""),
            split=environment.get("split"),
            task_index=task.get("index"),
            task_id=task.get("id", ""),
            task_spec=task.get("spec"),
            # A JSON column is for objects: a bare text that looks like a number would be read as one.
            golden_answer={"answer": task["golden_answer"]} if "golden_answer" in task else None,
            images=conversation.images[: images_in(prompt)],
        )


@dataclass(slots=True)
class _Side:
    """One rollout of a pair, with call ids that are equal over rollouts."""

    conversation: Conversation
    messages: list[ChatMessage]
    argument_texts: dict[str, str]
    keys: list[bytes]
    turns: set[int]
    rejectable: set[int]
    reward: float


@dataclass(slots=True)
class Pair:
    """Two completions of the same prompt.

    Attributes:
        better, worse: The conversations that they are from.
        prompt: The messages before the first difference.
        chosen, rejected: The messages after it.
        texts: The arguments of calls as the model wrote them, by call id: in `prompt` and `chosen`, and in `rejected`.
        context: The column `context_differs`, if there is a tokenizer.
    """

    better: Conversation
    worse: Conversation
    prompt: list[ChatMessage]
    chosen: list[ChatMessage]
    rejected: list[ChatMessage]
    texts: tuple[dict[str, str], dict[str, str]]
    context: Row

    @property
    def images(self) -> list[bytes]:
        """The prompt's images."""
        return self.better.images[: images_in(self.prompt)]


class Preference(_Templated):
    """Pairs within a group: the same history byte for byte, then the first message of the model that differs."""

    name = "preference"
    about = "pairs of one assistant message after the same history, the better one chosen (TRL's DPOTrainer)"
    statuses = ("completed", "truncated")
    tolerates = frozenset({"malformed_call", "no_model_turn"})
    compares_rollouts = True

    def columns(self) -> Columns:
        return {"prompt": "messages", "chosen": "messages", "rejected": "messages", "tools": "tools"}

    def all_columns(self) -> Columns:
        return {**super().all_columns(), "rejected_rollout_id": "text"}

    def units(self, facts: Sequence[Facts]) -> Iterable[list[int]]:
        return ([fact.number for fact in group] for group in partition(facts, "group"))

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        if len(conversations) < 2:
            raise LeftOut("alone in its group")
        sides = [side for conversation in conversations if (side := self._side(conversation)) is not None]
        rewards = {side.reward for side in sides}
        if len(rewards) < 2:
            raise LeftOut("its group has one reward only" if rewards else "its group has no reward")
        pairs = [(better, worse) for better, worse in itertools.permutations(sides, 2) if better.reward > worse.reward]
        # The largest difference first; ties in a random order that is the same each time.
        random.Random(f"{self.options.seed} {conversations[0].record['id']}").shuffle(pairs)
        pairs.sort(key=lambda pair: pair[1].reward - pair[0].reward)
        written: set[bytes] = set()
        for better, worse in pairs:
            try:
                pair = self._pair(better, worse)
                row = self.pair_row(pair)
            except LeftOut as reason:
                self.context.report.dropped_rows[str(reason)] += 1
                continue
            digest = hashlib.blake2b(repr([pair.prompt, pair.chosen, pair.rejected]).encode()).digest()
            if digest in written:
                self.context.report.dropped_rows["the same pair again"] += 1
            elif self.options.max_pairs is not None and len(written) >= self.options.max_pairs:
                self.context.report.dropped_rows[f"more than {self.options.max_pairs} pairs per group"] += 1
            else:
                written.add(digest)
                yield row

    def _side(self, conversation: Conversation) -> _Side | None:
        reward = self.context.reward_of(conversation)
        if reward is None or math.isnan(reward):
            self.context.report.dropped_rows["a rollout without a reward"] += 1
            return None
        template = self.context.template
        nine_letters = template is not None and template.nine_letter_ids
        messages, texts = with_equal_ids(conversation, "{:06d}{:03d}" if nine_letters else "call_{}_{}")
        keys = [jsonio.dumps(_with_text_content(message)) for message in messages]
        return _Side(conversation, messages, texts, keys, set(conversation.turns), conversation.rejectable_turns, reward)

    def pair_row(self, pair: Pair) -> Row:
        """Return the row of a pair.

        Raises:
            LeftOut: The format cannot take the pair.
        """
        tools = pair.better.tools
        of_better, of_worse = pair.texts
        return self.row(
            pair.better,
            prompt=self.cells(pair.prompt, tools, of_better),
            chosen=self.cells(pair.chosen, tools, of_better),
            rejected=self.cells(pair.rejected, tools, of_worse),
            tools=tools,
            rejected_rollout_id=pair.worse.record["id"],
            images=pair.images,
            **pair.context,
        )

    def _pair(self, better: _Side, worse: _Side) -> Pair:
        """Return the pair, or raise LeftOut with the reason against it."""
        tools = better.conversation.tools
        if better.reward - worse.reward < self.options.min_gap:
            raise LeftOut(f"rewards closer than {self.options.min_gap:g}")
        if tools != worse.conversation.tools:
            raise LeftOut("other tools")
        at = next((n for n, (a, b) in enumerate(zip(better.keys, worse.keys, strict=False)) if a != b), None)
        if at is None:
            raise LeftOut("one says no more than the other")
        prompt = better.messages[:at]
        images = better.conversation.images[: images_in(prompt)]
        if images != worse.conversation.images[: len(images)]:
            raise LeftOut(_OTHER_PROMPT)
        _check_turns(better, worse, at)
        if at == 0:
            raise LeftOut("there is no prompt")
        chosen, rejected = better.messages[at : at + 1], worse.messages[at : at + 1]
        if self.options.whole_trajectories and better.turns:
            chosen = better.messages[at : max(better.turns) + 1]
            rejected = worse.messages[at : max(worse.rejectable) + 1]
            for side, messages, allowed in ((better, chosen, better.turns), (worse, rejected, worse.rejectable)):
                turns = [at + n for n, message in enumerate(messages) if message["role"] == "assistant"]
                if not allowed.issuperset(turns):
                    raise LeftOut(f"the {'chosen' if side is better else 'rejected'} side has a turn that is not to be trained")
        if is_malformed(prompt):
            raise LeftOut("the history has a malformed call")
        if is_malformed(chosen):
            raise LeftOut("the chosen side has a malformed call")
        if is_malformed(rejected) and not _renders(self.context, prompt, rejected, tools):
            raise LeftOut("the rejected side has a malformed call (malformed_calls='keep' writes it as text)")
        if at not in better.turns:
            raise LeftOut(f"the chosen side is {better.conversation.reason_against_turn(at)}")
        if images_in(chosen) or images_in(rejected):
            raise LeftOut("an image after the first difference")
        options = [template_options_of(s.conversation.record, self.options.chat_template_kwargs) for s in (better, worse)]
        if options[0] != options[1]:
            raise LeftOut("sampled with other chat_template_kwargs")
        checks = [self.check(side.conversation, side.messages[: at + 1], [at]) for side in (better, worse)]
        ratio = self.options.length_ratio
        shorter, longer = sorted(len(jsonio.dumps(side).decode()) for side in (chosen, rejected))
        if ratio is not None and longer > ratio * shorter:
            raise LeftOut(f"lengths differ by more than a factor of {ratio:g}")
        texts = better.argument_texts, worse.argument_texts
        context = {"context_differs": any(check["context_differs"] for check in checks)} if checks[0] else {}
        return Pair(better.conversation, worse.conversation, prompt, chosen, rejected, texts, context)


def _with_text_content(message: ChatMessage) -> ChatMessage:
    """Return a message whose content is a text if it is one: users' texts are parts where a later message has an image."""
    content = message["content"]
    if isinstance(content, list) and len(content) == 1 and content[0]["type"] == "text":
        return {**message, "content": content[0]["text"]}
    return message


def _check_turns(better: _Side, worse: _Side, at: int) -> None:
    """Raise LeftOut unless the message at `at` is a turn of the model on both sides, of which the worse one may end badly."""
    reasons = [
        (name, side.conversation.reason_against_turn(at))
        for name, side in (("chosen", better), ("rejected", worse))
        if at not in side.rejectable
    ]
    if any(reason is None for _, reason in reasons):
        raise LeftOut(_OTHER_PROMPT)
    for name, reason in reasons:
        raise LeftOut(f"the {name} side is {reason}")


class Kto(_Completions):
    """One completion per row with a `label`, True for a good one. Neighbouring rows come from different groups."""

    name = "kto"
    about = "one assistant message per row with a label, good or bad (TRL's KTOTrainer)"
    statuses = ("completed", "truncated")
    tolerates = frozenset({"malformed_call", "no_model_turn"})
    compares_rollouts = True

    _threshold: float = math.inf

    def columns(self) -> Columns:
        return {"prompt": "messages", "completion": "messages", "label": "bool", "tools": "tools"}

    def units(self, facts: Sequence[Facts]) -> Iterator[list[int]]:
        rewarded = [fact for fact in facts if fact.reward is not None and not math.isnan(fact.reward)]
        for _ in range(len(facts) - len(rewarded)):
            self.context.report.exclude("no reward")
        finite = [fact.reward for fact in rewarded if fact.reward is not None and math.isfinite(fact.reward)]
        if self.options.good_reward is not None:
            self._threshold = self.options.good_reward
        else:
            low, high = min(finite, default=0.0), max(finite, default=0.0)
            # If all rewards are equal, any reward above 0 is good.
            self._threshold = low + (high - low) / 2 if high > low else min(math.nextafter(0.0, 1.0), abs(low) or 1.0)
        rng = random.Random(self.options.seed)
        good = [fact for fact in rewarded if self._is_good(fact.reward) and fact.trainable]
        bad = [fact for fact in rewarded if not self._is_good(fact.reward) and fact.rejectable]
        # They make no row, so that they do not count as examples; each has its reason.
        rowless = [fact for fact in rewarded if not (fact.trainable if self._is_good(fact.reward) else fact.rejectable)]
        if self.options.balance_labels and good and bad:
            smaller = min(len(good), len(bad))
            for _ in range(len(good) + len(bad) - 2 * smaller):
                self.context.report.exclude("balanced by label")
            good, bad = rng.sample(good, smaller), rng.sample(bad, smaller)
        for fact in (*interleaved([*good, *bad], rng), *rowless):
            yield [fact.number]

    def _is_good(self, reward: float | None) -> bool:
        return reward is not None and float(reward) >= self._threshold

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        good = self._is_good(self.context.reward_of(conversation))
        candidates = conversation.turns if good else conversation.rejectable_turns
        if not candidates:
            raise LeftOut(conversation.untrained_reason() or PROBLEMS["no_model_turn"])
        turns = []
        for turn in completion_positions(candidates, self.options.turns or "last"):
            reason = self._reason_against(conversation, turn, good)
            if reason is None:
                turns.append(turn)
            else:
                self.context.report.dropped_rows[reason] += 1
        yield from self.completion_rows(conversation, turns, label=good)

    def _reason_against(self, conversation: Conversation, turn: int, good: bool) -> str | None:
        """Return the reason against a row with a malformed call; None for a row that may be written."""
        prompt, completion = conversation.messages[:turn], [conversation.messages[turn]]
        if is_malformed(prompt):
            return "the history has a malformed call"
        if not is_malformed(completion) or (not good and _renders(self.context, prompt, completion, conversation.tools)):
            return None
        return "a good answer with a malformed call" if good else "a bad answer with a malformed call"


def with_equal_ids(conversation: Conversation, form: str = "call_{}_{}") -> tuple[list[ChatMessage], dict[str, str]]:
    """Return messages and `argument_texts` with call ids by position, so that equal conversations are equal byte for byte.

    `form` makes an id of the number of the assistant's message and the number of the call in it.
    """
    ids: dict[str, str] = {}
    renamed = []
    turn = -1
    for message in conversation.messages:
        turn += message["role"] == "assistant"
        if "tool_calls" in message:
            ids.update((call["id"], form.format(turn, number)) for number, call in enumerate(message["tool_calls"]))
            message = {**message, "tool_calls": [{**call, "id": ids[call["id"]]} for call in message["tool_calls"]]}
        elif "tool_call_id" in message:
            message = {**message, "tool_call_id": ids.get(message["tool_call_id"], message["tool_call_id"])}
        renamed.append(message)
    return renamed, {ids[call_id]: text for call_id, text in conversation.argument_texts.items() if call_id in ids}


def is_malformed(messages: Iterable[ChatMessage]) -> bool:
    """Return True if the arguments of a call are not an object."""
    return any(
        not isinstance(call["function"]["arguments"], dict) for message in messages for call in message.get("tool_calls", ())
    )


def _renders(context: Context, prompt: list[ChatMessage], completion: list[ChatMessage], tools: Any) -> bool:
    """Return True if a completion with a malformed call may be written: by an option, or because the template renders it."""
    if context.options.malformed_calls == "keep":
        return True
    return context.template is not None and context.template.renders([*prompt, *completion], tools)


def interleaved(facts: Sequence[Facts], rng: random.Random) -> Iterator[Facts]:
    """Yield in a random order in which neighbours are of different groups, as far as the groups' sizes allow."""
    groups = partition(rng.sample(list(facts), len(facts)), "group")
    # The group with the most rollouts left comes next, unless it came last.
    heap = [(-len(group), rng.random(), number) for number, group in enumerate(groups)]
    heapq.heapify(heap)
    last: tuple[int, float, int] | None = None
    while heap:
        left, _, number = heapq.heappop(heap)
        yield groups[number].pop()
        if last is not None:
            heapq.heappush(heap, last)
        last = (left + 1, rng.random(), number) if left < -1 else None
    if last is not None:
        # No other group has rollouts left.
        yield from groups[last[2]]
