"""Meanings of the reasons against rollouts and rows, and the ways to get them all the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

FINDINGS: Mapping[str, str] = {
    "control_tokens": "rollouts in which a tool or user wrote a control token: drop or escape them with control_tokens=...",
    "hidden_reasoning": "rollouts with reasoning that the provider keeps hidden: it cannot be trained on",
    "answer_without_call": "rollouts with an answer of the environment to a plain message: it is a user message",
    "untrained_turn": "rollouts with a turn of the model that is context without a loss (it ended otherwise, is empty or has a "
    "negative weight)",
    "reasoning_left_out": "rollouts with reasoning that is not written: the format has no field for it, or reasoning=False",
    "other_weight": "rollouts with a trained turn of a weight other than 0 and 1: the format trains it like any other",
    "call_ids_renamed": "rollouts whose calls have new ids: OpenAI takes 40 characters, some templates nine letters and digits",
    "turns_joined": "rollouts in which messages of system, user or tools became one: the format alternates",
    "prompt_ends_otherwise": "prompts that end with a tool's result or a system message",
    "reasoning_moved": "rollouts with reasoning after the text or a call of its turn: chat messages have it first",
    "tool_image_moved": "rollouts with an image from a tool: it follows in a user message",
    "parallel_calls_split": "rollouts whose parallel calls were split into messages of one call each "
    "(parallel_calls='split', or the "
    "template renders no more)",
    "context_changes": "rollouts in more than one row: the template renders earlier turns differently later",
    "system_merged": "rollouts whose system message was merged into the first user message (system='merge', or the "
    "template takes none)",
    "context_differs": "rollouts with a turn in another context than the template gives a sampler (its rows say so in the column "
    "context_differs): a thought that the record lacks, or other chat_template_kwargs=...",
    "template_options_unwritten": "rollouts sampled with chat_template_kwargs that their rows lack: TRL's formats "
    "name them, with "
    "tokenizer=... or chat_template_kwargs=..., and compat='json'",
    "sampled_tokens_used": "rollouts whose recorded token ids were used",
    "sampled_tokens_partly": "rollouts with recorded token ids for some turns only: the others were rendered, and the "
    "log-probabilities of their tokens are NaN",
    "sampled_tokens_unused": "rollouts with recorded token ids that do not belong to this tokenizer, or that have images",
    "scrubbed": "rollouts with personal data that was replaced (scrub=...)",
    "unfinished_line": "files of the run whose last line has no end and is not read: it is being written, or its writer died",
    "other_split": "rollouts of a split that is neither train, validation nor test: split_by='NAME=train' puts them elsewhere",
}
"""Remarks on rollouts that exclude nothing."""

DAMAGED = "the record cannot be read"
"""The reason against a damaged line."""

RECORD_FINDINGS = frozenset({"hidden_reasoning", "scrubbed", "other_split"})
"""The remarks that are true of rows which hold the record itself and not a conversation made of it."""

HINTS: Mapping[str, str] = {
    # Selection
    r"status ": 'Select(status="any") takes all, status=["completed", "truncated"] those too',
    r"refused by": "the function `where` returned False for them",
    r"no reward": "the environment gave none, or it is NaN; formats that do not compare rewards (sft, tokens, prompts) take them "
    "if no range of rewards is set",
    r"reward (below|above) ": "Select(min_reward=..., max_reward=...) sets the range, and reward=... which reward counts",
    r"other training step": "Select(steps=(first, last)) sets the range",
    r"other tools": "the two rollouts of a pair had different tools: the model did not choose in the same situation",
    r"other ": "Select(environments=..., splits=..., models=..., runs=..., tasks=..., groups=...) names what is taken",
    r"discarded": "a collection or a trainer discarded them; Select(discarded=True), the default, takes them",
    r"label (missing|unwanted)": "Select(labels=..., without_labels=...) names the labels; the viewer writes labels",
    r"no rating|rating (below|above) ": "Select(min_rating=..., max_rating=...) sets the range; readers rate in the viewer",
    r"(fewer|more) than .* turns": "Select(min_turns=..., max_turns=...) sets the range",
    r"tokens not observed": "the provider reported no usage: max_length=... counts with a tokenizer instead",
    r"more than .* tokens": "Select(max_tokens=...) sets the limit",
    r"duplicate": "a better or earlier rollout with an equal or near conversation is taken; dedupe=None takes all",
    r"its prompt overlaps": "the prompt shares 13 words with a text of decontaminate=...: without that text they are taken",
    r"another rollout has the same id": "the same rollout is in several paths or lines: it would count twice",
    r"not (the best of|in the top)": "a better rollout of the group is taken; Select(best_of=None, top_k=None) takes all",
    r"another of its group was drawn": "Select(one_per_group=False) takes all",
    r"balanced by label": "balance_labels=False takes all",
    r"balanced by": "Select(balance=None) takes all",
    r"beyond the first": "Select(limit=None) takes all",
    DAMAGED: "file, line and field are named apart: mend the line, or leave it out",
    r"its values do not fit": "a field holds what no writer of records puts there: the format rollouts takes it",
    r".* is an integer of more than 64 bits": "a table does not take it; the format rollouts keeps it",
    # Conversations
    r"a call's arguments are not": 'malformed_calls="keep" writes them as the text that the model wrote',
    r"a call names no tool": "a template cannot write a call without a name; the format rollouts takes them",
    r"a call in the middle has no result": "templates refuse a call without a result; the format rollouts takes them",
    r"the .* side is ": 'endings=["stop", "tool_calls", ...] takes further ends; an empty turn or one of weight 0 '
    "is no answer to compare",
    r"a turn ended by ": 'endings=["stop", "tool_calls", ...] names the ends that are trained, "any" all',
    r"a turn whose weight": "weights=... or the record's own weight has to be 0 or more; the format rollouts takes them",
    r"a turn without anything": "an empty answer is no target; the format rollouts takes them",
    r"it is not known which turns": "assume_sampled=True takes the assistant's messages for the model's",
    r"a tool result answers no call": "templates refuse it; the formats rollouts and nemo_gym take them",
    r"text after a call of the same turn": "the order would change; the formats rollouts and nemo_gym keep it",
    r"a part that chat messages do not have": "it would be lost, or become words nobody said; the format rollouts takes them",
    r"an image whose bytes are missing": "the model saw it, a trainer would not; the format rollouts takes them",
    r"the model took no turn": "nothing to train: prompts takes the prompt, rollouts the record",
    r"an assistant message has an image": "no trainer has a loss on images; the format rollouts takes them",
    r"a tool or user wrote a control token": 'control_tokens="escape" breaks the tokens, "flag" only counts them',
    r"several calls in one message": 'parallel_calls="split" makes pairs of call and result, "keep" leaves them together',
    # Rows
    r"sampled with other chat_template_kwargs": "a pair has one prompt: chat_template_kwargs=... renders both sides alike",
    r"(longer|shorter) than .* tokens": "min_length=... and max_length=... set the limits, counted with the tokenizer",
    r"an assistant message that is not to be trained": "its trainer trains it; prompt_completion, tokens and axolotl mark it",
    r"the model speaks first|there is no prompt": "a completion needs a prompt; sft takes whole conversations",
    r"it has images: the template": "a vision model's tokenizer shows them; sft keeps them in a column",
    r"it has images: lines": "sft keeps them in a column",
    r"it has images": "write() makes the files that the rows name; to_dataset() has no folder for them",
    r"the template refuses": "another model's template may take them; sft without a tokenizer does",
    r"the template ends a turn without": "another model's template has an end; sft without a tokenizer takes them",
    r"the template (loses|puts|does not show|writes|shows)": "it is not what the model said; sft without a tokenizer takes them",
    r"a number that a Json column": 'compat="string" and the format tokens write it exactly',
    r"another rollout of its task": "one row per task is made, of its first rollout with a prompt; rollouts has all",
    r"its prompt is empty or ends": "online trainers need a question; the format rollouts takes them",
    r"a call has a key twice": "an object keeps one of them; formats with arguments as text keep both",
    r"a call, a result or reasoning in its prompt": "verl's prompts are plain messages; prompts takes them",
    r"it has tools: verl": "verl's reader fills structs with nulls; tokens, sft and axolotl have tools",
    r".*OpenAI refuses": "OpenAI sets the limit; sft, tokens and axolotl have none",
    r"several messages on a side": "whole_trajectories=False makes pairs of one message each",
    r"the .* side has a turn": "whole_trajectories=False compares one message; preference trains every message of a side",
    r"<tool_call> in a text": "LLaMA-Factory would read the call there; sft, openai and axolotl take them",
    r"its turns do not alternate": "LLaMA-Factory skips such lines; sft, openai and axolotl take them",
    r"a text contains": "the reader would put an image there; sft has images in a column",
    r"it has no messages": "there is nothing to write; the format rollouts takes them",
    # Pairs and labels
    r"alone in its group": "a pair needs two rollouts of a task or group that are not left out themselves; sft and kto need one",
    r"its group has one reward only": "a pair needs a better and a worse rollout; sft, kto and prompts take them",
    r"its group has no reward": "pairs compare rewards; sft and prompts take rollouts without",
    r"no row came of it": "the reasons of its rows say why",
    r"the same pair again": "an equal pair is there already",
    r"more than .* pairs per group": "max_pairs=None takes all pairs",
    r"a rollout without a reward": "the environment gave none, or it is NaN: pairs compare rewards; sft takes rollouts without",
    r"rewards closer than": "min_gap=0 takes all pairs of different rewards",
    r"one says no more than the other": "the conversations are equal up to the end of the shorter one",
    r"the first difference is not": "the histories differ before the model does: the pair would compare environments",
    r"the chosen side has a malformed call": "it would be trained as it is; sft with malformed_calls='keep' writes it",
    r"the rejected side has a malformed call": "malformed_calls='keep', or a tokenizer whose template renders it, writes it",
    r"an image after the first difference": "trainers of pairs take images in the prompt only",
    r"lengths differ": "length_ratio=None takes all pairs",
    r"the history has a malformed call": "a trainer would render it as a prompt; prompt_completion with "
    "malformed_calls='keep' writes it",
    r"a good answer with a malformed call": "it would be trained as it is; sft with malformed_calls='keep' writes it",
    r"a bad answer with a malformed call": "malformed_calls='keep', or a tokenizer whose template renders it, writes it",
    r"a malformed call: LLaMA-Factory": "openai and axolotl write it as text, with malformed_calls='keep'",
}
"""For the beginning of a reason (a regular expression), what it means and how to get these rows."""

_PATTERNS = tuple((re.compile(pattern), hint) for pattern, hint in HINTS.items())


def hint_of(reason: str) -> str:
    """Return how to get what a reason leaves out; empty for a reason of another distribution's format.

    >>> hint_of("beyond the first 100")
    'Select(limit=None) takes all'
    """
    return next((hint for pattern, hint in _PATTERNS if pattern.match(reason)), "")
