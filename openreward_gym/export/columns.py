"""The columns of the formats in words, for the dataset card."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "messages": "the conversation, in order",
    "tools": "definitions of the tools that the model had; null without tools",
    "prompt": "the messages before the completion, or those of the task",
    "completion": "one message of the model",
    "chosen": "the better answer to the prompt",
    "rejected": "the worse answer to the prompt",
    "label": "true for a good completion",
    "environment": "name of the environment",
    "split": "the environment's word for the split of the task",
    "task_index": "number of the task in its split",
    "task_id": "id of the task",
    "task_spec": "the task as the environment defines it",
    "golden_answer": "the right answer",
    "input_ids": "token ids of the whole conversation",
    "labels": "labels of the record, and a reader's tags",
    "logprobs": "log-probabilities of the sampled tokens; null if not recorded",
    "parallel_tool_calls": "whether a message has several calls",
    "input": "the messages before the two answers, and the tools",
    "preferred_output": "the better answer to the input",
    "non_preferred_output": "the worse answer to the input",
    "kto_tag": "true for a good last answer",
    "chat_template_kwargs": "options of the chat template, which TRL passes to it",
    "context_differs": "true if a turn stands in another context than the one it was sampled in",
    "conversations": "the turns: from human, observation, gpt or function_call",
    "system": "the system message",
    "images": "the images, in the order in which the messages show them",
    "data_source": "name of the environment, by which verl chooses the reward function",
    "ability": "always agent",
    "reward_model": "input of the reward function",
    "extra_info": "split, index and id of the task, and its tools",
    "responses_create_params": "input and tools, as of OpenAI's Responses API",
    "response": "the model's output, as of OpenAI's Responses API",
    "agent_ref": "NeMo Gym's name of the agent",
    "rollout_id": "id of the rollout",
    "rejected_rollout_id": "id of the rollout of the worse answer",
    "reward": "sum of the rewards of the episode; null if the environment gave none",
    "final_reward": "the last reward that was not null",
    "rewards": "all rewards of the episode, in order",
    "step_rewards": "for each turn of the model, the rewards up to its next turn; null for none",
    "advantage": "the reward in comparison with the rollout's group",
    "score": "the environment's score of the rollout within its group",
    "group": "rollouts with the same group are compared",
    "model": "name of the model",
    "status": "state of the episode at its end",
    "stop_reason": "why the episode ended",
    "seed": "seed of the reset",
    "run": "name of the run",
    "rating": "a reader's rating, 1 (worst) to 5",
    "discard_reason": "why a trainer discarded the rollout; null if none did",
    "name": "the rollout's own name",
    "error": "words of a failure; null without one",
    "started_at": "start of the episode, ISO 8601 in UTC",
    "ended_at": "end of the episode, ISO 8601 in UTC",
    "sample": "number of the rollout in its group",
    "attempt": "0 for the first try",
    "step": "training step",
    "num_turns": "number of the model's turns",
    "num_tool_calls": "number of the model's calls",
    "tokens": "length of the conversation in tokens, as the provider counted",
    "record": "the whole record without its messages",
    "image_sha256": "SHA-256 of each image",
    "schema_version": "version of the Agent Trajectory Interchange Format",
    "session_id": "id of the rollout",
    "trajectory_id": "id of the trajectory",
    "agent": "name, version, model and tools of the agent",
    "steps": "the steps of the system, the user and the agent, with calls, observations and metrics",
    "notes": "remarks",
    "final_metrics": "token counts and cost of the whole trajectory",
    "continued_trajectory_ref": "file of the trajectory that this one continues",
    "subagent_trajectories": "trajectories of subagents",
    "extra": "further data: environment, task, reward and status",
}
"""Meaning of a column by its name."""

_OF_FORMAT: Mapping[tuple[str, str], str] = {
    ("tokens", "labels"): "token ids that are trained; -100 where there is no loss",
    **{(name, "tools"): "definitions of the tools as one JSON text" for name in ("sharegpt", "axolotl", "llama_factory_v1")},
    ("rollouts", "messages"): "the messages as they were recorded",
}
_TYPES: Mapping[str, str] = {
    "text": "string",
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "texts": "list of strings",
    "ids": "list of int32",
    "floats": "list of float64",
    "images": "list of images",
    "verl_messages": "list of {role, content}",
    "verl_turns": "list of {role, content}",
    "verl_reward": "{style, ground_truth}",
    "verl_extra": "{split, index, task_id, need_tools_kwargs, tools, task_spec}",
}
_AS_JSON: Mapping[str, str] = {"messages": "list of Json", "tools": "list of Json", "objects": "list of Json", "object": "Json"}
_AS_STRINGS: Mapping[str, str] = {
    "messages": "list of structs, arguments as JSON strings",
    "tools": "string of JSON",
    "objects": "list of strings of JSON",
    "object": "string of JSON",
}
_IN_LINES: Mapping[str, str] = {
    "messages": "list of objects",
    "tools": "list of objects",
    "objects": "list of objects",
    "object": "object",
    "images": "list of paths",
}


def meaning_of(format_name: str, column: str) -> str:
    """Return the meaning of a column; empty for a column of another distribution's format."""
    return _OF_FORMAT.get((format_name, column)) or MEANINGS.get(column, "")


def type_of(kind: str, file: str, compat: str) -> str:
    """Return the type of a column of a kind (see `openreward_gym.export.tables.Columns`) in words."""
    special = _IN_LINES if file == "jsonl" else _AS_JSON if compat == "json" else _AS_STRINGS
    return special.get(kind) or _TYPES.get(kind, kind)
