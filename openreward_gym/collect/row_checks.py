"""Checks of the rows of a run before anything is played: parameters, questions that are no task, and tools."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from openreward_gym.chat.plain import shown
from openreward_gym.collect.inventory import TaskChoice
from openreward_gym.collect.rows import InputRow, no_such_tools
from openreward_gym.envs.clients import open_episode
from openreward_gym.errors import AuthenticationError, ConfigurationError, OpenRewardGymError, ServerError
from openreward_gym.jsonio import dumps
from openreward_gym.options import RunOptions
from openreward_gym.policies.parameters import with_parameters
from openreward_gym.policies.policy import EpisodicPolicy, Policy
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.types import Task, ToolSet

MOST_TRIED = 32
"""Largest number of rows that are no task of a split for which a session is opened before the collection begins."""
_MOST_SHOWN = 3
# Options of policies, and the parameters of a row in whose place they are played.
_FIELDS = {
    **{name: name for name in ("temperature", "top_p", "top_logprobs", "tool_choice", "parallel_tool_calls", "reasoning")},
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "max_new_tokens", "max_output_tokens"), "max_output_tokens"),
}


async def check_rows(
    choices: Sequence[TaskChoice], remote: RemoteEnvironment, policy: Policy | EpisodicPolicy, options: RunOptions
) -> None:
    """Check that the rows among the tasks of a run can be played.

    For the first rows that are no task of a split, and for a row with a tool that not all sessions share, a session is opened and
    closed again. Nothing is played in it.

    Raises:
        ConfigurationError: A row has a parameter that the policy cannot follow, or a tool that the environment does not have, or
            is no task: neither of the split, nor one that the environment takes as its own. The message has its line.
        OpenRewardGymError: The server cannot be asked.
    """
    with_rows = [(choice, choice.row) for choice in choices if choice.row is not None]
    if not with_rows:
        return
    try:
        if options.row_parameters == "use":
            _check_parameters([row for _, row in with_rows], policy)
        await _check_new_tasks([(choice, row) for choice, row in with_rows if _is_new(choice, row)], remote, options)
        shared = await remote.tools()
        for choice, row in with_rows:
            if row.unknown_tools(shared):
                tools = await _opened_tools(choice, remote, options)
                if unknown := row.unknown_tools(tools):
                    raise no_such_tools(row, unknown, remote.name, tools)
                break  # tools differ from task to task: the player compares those of the other rows
    except ConfigurationError as error:
        error.args = (f"{options.input}, {error}",)
        raise


def notes_on_rows(choices: Sequence[TaskChoice], options: RunOptions) -> list[str]:
    """Return what is played otherwise than a reader of the rows may think: with an option's value, without a system prompt."""
    rows = [choice.row for choice in choices if choice.row is not None]
    notes = []
    for name, value in (options.policy_options or {}).items() if options.row_parameters == "use" else ():
        field = _FIELDS.get(name, name)
        asked = [row.parameters.get(field) for row in rows]
        other = sum(theirs is not None and theirs != value for theirs in asked)
        if field in _FIELDS.values() and other:
            notes.append(f"{name}={shown(value)} of the command is played instead of the {field} of {_rows(other)}")
    bare = sum(bool(m := row.messages()) and all(message.role != "system" for message in m) for row in rows)
    if bare and options.row_prompt == "replace":
        notes.append(
            f"{_rows(bare)} {'has' if bare == 1 else 'have'} no system message: --row-prompt precede adds the environment's"
        )
    return notes


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _check_parameters(rows: Sequence[InputRow], policy: Policy | EpisodicPolicy) -> None:
    """Refuse a row with a parameter that the policy cannot follow. Rows mostly have the same parameters."""
    checked: set[bytes] = set()
    for row in rows:
        key = dumps(row.parameters)
        if key in checked:
            continue
        try:
            with_parameters(policy, row.parameters)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{row.describe()}: {error}. Take it out of the row, or play the rows without their parameters: "
                "row_parameters='ignore' (--row-parameters ignore)."
            ) from None
        checked.add(key)


def _is_new(choice: TaskChoice, row: InputRow) -> bool:
    """Return True for a row that has become a task of its own, because no task has its question."""
    return choice.index is None and "task_spec" not in row.fields and row.line > 0


async def _check_new_tasks(new: Sequence[tuple[TaskChoice, InputRow]], remote: RemoteEnvironment, options: RunOptions) -> None:
    """Refuse rows that the environment does not take as tasks of their own. An outage is raised as it is."""
    opening = asyncio.Semaphore(options.opening)

    async def problem(choice: TaskChoice) -> OpenRewardGymError | None:
        async with opening:
            try:
                await _opened_tools(choice, remote, options)
            except (ServerError, ConfigurationError) as error:
                if isinstance(error, AuthenticationError) or getattr(error, "status", 500) in (429, 502, 503, 504):
                    raise
                return error
        return None

    problems = await asyncio.gather(*(problem(choice) for choice, _ in new[:MOST_TRIED]))
    refused = [(choice, row, error) for (choice, row), error in zip(new, problems, strict=False) if error is not None]
    if not refused:
        return
    first, _, error = refused[0]
    lines = ", ".join(row.describe() for _, row, _ in refused[:_MOST_SHOWN])
    more = f" and {len(refused) - _MOST_SHOWN} more" if len(refused) > _MOST_SHOWN else ""
    words = getattr(error, "detail", "") or str(error)
    raise ConfigurationError(
        f"{lines}{more}: no task of {remote.name!r} in split {first.split!r} has this question, and the environment does not "
        f"take the row as a task of its own: {words}. Write the question as the task has it, or name the task in the row, "
        'such as "task_index": 0.'
    )


async def _opened_tools(choice: TaskChoice, remote: RemoteEnvironment, options: RunOptions) -> ToolSet:
    """Open a session of a task, close it, and return its tools."""
    session, episode = await open_episode(remote, Task(choice.split, choice.index, choice.spec), options.env, None)
    await session.close()
    return episode.tools
