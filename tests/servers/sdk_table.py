"""What the compatibility layer has of each public name of the official client, as a page of the documentation."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sdk_shape import MODULES, differences, shape_of

PASSED = "passed through"
SAME = "same"
ABSENT = "absent"

LATER = frozenset(
    {
        *("GroupCandidate", "GroupScore", "Message", "MessageBlock", "ReasoningBlock", "ResponseChars", "SandboxEgressRule"),
        *("SandboxNetworkPolicy", "ScoreGroupFailed", "ScoreGroupUnsupported", "TaskDifficulty", "TerminalToolSpec"),
        *("ToolCallBlock", "ToolResultBlock", "convert_messages", "parse_terminal_tool", "hf_model_rules", "judging", "tools"),
    }
)
"""Names that came after 0.1.131, the oldest version that is compared. All names of that version are in the newest."""

REASONS: Mapping[str, str] = {
    "api.environments.client.matrix_sid_provider": "opens the session of a request by hand; every request here has one",
    "api.environments.client.AsyncSession.client": "the session of aiohttp, which is not used here",
    "models.FlushEvent": "a message of the uploader's thread",
    "models.ShutdownEvent": "a message of the uploader's thread",
    "models.LogMessageEvent": "what the uploader sends",
    "models.RolloutStartedEvent": "what the uploader sends",
    "models.RolloutUpdateEvent": "what the uploader sends",
}
"""Names and members that are absent, and why."""

MADE: Mapping[str, str] = {"Rollout": "made by `rollout.create`, whose parameters are the same"}
"""Classes that a program does not make itself, so that their constructors differ."""

PAGE = """# The official SDK's names

`openreward_gym.compat` has the client API of OpenReward's SDK (`openreward`). This table is made from the installed SDK: each
public class and function of its client side, compared by name, order, kind and default of every parameter, and by every field of
a dataclass. [Coming from the OpenReward SDK](how-to/coming-from-the-openreward-sdk.md) says how to use it.

- **same**: it is here with the same parameters and fields. What it has beside them is named.
- **passed through**: it is the SDK's own object, imported from the SDK at its first use.
- **absent**: with the reason.

The tests compare version 0.1.131 in the same way. Its names are all among these; some of its classes have fewer methods.

"""


def compared(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, passed: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Return the status of each name of theirs, and what there is to say about it; an unexplained difference as its status."""
    statuses: dict[str, tuple[str, str]] = {}
    for name, shape in theirs.items():
        if name in passed:
            statuses[name] = (PASSED, "")
        elif name in ours:
            found = [one for one in differences(shape, ours[name]) if f"{name}.{one.removeprefix('no ')}" not in _known(name)]
            found = [one for one in found if name not in MADE or not one.startswith("__init__")]
            without = [
                f"without `{member}`: {reason}" for member, reason in _members_without(name).items() if member in str(shape)
            ]
            notes = [MADE.get(name, ""), *without, "" if name in MADE else _more(shape, ours[name])]
            statuses[name] = ("; ".join(found), "") if found else (SAME, "; ".join(filter(None, notes)))
        else:
            statuses[name] = (ABSENT, REASONS[name]) if name in REASONS else ("missing", "")
    return statuses


def _known(name: str) -> set[str]:
    # A class is reachable by several modules; members are listed once.
    return {f"{name}.{member}" for member in _members_without(name)}


def _members_without(name: str) -> dict[str, str]:
    cls = name.rpartition(".")[2]
    listed = ((place.split(".")[-2:], reason) for place, reason in REASONS.items())
    return {member: reason for (owner, member), reason in listed if owner == cls}


def _more(theirs: Any, ours: Any) -> str:
    members = ours.get("members", {})
    more = [
        f"`{parameter[0]}`"
        for name, member in members.items()
        for parameter in member.get("parameters", ())
        if parameter not in theirs.get("members", {}).get(name, {}).get("parameters", [parameter])
    ]
    return f"also takes {', '.join(dict.fromkeys(more))}" if more else ""


def passed_names() -> frozenset[str]:
    """Return the names of the SDK's own objects."""
    return frozenset(importlib.import_module("openreward_gym.compat").PASSED_THROUGH)


def page() -> str:
    """Return docs/compatibility-sdk.md."""
    statuses = compared(shape_of("openreward"), shape_of("openreward_gym.compat"), passed=passed_names())
    text = PAGE
    for module in MODULES:
        rows = {name: status for name, status in statuses.items() if name.rpartition(".")[0] == module}
        if rows:
            title = f"openreward.{module}" if module else "openreward"
            text += f"## `{title}`\n\n| name | in 0.1.131 | here | |\n|---|---|---|---|\n"
            for name, (status, note) in rows.items():
                short = name.rpartition(".")[2]
                text += f"| `{short}` | {'no' if short in LATER else 'yes'} | {status} | {note} |\n"
            text += "\n"
    return text.rstrip() + "\n"
