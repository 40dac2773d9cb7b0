"""Evaluations of the tests' environments with Inspect's mock model. Run by test_inspect_task.py in a process of its own.

`python inspect_evaluations.py URL FOLDER` writes FOLDER/NAME/logs and FOLDER/NAME/run for each evaluation, and prints the
schemas of the tools that the model was given in each, as JSON.
"""

from __future__ import annotations

import json
import sys
import uuid
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from inspect_ai import eval, task_with
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput, ModelUsage, StopReason, get_model
from inspect_ai.tool import ToolCall, ToolInfo

from openreward_gym.integrations import inspect

Turn: TypeAlias = "ModelOutput | Exception"
Script: TypeAlias = "Sequence[Turn] | Callable[[str], Sequence[Turn]]"

BROKEN = 'Error parsing the following tool call arguments:\n\n{"text": \n\nError details: Expecting value'


def said(text: str = "", *calls: ToolCall, ended: StopReason | None = None) -> ModelOutput:
    """Return a model's output, with usage, so that Inspect loads no tokenizer to count."""
    message = ChatMessageAssistant(content=text, tool_calls=list(calls) or None, model="mock", source="generate")
    choice = ChatCompletionChoice(message=message, stop_reason=ended or ("tool_calls" if calls else "stop"))
    usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)
    return ModelOutput(model="mock", choices=[choice], usage=usage)


def call(name: str, call_id: str = "c", error: str | None = None, /, **arguments: Any) -> ToolCall:
    return ToolCall(call_id, name, arguments, parse_error=error)


RIGHT = said("", call("finish", text="right"))

# Per evaluation: the environment, the turns of the model (or a function from the text of the prompt to them), and options.
EVALUATIONS: dict[str, tuple[str, Script, dict[str, Any]]] = {
    "plain": (
        "echo",
        [
            said("I look.", call("echo", "a", text="hé"), call("image", "b")),
            said("", call("echo", "c", BROKEN)),
            said("", call("nowhere", "d")),
            said("", call("finish", "e", text="right"), call("echo", "f", text="late")),
        ],
        {"epochs": 2},
    ),
    "terminal": ("dialogue", lambda prompt: [said("0" if "0" in prompt else "9")], {}),
    "cut_off": ("echo", [said("", call("echo", text="x"), ended="max_tokens"), said("Half a", ended="max_tokens"), RIGHT], {}),
    "filtered": ("echo", [said("", call("echo", text="x")), said("No.", ended="content_filter")], {}),
    "overflow": ("echo", [said("", call("echo", text="x")), said("", ended="model_length")], {}),
    "unrewarded": ("echo", [said("I do not know.")], {}),
    "message_limit": ("echo", [said("", call("echo", text="x"))] * 9, {"message_limit": 6}),
    "token_limit": ("echo", [said("", call("echo", text="x"))] * 9, {"token_limit": 25}),
    "time_limit": ("echo", [said("", call("echo", text="x")), said("", call("slow", seconds=60))], {"time_limit": 1}),
    "max_steps": ("echo", [said("", call("echo", text="x"))] * 9, {"max_steps": 2}),
    "tool_fails": (
        "echo",
        lambda prompt: [said("", call("fail", text="no disk")) if '"number": 1' in prompt else RIGHT],
        {"fail_on_error": False, "score_on_error": True, "retry_on_error": 1},
    ),
    "model_fails": ("echo", [said("", call("echo", text="x")), ValueError("no answer")], {"score_on_error": True}),
    "empty": ("echo", [said("", call("echo", text="x")), said("")], {}),
    "broken": ("broken", [said("Hello")], {}),
}


class Model:
    """Plays a script per sample: the turn to say is the number of turns in the conversation."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.tools: dict[str, Any] = {}

    async def __call__(self, messages: list[Any], tools: list[ToolInfo], choice: Any, config: Any) -> ModelOutput:
        self.tools |= {tool.name: tool.parameters.model_dump(exclude_none=True) for tool in tools}
        script = self._script if isinstance(self._script, Sequence) else self._script(messages[-1].text)
        turn = script[sum(message.role == "assistant" for message in messages)]
        if isinstance(turn, Exception):
            raise turn
        turn = turn.model_copy(deep=True)
        turn.message.id = uuid.uuid4().hex  # Inspect joins a message with its model call by the id
        return turn


def main(url: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    shown = {}
    for name, (environment, script, options) in EVALUATIONS.items():
        own = {"max_steps": options.pop("max_steps", None)}
        output = folder / name / "run"
        task = inspect.task(environment, base_url=url, split="test", output=output, open_attempts=1, **own)
        model = Model(script)
        task = task_with(task, model=get_model("mockllm/model", custom_outputs=model))
        eval(task, log_dir=str(folder / name / "logs"), display="none", **{"fail_on_error": False, **options})
        shown[name] = model.tools
    print(json.dumps(shown))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
