"""Programs that record rollouts, written for the official client: run with it and with ours.

Each takes a client, of which it uses `rollout`, and the module with the classes of messages and facts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock
from google.genai import types as gdm
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText, ResponseReasoningItem

ARGUMENTS = '{"city": "Oslo"}'
ANSWERS = {"Oslo": "7 C", "Rome": "19 C"}


def own_messages(client: Any, m: Any) -> None:
    """A model of one's own, of which the reasoning is logged too."""
    rollout = client.rollout.create(
        run_name="custom-runs",
        rollout_name="episode-0",
        environment="GeneralReasoning/CTF",
        split="train",
        metadata={"model": "my-custom-model"},
        task_spec={"id": 1},
    )
    rollout.log(m.SystemMessage(content="Capture the flag."))
    rollout.log(m.UserMessage(content="Where is it?"))
    for turn, reward in enumerate((0.0, 0.0, 1.0)):
        call_id = f"call_{turn:03}"
        rollout.log(m.AssistantMessage(content="The answer is 42."))
        rollout.log(m.ReasoningItem(content="Let me think about this..."))
        rollout.log(m.ToolCall(name="submit_answer", content=json.dumps({"answer": turn}), call_id=call_id))
        rollout.log(
            m.ToolResult(content="Right." if reward else "Wrong.", call_id=call_id), reward=reward, is_finished=bool(reward)
        )
    client.rollout.close()


def chat_completions(client: Any, m: Any) -> None:
    """OpenAI's chat completions: the SDK's messages, written out as dictionaries."""
    rollout = client.rollout.create(run_name="chat-runs", rollout_name="episode-0", metadata={"seed": 3, "tags": [None, "a"]})
    prompt = {"role": "user", "content": "How warm is it in Oslo and in Rome?"}
    rollout.log_openai_completions(prompt)
    for number, city in enumerate(ANSWERS):
        call = {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
        }
        message = ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
        rollout.log_openai_completions(message.model_dump(exclude_none=True))
        rollout.log_openai_completions({"role": "tool", "tool_call_id": f"c{number}", "content": ANSWERS[city]}, reward=0.25)
    rollout.log_openai_completions({"role": "assistant", "content": "7 C and 19 C."}, reward=0.5, is_finished=True)
    client.rollout.close()


def responses(client: Any, m: Any) -> None:
    """OpenAI's responses: the items of an answer, one by one."""
    rollout = client.rollout.create("response-runs", "episode-0", split="test")
    rollout.log_openai_response({"role": "system", "content": "Be brief."})
    rollout.log_openai_response({"role": "user", "content": "How warm is it in Oslo?"})
    output: list[Any] = [
        ResponseReasoningItem(id="rs_1", summary=[], type="reasoning", encrypted_content="gAAA"),
        ResponseFunctionToolCall(arguments=ARGUMENTS, call_id="c1", name="get_weather", type="function_call", id="fc_1"),
    ]
    for item in output:
        rollout.log_openai_response(item)
    rollout.log_openai_response({"type": "function_call_output", "call_id": "c1", "output": "7 C"}, reward=0.5)
    text = [ResponseOutputText(text=part, type="output_text", annotations=[]) for part in ("It is ", "7 C.")]
    answer = ResponseOutputMessage(id="msg_1", content=list(text), role="assistant", status="completed", type="message")
    rollout.log_openai_response(answer, reward=0.5, is_finished=True, metadata={"checked": None, "by": "me"})
    client.rollout.close()


def anthropic(client: Any, m: Any) -> None:
    """Anthropic's messages, with thinking."""
    with client.rollout as api:
        rollout = api.create(run_name="claude-runs")
        rollout.log_anthropic_message({"role": "user", "content": "How warm is it in Oslo?"})
        content = [
            ThinkingBlock(signature="sig==", thinking="A city.", type="thinking"),
            TextBlock(text="I look.", type="text"),
            ToolUseBlock(id="t1", input={"city": "Oslo"}, name="get_weather", type="tool_use"),
        ]
        rollout.log_anthropic_message({"role": "assistant", "content": content})
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "7 C"}]}
        rollout.log_anthropic_message({"role": "user", "content": [result]}, reward=1.0, is_finished=True)


def gemini(client: Any, m: Any) -> None:
    """Gemini's contents."""
    rollout = client.rollout.create(run_name="gemini-runs", print_messages=False)
    rollout.log_gdm_message(gdm.Content(role="user", parts=[gdm.Part(text="How warm is it in Oslo?")]))
    call = gdm.FunctionCall(id="g1", name="get_weather", args={"city": "Oslo"})
    rollout.log_gdm_message(gdm.Content(role="model", parts=[gdm.Part(function_call=call)]))
    response = gdm.FunctionResponse(id="g1", name="get_weather", response={"result": "7 C"})
    rollout.log_gdm_message(gdm.Content(role="user", parts=[gdm.Part(function_response=response)]), reward=1.0, is_finished=True)
    client.rollout.close()


def facts(client: Any, m: Any) -> None:
    """A training run: facts about the run, about each step's rollouts, and about each rollout."""
    client.rollout.run_info = m.RunInfo("my-model", run_type="train", training_stage="rl", batch_size=4, lr=1e-5)
    for step in range(3):
        own = m.RunInfo("my-model", checkpoint=f"step-{step}") if step else None
        rollout = client.rollout.create("training", f"step-{step}", "GeneralReasoning/CTF", "hard", "train", run_info=own)
        rollout.log(m.UserMessage("Go"))
        info = m.RolloutInfo(
            task_index=step, current_step=step, temperature=0.7, top_p=0.9, max_tokens=64, duration_ms=1000 + step, harness="mine"
        )
        rollout.log(m.AssistantMessage("Done"), reward=float(step), is_finished=True, rollout_info=info)
    client.rollout.close()


def threads(client: Any, m: Any) -> None:
    """Rollouts of several threads at a time, which log after the end and are never closed by themselves."""
    api = client.rollout

    def play(number: int) -> None:
        rollout = api.create("threads", f"episode-{number}", task_spec={"id": number, "limits": [None, {"a": None}]})
        for step in range(20):
            rollout.log(m.UserMessage(f"{number}-{step}"), metadata={"step": step})
        rollout.log(m.ToolResult("right", "c1"), reward=1.0, is_finished=True)
        rollout.log(m.ToolResult("too late", "c2"))

    players = [threading.Thread(target=play, args=(number,)) for number in range(4)]
    for player in players:
        player.start()
    for player in players:
        player.join()
    api.close()


PROGRAMS: dict[str, Callable[[Any, Any], None]] = {
    program.__name__: program for program in (own_messages, chat_completions, responses, anthropic, gemini, facts, threads)
}
