"""Play one task with your own model and record it, message by message.

    OPENREWARD_API_KEY=... python examples/record_rollout_generic.py

This is the program of OpenReward's documentation, with another first import. It records into runs/custom-ctf-rollouts and, if
OPENREWARD_API_KEY is set, on the platform.
"""

# mypy: disable-error-code="union-attr,arg-type"
# (the documentation's program is not written for a type checker)

import json

from openreward_gym.compat import (
    AssistantMessage,
    OpenReward,
    ToolCall,
    ToolResult,
    UserMessage,
)

or_client = OpenReward()

environment = or_client.environments.get(name="GeneralReasoning/CTF")
tasks = environment.list_tasks(split="train")
example_task = tasks[0]

# Create a rollout to record this episode
rollout = or_client.rollout.create(
    run_name="custom-ctf-rollouts",
    rollout_name="episode-0",
    environment="GeneralReasoning/CTF",
    split="train",
    metadata={"model": "my-custom-model"},
    task_spec=example_task.task_spec,
)

with environment.session(task=example_task) as session:
    prompt = session.get_prompt()
    finished = False

    # Log the user prompt
    rollout.log(UserMessage(content=prompt[0].text))

    while not finished:
        # --- Replace this section with your model's inference ---
        model_response = "The answer is 42."
        # --------------------------------------------------------

        # Log the assistant response
        rollout.log(AssistantMessage(content=model_response))

        # If your model produces reasoning/thinking, log it:
        # rollout.log(ReasoningItem(content="Let me think about this..."))

        # If your model makes a tool call, log the call and result:
        tool_name = "submit_answer"
        tool_args = {"answer": model_response}
        call_id = "call_001"

        rollout.log(ToolCall(name=tool_name, content=json.dumps(tool_args), call_id=call_id))

        tool_result = session.call_tool(tool_name, tool_args)

        rollout.log(
            ToolResult(content=tool_result.blocks[0].text, call_id=call_id),
            reward=tool_result.reward,
            is_finished=tool_result.finished,
        )

        finished = tool_result.finished

# Flush all pending events
or_client.rollout.close()
print("Rollout recorded successfully!")
